"""Rows of the question browser: all questions if they fit, else a fair sample."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

from caft.estimators import difficulty
from caft.grading import rules_differ
from caft.packed import by_id, keep, values_of
from caft.records import AnswerScore, Mode, Prediction
from caft.report.comparison import best_mode
from caft.report.schema import MODELS, AccuracyPart
from caft.report.tables import ReportTables, take_evenly
from caft.report.wording import clip, clip_middle
from caft.text.answers import answer_labels, gold_label

_Row = TypeVar("_Row")
Asked = tuple[str, Mode]
"""A model (base or tuned) in a mode."""

MOST_BYTES = 2_200_000
"""Of the packed rows, so that the whole page stays under 3 MB."""
_LENGTHS = (600, 300, 150)
"""Characters of a text that are kept: texts are shortened before questions are left out."""


RIGHT, WRONG, UNREADABLE = "right", "wrong", "unreadable"
DIFFERS = {True: "wrong by our rules", False: "right by our rules"}
"""Beside the verdict of another grader, by that verdict."""


@dataclass(frozen=True, slots=True)
class ShownReply:
    """One reply: what was read from it, whether that is right, and the text if there is more.

    `verdict` is right, wrong, or why no allowed answer could be read. `taken` is the mode whose
    reply routing chose. `note` is there if our rules grade the answer otherwise.
    """

    answer: str
    verdict: str
    text: str = ""
    taken: str = ""
    note: str = ""

    @property
    def correct(self) -> bool:
        """Whether it agrees with the gold answer."""
        return self.verdict == RIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRow:
    """One row; `options` are (id, text, is gold), `replies` are in the order of `columns`.

    `place` is that of its class among all, from easy to hard; empty if it has none. `outcome`
    compares base and tuned model in their best modes: a text to filter by.
    """

    id: str
    subject: str
    text: str
    options: tuple[tuple[str, str, bool], ...]
    gold: str
    complexity: str
    place: int | str
    estimate: float | None
    replies: tuple[ShownReply | None, ...]
    outcome: str
    rationale: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRows:
    """The rows, the same rows packed for the page, and how many questions there are in all.

    `columns` are the models and modes that have replies.
    """

    columns: Sequence[Asked]
    rows: Sequence[QuestionRow]
    packed: str
    choosable: int


def _pack_rows(rows: list[QuestionRow]) -> str:
    """The rows as JSON, gzip and base64, so that none of it can be read as markup."""
    from pydantic import TypeAdapter

    plain = TypeAdapter(list[QuestionRow]).dump_python(rows, exclude_defaults=True)
    written = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair from broken data cannot be written as UTF-8.
    squeezed = gzip.compress(written.encode("utf-8", "replace"), mtime=0)
    return base64.b64encode(squeezed).decode("ascii")


def list_question_rows(
    tables: ReportTables,
    accuracy: AccuracyPart | None,
    estimator: str,
    limit: int,
    classes: Sequence[str] = (),
) -> QuestionRows:
    """At most `limit` rows; where they do not fit, with shorter texts, and then fewer of them.

    Test questions where a model was evaluated on them, else all that were scored; ordered from
    the largest estimate down and taken evenly from that order. `classes` go from easy to hard; a
    run without a split has those of its scores, whose estimates tell their order.
    """
    known = _gather(tables, accuracy, estimator)
    keys = [key for key in known.shown if key in tables.questions]
    keys.sort(key=lambda key: -known.estimates.get(key, float("-inf")))
    rising = sorted(
        known.estimates, key=lambda key: difficulty(estimator, known.estimates[key]) or 0.0
    )
    classes = classes or [*dict.fromkeys(tables.complexity_of.get(key, "") for key in rising)]
    place_of = {name: place for place, name in enumerate(classes)}
    chosen = take_evenly(keys, limit)
    known, tables = _take(known, tables, chosen)
    while True:
        for length in _LENGTHS:
            rows = [_make_row(tables, key, known, place_of, length) for key in chosen]
            packed = _pack_rows(rows)
            if len(packed) <= MOST_BYTES:
                return QuestionRows(
                    columns=known.columns, rows=rows, packed=packed, choosable=len(keys)
                )
        chosen = take_evenly(chosen, int(0.95 * len(chosen) * MOST_BYTES / len(packed)))


@dataclass(frozen=True, slots=True)
class _Known:
    """Scores, estimates and rationales by question id; `replies` by model and mode before that.

    `shown` are the questions with replies, else all that were scored: only of them is anything
    gathered. `best` are the columns whose replies the outcome compares.
    """

    shown: Collection[str]
    scores: Mapping[str, AnswerScore]
    estimates: Mapping[str, float]
    rationales: Mapping[str, str]
    replies: Mapping[Asked, Mapping[str, Prediction]]
    best: Sequence[Asked]

    @property
    def columns(self) -> Sequence[Asked]:
        """In the order of the page; what was only scored has one."""
        return list(self.replies) or ([("base", Mode.answer)] if self.scores else [])


def _gather(tables: ReportTables, accuracy: AccuracyPart | None, estimator: str) -> _Known:
    asked = [(model, mode) for model in MODELS for mode in Mode]
    best = ((model, best_mode(accuracy, model)) for model in MODELS)
    replies: dict[Asked, Mapping[str, Prediction]] = {
        key: by_id(rows, "question_id") for key in asked if (rows := tables.predictions.get(key))
    }
    answered = {key: None for by_id in replies.values() for key in by_id}
    ids = [*values_of(tables.scores, "question_id")]
    shown = answered or dict.fromkeys(ids)
    scores = by_id(keep(tables.scores, [key in shown for key in ids]), "question_id")
    estimates = {key: row.estimates.get(estimator) for key, row in scores.items()}
    return _Known(
        shown,
        scores,
        {key: value for key, value in estimates.items() if value is not None},
        {
            row.question_id: row.text
            for row in chain(tables.own, tables.rationales)
            if row.accepted and row.question_id in shown
        },
        replies,
        [(model, Mode(mode)) for model, mode in best if mode],
    )


def _take(known: _Known, tables: ReportTables, keys: Sequence[str]) -> tuple[_Known, ReportTables]:
    """What is known of these questions: each is looked at several times."""

    def take(rows: Mapping[str, _Row]) -> dict[str, _Row]:
        return {key: rows[key] for key in keys if key in rows}

    replies = {asked: take(rows) for asked, rows in known.replies.items()}
    known = replace(known, scores=take(known.scores), replies=replies)
    return known, replace(tables, questions=take(tables.questions))


def _make_row(
    tables: ReportTables, key: str, known: _Known, place_of: Mapping[str, int], length: int
) -> QuestionRow:
    question = tables.questions[key]
    gold = gold_label(question, tables.option_ids)
    labels = answer_labels(question, tables.option_ids) if question.options else ()
    replies = {asked: _make_reply(tables, known, asked, key, length) for asked in known.columns}
    complexity = tables.complexity_of.get(key, "")
    return QuestionRow(
        id=clip(question.id, 80),
        subject=clip(question.subject, 80),
        text=clip(question.text, length),
        options=tuple(
            (label, clip(text, length // 4), label == gold)
            for label, text in zip(labels, question.options, strict=True)
        ),
        gold=clip(gold, 80),
        complexity=complexity,
        place=place_of.get(complexity, ""),
        estimate=known.estimates.get(key),
        replies=tuple(replies.values()),
        outcome=_compare(known, replies),
        rationale=clip_middle(known.rationales.get(key, ""), length),
    )


def _compare(known: _Known, replies: Mapping[Asked, ShownReply | None]) -> str:
    """Such as "wrong, then right"; one model alone is right or wrong, and none is nothing."""
    best = known.best if known.replies else known.columns
    shown = [reply for asked in best if (reply := replies.get(asked))]
    words = [RIGHT if reply.correct else WRONG for reply in shown]
    alike = len(words) > 1 and len(set(words)) == 1
    return f"still {words[0]}" if alike else ", then ".join(words)


def _make_reply(
    tables: ReportTables, known: _Known, asked: Asked, key: str, length: int
) -> ShownReply | None:
    if not known.replies:
        score = known.scores[key]
        return ShownReply(clip(score.predicted, 40) or "nothing", RIGHT if score.correct else WRONG)
    prediction = known.replies[asked].get(key)
    if prediction is None:
        return None
    answer, text, taken = _read(prediction), prediction.text.strip(), _find_taken(known, asked, key)
    shown = "" if text == answer or taken else clip_middle(text, length)
    differ = rules_differ(
        prediction.parsed, prediction.correct, tables.questions[key], tables.option_ids
    )
    note = DIFFERS[prediction.correct] if differ else ""
    return ShownReply(clip(answer, 80), _judge(prediction), shown, taken, note)


def _read(prediction: Prediction) -> str:
    """The answer; where it is none of the allowed ones, what stands in its place."""
    return prediction.parsed or prediction.marked or ""


def _judge(prediction: Prediction) -> str:
    if prediction.correct:
        return RIGHT
    if prediction.parsed is not None:
        return WRONG
    # Replies of earlier versions do not tell why.
    return prediction.unread.value if prediction.unread else UNREADABLE


def _find_taken(known: _Known, asked: Asked, key: str) -> str:
    """The mode that a routed reply was taken from, if only one of the two can be it."""
    model, mode = asked
    if mode is not Mode.routed:
        return ""
    reply = known.replies[asked][key]
    same = [
        other.name
        for other in (Mode.answer, Mode.rationale)
        if (found := known.replies.get((model, other), {}).get(key))
        and (found.text, found.parsed) == (reply.text, reply.parsed)
    ]
    return same[0] if len(same) == 1 else ""
