"""Whether a model may write as much as a free-text answer needs. Loads a tokenizer, no model."""

from __future__ import annotations

import logging

from caft.errors import UserError
from caft.pipeline.workspace import Workspace
from caft.records import Mode
from caft.run_config import Until
from caft.score.config import ModelScoreConfig

log = logging.getLogger(__name__)


def check_gold_room(workspace: Workspace) -> None:
    """Warn of gold answers of more tokens than a model may write: they can only be wrong.

    UserError where most of them are so long.
    """
    questions = workspace.every_question
    golds = {q.id: q.gold_text for q in questions if q.gold_text}
    if not golds:
        return
    encoded = workspace.student.tokenizer(list(golds.values()), add_special_tokens=False).input_ids
    lengths = {name: len(ids) for name, ids in zip(golds, encoded, strict=True)}
    for dial, most in _dials(workspace).items():
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


def _dials(workspace: Workspace) -> dict[str, int]:
    """What bounds an answer, by dial."""
    dials, evaluation = {}, workspace.config.evaluation
    if isinstance(workspace.config.score, ModelScoreConfig):
        dials["score.free_answer_tokens"] = workspace.config.score.free_answer_tokens
    writes = workspace.config.until in (Until.evaluate, Until.report)
    if writes and Mode.rationale in evaluation.modes:
        dials["evaluation.max_new_tokens"] = evaluation.max_new_tokens
    return dials
