"""Whether a model may write as much as a free-text answer needs. Loads a tokenizer, no model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from caft.errors import UserError
from caft.records import Mode
from caft.run_config import Until
from caft.score.config import ModelScoreConfig

if TYPE_CHECKING:
    from caft.pipeline.story import Workplace

log = logging.getLogger(__name__)


def check_gold_room(place: Workplace) -> None:
    """Tell of gold answers of more tokens than a model may write: they can only be wrong.

    UserError where most of them are so long.
    """
    questions = [*place.questions.train, *place.held_out]
    golds = {q.id: q.gold_text for q in questions if q.gold_text}
    if not golds:
        return
    encoded = place.student.tokenizer(list(golds.values()), add_special_tokens=False).input_ids
    lengths = {name: len(ids) for name, ids in zip(golds, encoded, strict=True)}
    for dial, most in _dials(place).items():
        long = {name: length for name, length in lengths.items() if length > most}
        if not long:
            continue
        name, longest = max(long.items(), key=lambda item: item[1])
        line = (
            f"{len(long)} of {len(golds)} gold answers have more tokens than the {most} that "
            f"{dial} lets a model write, so they count as wrong whatever it writes (question "
            f"{name}: {longest}); set {dial}={longest} or more, or give shorter answers"
        )
        if 2 * len(long) > len(golds):
            raise UserError(line)
        log.warning("%s", line)


def _dials(place: Workplace) -> dict[str, int]:
    """What bounds an answer, by dial."""
    dials, evaluation = {}, place.config.evaluation
    if isinstance(place.config.score, ModelScoreConfig):
        dials["score.free_answer_tokens"] = place.config.score.free_answer_tokens
    writes = place.config.until in (Until.evaluate, Until.report)
    if writes and Mode.rationale in evaluation.modes:
        dials["evaluation.max_new_tokens"] = evaluation.max_new_tokens
    return dials
