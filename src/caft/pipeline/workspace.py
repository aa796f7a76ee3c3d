"""What all stages of a run share: config, questions, store, and the base model's stages."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property

from caft.data import QuestionSplits
from caft.evaluate.stage import ReplyInputs
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from caft.records import Question
from caft.run_config import RunConfig, RunContext
from caft.score.config import ModelScoreConfig
from caft.score.stage import CotInputs, ScoreInputs
from caft.store import StageKind, Store
from caft.text.prompts import Wanted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workspace:
    """One run's config and folder, its questions, its store, and the model it starts from.

    The base model's stages are cached, so that the rows that were checked are the rows that are
    sent.
    """

    config: RunConfig
    context: RunContext
    questions: QuestionSplits
    store: Store

    @cached_property
    def student(self) -> Student:
        """The base model; found, made or downloaded when the first stage needs it."""
        # Before torch is imported: a missing model is reported within seconds.
        folder = locate_model(self.config.model)
        from caft.trainers.build import pick_device
        from caft.trainers.distributed import describe_threads

        device = pick_device(self.config.trainer)
        log.info("computing on %s, %s", device, describe_threads(self.config.trainer.devices))
        return Student(self.config.model, folder, device)

    @property
    def held_out(self) -> list[Question]:
        """Validation and test questions, in this order."""
        return [*self.questions.validation, *self.questions.test]

    @property
    def every_question(self) -> list[Question]:
        """Training, validation and test questions, in this order."""
        return [*self.questions.train, *self.held_out]

    @property
    def scoring(self) -> ModelScoreConfig:
        """The scoring settings; the defaults if the base model's scores are published ones."""
        score = self.config.score
        return score if isinstance(score, ModelScoreConfig) else ModelScoreConfig()

    @property
    def base_scoring(self) -> ScoreInputs:
        """The base model's scores of all questions, with its shots."""
        return ScoreInputs(
            student=self.student,
            questions=self.every_question,
            shots=self.questions.shots,
            prompt=self.config.dataset.prompt,
            trainer=self.config.trainer,
            config=self.scoring,
        )

    @cached_property
    def fallback_scoring(self) -> ScoreInputs:
        """All questions once more, with a prompt that lets the base model decline."""
        wanted = self.scoring.fallback.wanted
        return replace(self.base_scoring, wanted=wanted, kind=StageKind.fallback)

    @cached_property
    def base_chains(self) -> CotInputs:
        """The base model's own chains of thought for all questions, with its shots."""
        return CotInputs(
            student=self.student,
            questions=self.every_question,
            shots=self.questions.shots,
            prompt=self.config.dataset.prompt,
            trainer=self.config.trainer,
            config=self.scoring.chain,
        )

    @cached_property
    def base_rationales(self) -> ReplyInputs:
        """The base model's replies to the held-out questions, with its shots."""
        return ReplyInputs(
            student=self.student,
            questions=self.held_out,
            shots=self.questions.shots,
            prompt=self.config.dataset.prompt,
            wanted=Wanted.rationale,
            max_new_tokens=self.config.evaluation.max_new_tokens,
            batch_size=self.config.evaluation.batch_size,
            trainer=self.config.trainer,
            title="base rationale",
        )
