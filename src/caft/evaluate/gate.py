"""Whether an engine writes what we write, measured before its replies count. A stage of the store.

Both are asked the first few questions. Two answers are equal where both can be read as the same
one; where neither can be read, the texts must be equal, so that a broken engine does not pass by
writing nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from caft.errors import UserError
from caft.evaluate.stage import ReplyInputs, write_replies
from caft.store import StageKind, read_table, write_table
from caft.trainers.predicting import JOURNALS

log = logging.getLogger(__name__)
_TABLE = "gate.parquet"
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class GateRow:
    """One question: both replies, and the answers that were read from them.

    `version` is the engine's, as it told it then.
    """

    question_id: str
    ours: str
    theirs: str
    our_answer: str | None
    their_answer: str | None
    version: str | None

    @property
    def same_reply(self) -> bool:
        """Whether the texts are equal but for spaces around them."""
        return self.ours.strip() == self.theirs.strip()

    @property
    def same_answer(self) -> bool:
        """Whether they answer alike."""
        readable = self.our_answer is not None or self.their_answer is not None
        return self.our_answer == self.their_answer if readable else self.same_reply


@dataclass(frozen=True, kw_only=True)
class GateInputs:
    """The first `questions` of what an engine is to write."""

    replies: ReplyInputs
    questions: int

    kind: ClassVar[StageKind] = StageKind.gate
    resumable: ClassVar[bool] = True
    scratch: ClassVar[Sequence[str]] = JOURNALS

    @cached_property
    def asked(self) -> ReplyInputs:
        """The engine's part."""
        return replace(
            self.replies,
            questions=self.replies.questions[: self.questions],
            title=f"{self.replies.title}, gate",
        )

    @property
    def key(self) -> dict[str, object]:
        """For the store; the bound is none of it."""
        return self.asked.key

    def produce(self, folder: Path) -> None:
        """Write both, ours first: the engine takes the device's memory and keeps it."""
        asked, engine = self.asked, self.asked.engine
        assert engine is not None, "our own replies need no gate"
        asked.check()
        ours = write_replies(replace(asked, engine=None, title=f"{asked.title}, ours"), folder)
        theirs = write_replies(asked, folder)
        rows = [
            GateRow(one.question_id, one.text, other.text, one.parsed, other.parsed, engine.version)
            for one, other in zip(ours, theirs, strict=True)
        ]
        write_table(folder / _TABLE, GateRow, rows)

    @staticmethod
    def read(folder: Path) -> list[GateRow]:
        """The rows, in the order of the questions."""
        return read_table(folder / _TABLE, GateRow)


def refuse_disagreement(rows: Sequence[GateRow], bound: float, *, engine: str, whose: str) -> None:
    """UserError if fewer answers than `bound` are equal; `whose` is the base or the tuned model."""
    same = sum(row.same_answer for row in rows)
    log.info(
        "engine=%s, %s model: %d of %d answers and %d replies are equal to ours",
        engine,
        whose,
        same,
        len(rows),
        sum(row.same_reply for row in rows),
    )
    if same / len(rows) >= bound:
        return
    first = next(row for row in rows if not row.same_answer)
    raise UserError(
        f"engine={engine} gives {same} of {len(rows)} answers of the {whose} model as we do, and "
        f"engine.gate.agreement is {bound:g}; question {first.question_id}: ours "
        f"{_show(first.ours)}, its {_show(first.theirs)}; check that it has these very weights, in "
        "the same dtype and without a chat template or sampling of its own, or use engine=own"
    )


def _show(reply: str) -> str:
    # The answer is at the end.
    line = " ".join(reply.split())
    return repr(line if len(line) <= _SHOWN else f"...{line[-_SHOWN:]}")
