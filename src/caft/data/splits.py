"""What a source hands over, and the fingerprint of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from caft.records import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSplits:
    """The questions of one run, divided.

    `shots` are solved examples for prompts: set aside, never scored and never trained. `removed`
    counts what was left out, reason by reason. `fingerprint` is a SHA-256 over all content,
    `test_fingerprint` one over the test questions alone.
    """

    train: tuple[Question, ...]
    validation: tuple[Question, ...]
    test: tuple[Question, ...]
    shots: tuple[Question, ...] = ()
    removed: Mapping[str, int] = field(default_factory=dict)

    def parts(self) -> Iterator[tuple[str, tuple[Question, ...]]]:
        """Names and questions of the three splits, in order; without the shots."""
        yield "train", self.train
        yield "validation", self.validation
        yield "test", self.test

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over every question's content, split by split and in order.

        `origin` is left out: the same rows in another file are the same questions.
        """
        digest = hashlib.sha256()
        for split in ("train", "validation", "test", "shots"):
            for question in getattr(self, split):
                digest.update(f"{split} {describe_content(question)}\n".encode("ascii"))
        return digest.hexdigest()

    @property
    def test_fingerprint(self) -> str:
        """SHA-256, in hex, over the content of the test questions, in whatever order they come.

        Runs that share it answered the same questions, whatever they were trained on.
        """
        lines = sorted(describe_content(question) for question in self.test)
        return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()


def describe_content(question: Question) -> str:
    """Everything that a prompt, a target or a result may depend on, as one line of ASCII."""
    return json.dumps(
        [
            question.id,
            question.text,
            question.options,
            question.answer_set,
            question.gold_index,
            question.gold_text,
            question.subject,
            question.rationale,
        ],
        ensure_ascii=True,
    )
