"""The questions of a run by split, and the fingerprint of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from caft.packed import values_of
from caft.records import Question, describe_content


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSplits:
    """The questions of one run by split.

    `shots` are solved examples for prompts, which are never scored or trained on. `removed`
    counts the rows that were left out, by reason. `sources` says where each part of a question
    stood in the files, for display.
    """

    train: Sequence[Question]
    validation: Sequence[Question]
    test: Sequence[Question]
    shots: Sequence[Question] = ()
    removed: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def parts(self) -> Iterator[tuple[str, Sequence[Question]]]:
        """Names and questions of train, validation and test."""
        yield "train", self.train
        yield "validation", self.validation
        yield "test", self.test

    @property
    def solved(self) -> int:
        """How many training questions have a worked solution."""
        return sum(bool(text and text.strip()) for text in values_of(self.train, "rationale"))

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over the content of all questions and shots, in order.

        `origin` is left out: the same rows in another file are the same questions.
        """
        digest = hashlib.sha256()
        for split, questions in (*self.parts(), ("shots", self.shots)):
            for question in questions:
                content = describe_content(question, solved=True)
                digest.update(f"{split} {content}\n".encode("ascii"))
        return digest.hexdigest()

    @property
    def test_fingerprint(self) -> str:
        """SHA-256, in hex, over the content of the test questions, in any order.

        Runs that share it answered the same questions, whatever they were trained on and whether
        solutions are known.
        """
        lines = sorted(describe_content(question) for question in self.test)
        return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()
