"""The model of `teacher=local_model`, which writes in this process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from caft.distill.local import name_model
from caft.models.encoding import encode_prompt
from caft.models.sampling import Sampling
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from caft.models.thinking_span import ends_open
from caft.protocols import CausalLM, Tokenizer, Written
from caft.records import WrittenReply
from caft.run_config import RunConfig
from caft.store import Tokens
from caft.teachers.config import LocalModelTeacherConfig
from caft.text.prompts import Prompt
from caft.text.thinking import drop_thinking, find_thinking

if TYPE_CHECKING:
    from caft.models.reply_rules import ReplyRules


class LocalTeacher:
    """Loaded when the first reply is due.

    Where it `thinks`, a reply begins with what it thought, between <think> tags whatever its own
    marks are. `tokens` are those of all that it was asked for; replies of the ledger are not among
    them.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config, self.tokens = config, Tokens()

    @property
    def _teacher(self) -> LocalModelTeacherConfig:
        assert isinstance(self.config.teacher, LocalModelTeacherConfig)
        return self.config.teacher

    @cached_property
    def student(self) -> Student:
        """The teacher as a model without tuning."""
        from caft.trainers.devices import pick_device

        named = name_model(self._teacher)
        return Student(named, locate_model(named), pick_device(self.config.trainer))

    @cached_property
    def _model(self) -> CausalLM:
        model: CausalLM = self.student.load_for_inference()
        return model

    @cached_property
    def _rows(self) -> int:
        """So many replies are written at once."""
        return self._teacher.batch_size

    def generate(
        self,
        prompts: Sequence[Prompt],
        names: Sequence[str],
        sampling: Sampling,
        attempt: int,
        *,
        thinks: bool,
    ) -> Sequence[Written]:
        """Replies to chat prompts, by our own generator."""
        from caft.trainers.replies import ReplyModule, ReplyName

        asked = self.encode(prompts, thinks)
        named = [ReplyName(name, attempt) for name in names]
        writer = ReplyModule(self._model, self.student.tokenizer, self.rules(sampling), self._rows)
        written = {
            reply.question_id: reply for reply in writer.write(dict(zip(named, asked, strict=True)))
        }
        # Fewer from here on, where memory did not hold as many.
        self._rows = writer.rows
        return self.finish(asked, [written[name] for name in names], thinks)

    def encode(self, prompts: Sequence[Prompt], thinks: bool) -> list[tuple[int, ...]]:
        """The prompts' tokens, which ask for a thinking span where it `thinks`."""
        tokenizer = self.student.tokenizer
        return [encode_prompt(prompt, tokenizer, thinking=thinks) for prompt in prompts]

    def rules(self, sampling: Sampling) -> ReplyRules:
        """When its replies end."""
        from caft.models.reply_rules import ReplyRules

        return ReplyRules(
            max_new_tokens=self._teacher.max_tokens,
            end_ids=self.student.end_ids(chat=True),
            stop_after_marker=False,
            sampling=sampling,
        )

    def finish(
        self,
        asked: Sequence[Sequence[int]],
        replies: Sequence[WrittenReply],
        thinks: bool,
    ) -> Sequence[Written]:
        """Count the tokens; the replies, with their spans between <think> tags if it `thinks`."""
        self.tokens = Tokens(
            read=self.tokens.read + sum(map(len, asked)),
            written=self.tokens.written + sum(reply.tokens for reply in replies),
        )
        if not thinks:
            return replies
        tokenizer, end_ids = self.student.tokenizer, self.student.end_ids(chat=True)
        return [
            reply._replace(text=tag_thinking(tokenizer, ids, reply.ids, end_ids))
            for ids, reply in zip(asked, replies, strict=True)
        ]


def tag_thinking(
    tokenizer: Tokenizer, asked: Sequence[int], written: Sequence[int], end_ids: Sequence[int]
) -> str:
    """The reply with its span between <think> tags; an open span stays open."""
    spoken = written[:-1] if written and written[-1] in end_ids else written
    # Special tokens are kept: they may be the marks.
    text, opened = tokenizer.decode(list(spoken)), ends_open(tokenizer, asked)
    thought, said = find_thinking(text, opened=opened), drop_thinking(text, opened=opened)
    if said is None:
        return f"<think>\n{thought or ''}"
    said = said.strip().removeprefix("<|message|>")
    return f"<think>\n{thought}\n</think>\n\n{said}" if thought else said
