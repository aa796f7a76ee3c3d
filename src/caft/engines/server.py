"""`engine=server`: a server of the OpenAI protocol, asked for completions of our prompts.

Servers differ in what they take. The first prompt is tried in every form, and the first form whose
tokens the server counts as we do is used: token ids, or the prompt's text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from caft.engines.config import ServerEngineConfig
from caft.engines.replies import CUT, assert_plain, read_ids, read_text, refuse_cut
from caft.errors import UserError
from caft.models.student import Student
from caft.models.thinking_span import ends_open
from caft.records import WrittenReply
from caft.signals import end_if_asked
from caft.teachers.address import same_place
from caft.teachers.served import ModelServer, RefusedError

if TYPE_CHECKING:
    from caft.models.reply_rules import ReplyRules

log = logging.getLogger(__name__)
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Form:
    """How a prompt is sent: as ids or text, with or without the server's own extensions.

    A server that puts a BOS before every text gets the text without it.
    """

    name: str
    as_ids: bool = False
    extended: bool = False
    adds_bos: bool = False


FORMS = (
    Form("token ids", as_ids=True, extended=True),
    Form("token ids, plain", as_ids=True),
    Form("text", extended=True),
    Form("text, plain"),
    Form("text, the server adds the BOS", adds_bos=True),
)


class ServerEngine:
    """A student's replies by a server."""

    def __init__(self, config: ServerEngineConfig, student: Student) -> None:
        self.config, self.student = config, student
        self._form: Form | None = None

    @property
    def model(self) -> str:
        """The student's name at the server."""
        if self.student.tuned_fingerprint is None:
            return self.config.model or ""
        return self.config.tuned_model or name_tuned(self.student.tuned_fingerprint)

    @property
    def key(self) -> Mapping[str, object]:
        """The server's address and the model's name there; its version is told by the server."""
        return {
            "engine": "server",
            "base_url": same_place(self.config.base_url or ""),
            "model": self.model,
        }

    @cached_property
    def version(self) -> str | None:
        """What the server says of itself."""
        return self._server.find_version()

    @cached_property
    def _server(self) -> ModelServer:
        return ModelServer(self.config.address)

    def close(self) -> None:
        """Close the connections."""
        if "_server" in vars(self):
            self._server.close()
            del self._server

    def check(self, prompt: Sequence[int], most_tokens: int = 0) -> None:  # noqa: ARG002
        """UserError if the server has no such model, or reads `prompt` as other tokens."""
        if self._form is not None:
            return
        served = self._server.list_models()
        if self.model not in served:
            raise UserError(self._explain_missing(served))
        self._refuse_other_tokens(prompt)
        self._form = self._find_form(prompt)
        log.info("%s at %s takes prompts as %s", self.model, self.config.base_url, self._form.name)

    def write(
        self, prompts: Mapping[str, tuple[int, ...]], rules: ReplyRules
    ) -> Iterator[WrittenReply]:
        """Replies as they end, `concurrency` of them at the same time."""
        assert_plain(rules)
        if not prompts:
            return
        self.check(next(iter(prompts.values())))
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            under_way = [
                pool.submit(self._reply, name, ids, rules) for name, ids in prompts.items()
            ]
            try:
                for done in as_completed(under_way):
                    yield done.result()
                    end_if_asked()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _reply(self, name: str, ids: tuple[int, ...], rules: ReplyRules) -> WrittenReply:
        assert self._form is not None
        try:
            found = self._complete(self._form, ids, rules.max_new_tokens, rules.end_ids)
        except RefusedError as error:
            raise UserError(
                f"question {name}: the server at {self.config.base_url} gives no reply "
                f"({error}); check its log and context length, or use engine=own"
            ) from error
        opened = bool(rules.thinking) and ends_open(self.student.tokenizer, ids)
        reply = self._read(name, found, rules, opened=opened)
        written = _count(found, "completion")
        told = reply.ids if written is None else written < rules.max_new_tokens
        if told and _first_choice(found).get("finish_reason") in CUT:
            refuse_cut(
                reply,
                self.student.tokenizer,
                rules,
                opened=opened,
                engine=f"the server at {self.config.base_url}",
                remedy="let it have a longer context",
            )
        return reply

    def _read(
        self, name: str, found: Mapping[str, object], rules: ReplyRules, *, opened: bool
    ) -> WrittenReply:
        choice, tokenizer = _first_choice(found), self.student.tokenizer
        text, written = choice.get("text"), choice.get("token_ids")
        if isinstance(written, list) and written:
            return read_ids(name, tokenizer, written, rules, opened=opened)
        if not isinstance(text, str):
            raise UserError(
                f"question {name}: the server at {self.config.base_url} sent no text; "
                "engine=server needs one that answers /v1/completions"
            )
        tokens = _count(found, "completion")
        return read_text(name, tokenizer, text, tokens, rules, opened=opened)

    def _complete(
        self, form: Form, ids: Sequence[int], tokens: int, end_ids: Sequence[int] = ()
    ) -> Mapping[str, object]:
        prompt = list(ids) if form.as_ids else self._text_of(ids[form.adds_bos :])
        extra: dict[str, object] = {}
        if form.extended:
            extra = {"stop_token_ids": list(end_ids), "add_special_tokens": False}
            extra["return_token_ids"] = True
        return self._server.complete(self.model, prompt, tokens, **extra)

    def _text_of(self, ids: Sequence[int]) -> str:
        """The prompt as text; UserError if its tokens cannot be had from it."""
        tokenizer = self.student.tokenizer
        text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        if tokenizer(text, add_special_tokens=False, verbose=False).input_ids != list(ids):
            raise UserError(
                f"the server at {self.config.base_url} takes no token ids, and this tokenizer "
                "cannot write a prompt's tokens as text; use vLLM, SGLang or llama.cpp as the "
                "server, or engine=own"
            )
        return text

    def _find_form(self, prompt: Sequence[int]) -> Form:
        counted, refused = set[int](), ""
        for form in FORMS:
            if form.adds_bos and prompt[0] != self.student.tokenizer.bos_token_id:
                continue
            try:
                count = _count(self._complete(form, prompt, 1), "prompt")
            except RefusedError as error:
                refused = str(error)
                continue
            if count is None or count == len(prompt):
                return form
            counted.add(count)
        if counted:
            raise self._other_tokenizer(f"reads {max(counted)} tokens", f"{len(prompt)}")
        raise UserError(
            f"the server at {self.config.base_url} completes no prompt of {self.model} "
            f"({refused}); engine=server needs one that answers /v1/completions, such as vLLM, "
            "SGLang, llama.cpp or transformers serve"
        )

    def _refuse_other_tokens(self, prompt: Sequence[int]) -> None:
        """UserError if the server's own tokenizer, where it shows it, makes other tokens."""
        tokenizer = self.student.tokenizer
        text = tokenizer.decode(prompt, clean_up_tokenization_spaces=False)
        ours = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        theirs = self._server.tokenize(self.model, text)
        if theirs is not None and theirs != ours:
            raise self._other_tokenizer(f"makes the tokens {_show(theirs)}", _show(ours))
        if theirs is None:
            self._refuse_other_count(text, len(ours))

    def _refuse_other_count(self, text: str, ours: int) -> None:
        """A server that takes ids counts those, whatever its tokenizer is; of a text it cannot."""
        counts = []
        for extra in ({"add_special_tokens": False}, {}):
            try:
                found = self._server.complete(self.model, text, 1, **extra)
            except RefusedError:
                continue
            counts.append(_count(found, "prompt"))
        # It may put a BOS in front, or an EOS behind.
        if counts and all(count is not None and not 0 <= count - ours <= 2 for count in counts):
            raise self._other_tokenizer(f"reads {counts[0]} tokens", str(ours))

    def _other_tokenizer(self, theirs: str, ours: str) -> UserError:
        return UserError(
            f"the server at {self.config.base_url} has another tokenizer for {self.model} than "
            f"{self.student.base['id']}: it {theirs} where ours makes {ours}; serve the model that "
            "the run is about, with its own tokenizer files"
        )

    def _explain_missing(self, served: Sequence[str]) -> str:
        names = ", ".join(served[:_NAMED]) + (", ..." if len(served) > _NAMED else "")
        has = f"the server at {self.config.base_url} has no {self.model!r} (it has: {names or '-'})"
        if self.student.tuned_fingerprint is None:
            return f"{has}; serve the base model, and set engine.model to its name there"
        return (
            f"{has}; serve this run's tuned weights under that name, which until=tune wrote to "
            f"adapter/ (and merged/, with tuning.merge=true) of its folder, as with: vllm serve "
            f"{self.student.base['id']} --enable-lora --lora-modules {self.model}=FOLDER/adapter"
        )


def name_tuned(fingerprint: str) -> str:
    """The name under which a server is to have tuned weights: it says which weights they are."""
    return f"caft-{fingerprint[:12]}"


def _first_choice(found: Mapping[str, object]) -> Mapping[str, object]:
    choices = found.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else {}


def _count(found: Mapping[str, object], what: str) -> int | None:
    usage = found.get("usage")
    count = usage.get(f"{what}_tokens") if isinstance(usage, Mapping) else None
    return count if isinstance(count, int) else None


def _show(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:_NAMED])) + (", ..." if len(ids) > _NAMED else "")
