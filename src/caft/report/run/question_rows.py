"""Rows of the question browser: all questions if they fit, else a fair sample."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from caft.records import AnswerScore, Mode, Prediction
from caft.report.comparison import best_mode
from caft.report.schema import AccuracyPart, ModelName
from caft.report.tables import ReportTables, take_evenly
from caft.report.wording import clip
from caft.text.answers import answer_labels, gold_label
from caft.text.config import OptionIds

MOST_BYTES = 2_200_000
"""Of the packed rows, so that the whole page stays under 3 MB."""
_LENGTHS = (600, 300, 150)
"""Characters of a text that are kept: texts are shortened before questions are left out."""


@dataclass(frozen=True, slots=True)
class ShownReply:
    """One model's reply: the parsed answer, and the text if there is more."""

    answer: str
    correct: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRow:
    """One row; `options` are (id, text, is gold), `outcome` is a text to filter by."""

    id: str
    subject: str
    text: str
    options: tuple[tuple[str, str, bool], ...]
    gold: str
    complexity: str
    estimate: float | None
    base: ShownReply | None
    tuned: ShownReply | None
    rationale: str

    @property
    def outcome(self) -> str:
        """Whether base and tuned model were right."""
        if self.base is None:
            return ""
        before = "right" if self.base.correct else "wrong"
        if self.tuned is None:
            return before
        after = "right" if self.tuned.correct else "wrong"
        return f"still {after}" if before == after else f"{before}, then {after}"


def _pack_rows(rows: Sequence[QuestionRow], classes: Sequence[str]) -> str:
    """The rows as JSON, gzip and base64, so that none of it can be read as markup."""
    place_of = {name: place for place, name in enumerate(classes)}
    plain = [
        {**asdict(row), "outcome": row.outcome, "place": place_of.get(row.complexity, "")}
        for row in rows
    ]
    written = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair from broken data cannot be written as UTF-8.
    squeezed = gzip.compress(written.encode("utf-8", "replace"), mtime=0)
    return base64.b64encode(squeezed).decode("ascii")


def list_question_rows(
    tables: ReportTables,
    accuracy: AccuracyPart | None,
    estimator: str,
    option_ids: OptionIds,
    limit: int,
) -> tuple[list[QuestionRow], str, int]:
    """Rows, the same rows packed for the page, and the number of questions to choose from.

    At most `limit` rows; where they do not fit, with shorter texts, and then fewer of them.

    Test questions where a model was evaluated on them, else all that were scored; ordered from
    the largest estimate down and taken evenly from that order.
    """
    known = _gather(tables, accuracy, estimator)
    keys = [key for key in (known.base or known.tuned or known.scores) if key in tables.questions]
    keys.sort(key=lambda key: -known.estimates.get(key, float("-inf")))
    # Classes in the order of their lowest estimates, which is from easy to hard.
    classes = list(dict.fromkeys(tables.complexity_of.get(key, "") for key in reversed(keys)))
    chosen = take_evenly(keys, limit)
    while True:
        for length in _LENGTHS:
            rows = [_make_row(tables, key, known, option_ids, length) for key in chosen]
            packed = _pack_rows(rows, classes)
            if len(packed) <= MOST_BYTES:
                return rows, packed, len(keys)
        chosen = take_evenly(keys, int(0.95 * len(chosen) * MOST_BYTES / len(packed)))


@dataclass(frozen=True, slots=True)
class _Known:
    """Scores, estimates, replies and rationales by question id."""

    scores: Mapping[str, AnswerScore]
    estimates: Mapping[str, float]
    base: Mapping[str, Prediction]
    tuned: Mapping[str, Prediction]
    rationales: Mapping[str, str]


def _gather(tables: ReportTables, accuracy: AccuracyPart | None, estimator: str) -> _Known:
    estimates = {score.question_id: score.estimates.get(estimator) for score in tables.scores}
    return _Known(
        {score.question_id: score for score in tables.scores},
        {key: value for key, value in estimates.items() if value is not None},
        _replies_of(tables, accuracy, "base"),
        _replies_of(tables, accuracy, "tuned"),
        {row.question_id: row.text for row in (*tables.own, *tables.rationales) if row.accepted},
    )


def _replies_of(
    tables: ReportTables, accuracy: AccuracyPart | None, model: ModelName
) -> dict[str, Prediction]:
    mode = best_mode(accuracy, model)
    rows = tables.predictions.get((model, Mode(mode)), ()) if mode else ()
    return {row.question_id: row for row in rows}


def _make_row(
    tables: ReportTables, key: str, known: _Known, option_ids: OptionIds, length: int
) -> QuestionRow:
    question, score = tables.questions[key], known.scores.get(key)
    gold = gold_label(question, option_ids)
    labels = answer_labels(question, option_ids) if question.options else ()
    base = _make_reply(known.base.get(key), length)
    if base is None and score is not None:
        base = ShownReply(clip(score.predicted, 40) or "nothing", score.correct, "")
    return QuestionRow(
        id=clip(question.id, 80),
        subject=clip(question.subject, 80),
        text=clip(question.text, length),
        options=tuple(
            (label, clip(text, length // 4), label == gold)
            for label, text in zip(labels, question.options, strict=True)
        ),
        gold=clip(gold, 80),
        complexity=tables.complexity_of.get(key, ""),
        estimate=known.estimates.get(key),
        base=base,
        tuned=_make_reply(known.tuned.get(key), length),
        rationale=clip(known.rationales.get(key, ""), length),
    )


def _make_reply(prediction: Prediction | None, length: int) -> ShownReply | None:
    if prediction is None:
        return None
    answer = "unreadable" if prediction.parsed is None else clip(prediction.parsed, 80)
    text = prediction.text.strip()
    return ShownReply(answer, prediction.correct, "" if text == answer else clip(text, length))
