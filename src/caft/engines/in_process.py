"""`engine=vllm` and `engine=sglang`: engines in this process, through their documented classes.

An engine knows no marker that closes: it stops at the text that could close one. Where none is
closed, as in a matrix or a quoted line, it goes on from there; greedy replies do not change by it.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from caft.engines.config import VLLM_RANKS, InProcessEngineConfig
from caft.engines.replies import CUT, assert_plain, find_end, read_ids, refuse_cut
from caft.errors import UserError, first_line
from caft.kernels.memory import release_memory, return_device_memory
from caft.models.adapters import is_adapter, read_rank
from caft.models.student import Student
from caft.models.thinking_span import ends_open
from caft.program import install_hint
from caft.records import WrittenReply
from caft.signals import end_if_asked

if TYPE_CHECKING:
    from caft.models.reply_rules import ReplyRules

_AT_ONCE = 1024
"""Prompts that an engine is given together; what a kill may cost."""
_CONTEXT = {"vllm": "max_model_len", "sglang": "context_length"}
"""The argument of an engine's class that bounds a prompt with its reply."""


class Piece(NamedTuple):
    """Tokens that an engine wrote, and why it wrote no more.

    `may_go_on` if it stopped at a text. A `reason` of its own is "length" or "abort".
    """

    ids: Sequence[int]
    may_go_on: bool
    reason: str


class InProcessEngine(ABC):
    """A student's replies by an engine of this process."""

    package: ClassVar[str]

    def __init__(self, config: InProcessEngineConfig, student: Student) -> None:
        self.config, self.student = config, student
        self._started: Any = None

    @property
    def key(self) -> Mapping[str, object]:
        """The engine's version, and all arguments that are the user's own."""
        return key_of(self.config)

    @property
    def version(self) -> str | None:
        """That of the installed package."""
        return find_version(self.config.kind)

    def check(self, prompt: Sequence[int], most_tokens: int = 0) -> None:  # noqa: ARG002
        """UserError if it is not installed, has no CUDA device, or is set to less context."""
        setting = _CONTEXT[self.config.kind]
        context = self.config.extra.get(setting)
        if isinstance(context, int) and 0 < context < most_tokens:
            raise UserError(
                f"engine.extra.{setting} is {context}, and the longest prompt with the longest "
                f"reply has {most_tokens} tokens; raise it, or lower max_new_tokens"
            )
        check_installed(self.config.kind)

    def close(self) -> None:
        """Give the device's memory back."""
        if self._started is not None:
            self._stop()
            self._started = None
            release_memory()

    def write(
        self, prompts: Mapping[str, tuple[int, ...]], rules: ReplyRules
    ) -> Iterator[WrittenReply]:
        """Replies, some hundreds at once."""
        assert_plain(rules)
        left = iter(prompts.items())
        while chunk := dict(islice(left, _AT_ONCE)):
            if self._started is None:
                self._started = self._start_or_explain()
            yield from self._write_together(chunk, rules)

    def _write_together(
        self, prompts: Mapping[str, tuple[int, ...]], rules: ReplyRules
    ) -> Iterator[WrittenReply]:
        tokenizer = self.student.tokenizer
        written: dict[str, list[int]] = {name: [] for name in prompts}
        opened = {name: ends_open(tokenizer, ids) for name, ids in prompts.items()}
        cut: list[WrittenReply] = []
        while written:
            end_if_asked()
            names = list(written)
            pieces = self._complete_or_explain(
                [[*prompts[name], *written[name]] for name in names],
                [rules.max_new_tokens - len(written[name]) for name in names],
                rules,
            )
            for name, piece in zip(names, pieces, strict=True):
                written[name] += piece.ids
                ids, open_now = written[name], opened[name]
                ended = find_end(tokenizer, ids, rules, opened=open_now).tokens is not None
                if ended or not piece.may_go_on or not piece.ids:
                    reply = read_ids(name, tokenizer, written.pop(name), rules, opened=open_now)
                    if ended or piece.reason not in CUT:
                        yield reply
                    else:
                        cut.append(reply)
        for reply in cut:  # when the others are kept
            refuse_cut(
                reply,
                tokenizer,
                rules,
                opened=opened[reply.question_id],
                engine=f"engine={self.config.kind}",
                remedy=f"raise engine.extra.{_CONTEXT[self.config.kind]}",
            )

    def _complete_or_explain(
        self, prompts: list[list[int]], limits: list[int], rules: ReplyRules
    ) -> list[Piece]:
        try:
            return self._complete(prompts, limits, rules)
        except ValueError as error:  # of a prompt, an adapter or a setting
            kind, told = self.config.kind, first_line(error)[:300]
            # So both speak of a prompt beyond the context.
            room = f"raise engine.extra.{_CONTEXT[kind]}, or " if "length" in told else ""
            raise UserError(f"engine={kind} cannot write ({told}); {room}use engine=own") from error

    def _start_or_explain(self) -> object:
        # An engine takes its share of what is free for all processes.
        release_memory()
        return_device_memory()
        try:
            return self._start(importlib.import_module(self.package))
        except Exception as error:  # an engine raises whatever the libraries below it raise
            raise UserError(
                f"engine={self.config.kind} cannot load {self.student.base['id']} "
                f"({first_line(error)[:300]}); set engine.memory_share or engine.extra, or use "
                "engine=own"
            ) from error

    @property
    def _adapter(self) -> str | None:
        """The folder of the student's adapter, if it has one."""
        tuned = self.student.tuned
        return str(tuned) if tuned is not None and is_adapter(tuned) else None

    @property
    def _weights(self) -> str:
        """The folder of the whole weights."""
        tuned = self.student.tuned
        return str(self.student.folder if tuned is None or self._adapter else tuned)

    @abstractmethod
    def _start(self, package: Any) -> object:
        """Load the model."""

    @abstractmethod
    def _stop(self) -> None:
        """End what `_start` began."""

    @abstractmethod
    def _complete(
        self, prompts: list[list[int]], limits: list[int], rules: ReplyRules
    ) -> list[Piece]:
        """The next tokens of every prompt, at most its limit."""


class VllmEngine(InProcessEngine):
    """`vllm.LLM`; an adapter goes in as a LoRA request."""

    package = "vllm"

    def _start(self, package: Any) -> object:
        lora: dict[str, object] = {}
        if self._adapter:
            rank = read_rank(Path(self._adapter)) or 0
            allowed = next((each for each in VLLM_RANKS if each >= rank), rank)
            lora = {"enable_lora": True, "max_lora_rank": allowed, "max_loras": 1}
        return package.LLM(
            model=self._weights,
            tokenizer=str(self.student.folder),
            dtype=self.student.dtype,
            trust_remote_code=self.student.config.trust_remote_code,
            gpu_memory_utilization=self.config.memory_share,
            **lora,
            **{
                "enable_prefix_caching": True,
                # Ours say how replies are written, not those of the model's folder.
                "generation_config": "vllm",
                **self.config.extra,
            },
        )

    def _stop(self) -> None:
        """The class ends its processes when nothing refers to it."""

    def _complete(
        self, prompts: list[list[int]], limits: list[int], rules: ReplyRules
    ) -> list[Piece]:
        vllm = importlib.import_module(self.package)
        lora = None
        if self._adapter:
            request = importlib.import_module("vllm.lora.request").LoRARequest
            lora = request("tuned", 1, self._adapter)
        outputs = self._started.generate(
            [{"prompt_token_ids": ids} for ids in prompts],
            [
                vllm.SamplingParams(
                    temperature=0.0,
                    max_tokens=limit,
                    stop_token_ids=list(rules.end_ids),
                    stop=stop_texts(rules),
                    include_stop_str_in_output=True,
                )
                for limit in limits
            ],
            lora_request=lora,
            use_tqdm=False,
        )
        # It stopped at a text where it names one; at a token it names that, or nothing.
        return [
            Piece(
                list(first.token_ids), isinstance(first.stop_reason, str), first.finish_reason or ""
            )
            for first in (output.outputs[0] for output in outputs)
        ]


class SglangEngine(InProcessEngine):
    """`sglang.Engine`; an adapter goes in by its path."""

    package = "sglang"

    def _start(self, package: Any) -> object:
        lora = {"lora_paths": {"tuned": self._adapter}} if self._adapter else {}
        return package.Engine(
            model_path=self._weights,
            tokenizer_path=str(self.student.folder),
            dtype=self.student.dtype,
            trust_remote_code=self.student.config.trust_remote_code,
            mem_fraction_static=self.config.memory_share,
            **lora,
            **self.config.extra,
        )

    def _stop(self) -> None:
        self._started.shutdown()

    def _complete(
        self, prompts: list[list[int]], limits: list[int], rules: ReplyRules
    ) -> list[Piece]:
        chosen = {"lora_path": ["tuned"] * len(prompts)} if self._adapter else {}
        outputs = self._started.generate(
            input_ids=prompts,
            sampling_params=[
                {
                    "temperature": 0.0,
                    "max_new_tokens": limit,
                    "stop_token_ids": list(rules.end_ids),
                    "stop": stop_texts(rules),
                    "no_stop_trim": True,
                }
                for limit in limits
            ],
            **chosen,
        )
        return [_read_piece(output["output_ids"], output["meta_info"]) for output in outputs]


def stop_texts(rules: ReplyRules) -> list[str]:
    """Texts at which a reply may be over."""
    marker = ["]]"] if rules.stop_after_marker else []
    return marker + (["\n", "\r"] if rules.stop_after_line else [])


def check_installed(kind: str) -> None:
    """UserError, with the command that helps, if an engine's package or CUDA is missing."""
    if find_spec(kind) is None:
        raise UserError(
            f"engine={kind} needs the package {kind}, which is not installed; install it with: "
            f"{install_hint(kind)}, or use engine=own"
        )
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            f"engine={kind} needs CUDA, and torch finds no such device here; use engine=own, or "
            "engine=server with a server elsewhere"
        )


def key_of(config: InProcessEngineConfig) -> dict[str, object]:
    """What replies depend on besides the model."""
    return {"engine": config.kind, "version": find_version(config.kind), "extra": config.extra}


def find_version(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read_piece(ids: Sequence[int], meta: Mapping[str, Any]) -> Piece:
    reason = meta.get("finish_reason")
    told = reason if isinstance(reason, Mapping) else {}
    return Piece(list(ids), isinstance(told.get("matched"), str), str(told.get("type", "")))
