"""Where the rows of a packed sequence lie, and what they read before their own tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch

from caft.kernels.kv_cache import ReplyCache, SharedPrefix
from caft.kernels.varlen import Sequences, plan_sequences


@dataclass(frozen=True, slots=True)
class Run:
    """`count` rows of `length` tokens each, side by side from token `start` on.

    All of them read the tokens of `prefix`, a run of one, before their own.
    """

    start: int
    count: int
    length: int
    prefix: Run | None = None

    @property
    def tokens(self) -> int:
        """Of all its rows."""
        return self.count * self.length

    @property
    def stop(self) -> int:
        """The token behind its last."""
        return self.start + self.tokens


@dataclass(frozen=True)
class Layout:
    """Where the rows of a packed sequence lie: its runs, end to end.

    Every row reads `prefix` first. Keys and values are given to `keep` where they are wanted
    later: those of a shared prefix, or of prompts that are going to be replied to. With `replies`
    the sequence is the newest token of every reply instead, and each looks back over its own row.
    """

    runs: tuple[Run, ...]
    prefix: SharedPrefix | None = None
    keep: SharedPrefix | ReplyCache | None = None
    replies: ReplyCache | None = None
    _sequences: dict[torch.device, tuple[Sequences, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def groups(self) -> tuple[tuple[Run, ...], ...]:
        """Neighbouring runs with the same prefix, from one length to its double."""
        groups: list[list[Run]] = []
        for run in self.runs:
            first, last = (groups[-1][0], groups[-1][-1]) if groups else (None, None)
            if (
                first is None
                or last is None
                or run.prefix != first.prefix
                or not (last.length <= run.length <= 2 * first.length)
            ):
                groups.append([])
            groups[-1].append(run)
        return tuple(map(tuple, groups))

    def sequences(self, device: torch.device) -> tuple[Sequences, ...]:
        """Its rows for `attend_at_once`, planned once for all layers of a pass."""
        if device not in self._sequences:
            rows = [
                (
                    range(0) if run.prefix is None else range(run.prefix.start, run.prefix.stop),
                    range(start, start + run.length),
                )
                for run in self.runs
                for start in range(run.start, run.stop, run.length)
            ]
            prefix = 0 if self.prefix is None else self.prefix.length
            self._sequences[device] = plan_sequences(rows, prefix, device)
        return self._sequences[device]
