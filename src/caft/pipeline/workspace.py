"""What every stage of a run works with: config, questions, store and the base model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from caft.data import QuestionSplits
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from caft.records import Question
from caft.run_config import RunConfig, RunContext
from caft.store import Store


@dataclass(frozen=True)
class Workspace:
    """One run's config and folder, its questions, its store, and the model it starts from."""

    config: RunConfig
    context: RunContext
    questions: QuestionSplits
    store: Store

    @cached_property
    def student(self) -> Student:
        """The base model; found, made or downloaded when the first stage needs it."""
        # Before torch is imported: a model that cannot be had is known within seconds.
        folder = locate_model(self.config.model)
        from caft.trainers.build import pick_device

        return Student(self.config.model, folder, pick_device(self.config.trainer))

    @property
    def held_out(self) -> list[Question]:
        """Validation and test questions, in this order."""
        return [*self.questions.validation, *self.questions.test]

    @property
    def every_question(self) -> list[Question]:
        """Training, validation and test questions, in this order."""
        return [*self.questions.train, *self.held_out]
