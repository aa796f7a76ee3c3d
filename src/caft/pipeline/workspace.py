"""What all stages of a run share: config, questions, store, and the base model's stages."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from caft.data import QuestionSplits, published_scores
from caft.data.further import FurtherSet
from caft.engines.open import open_engine
from caft.engines.replies import Engine
from caft.estimators import ESTIMATORS, Need
from caft.evaluate.stage import ReplyInputs
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from caft.packed import join, pack, values_of
from caft.pipeline.local_teacher import LocalTeacher
from caft.pipeline.steps import scoring_of, wanted_estimators, wanted_needs
from caft.records import AnswerScore, Question
from caft.report.engine_part import GatePart
from caft.run_config import RunConfig, RunContext
from caft.score.config import ModelScoreConfig, PublishedScoreConfig
from caft.score.stage import CotInputs, SampleInputs, ScoreInputs
from caft.store import StageKind, Store
from caft.text.follow_up import FOLLOW_UPS, follow_up_questions, follow_up_shots
from caft.text.prompts import Wanted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workspace:
    """One run's config and folder, its questions, its store, and the model it starts from.

    `further` are the sets of `evaluation.also`; `gates` gets what engines that are not ours were
    compared by.

    The base model's stages after the first one are cached, so that the rows that were checked are
    the rows that are sent. `base_scoring` is made anew each time, and checks its rows when it runs.
    """

    config: RunConfig
    context: RunContext
    questions: QuestionSplits
    store: Store
    further: Sequence[FurtherSet] = ()
    gates: list[GatePart] = field(default_factory=list, compare=False)
    _engines: dict[str | None, Engine | None] = field(
        default_factory=dict, repr=False, compare=False
    )

    @cached_property
    def student(self) -> Student:
        """The base model; found, made or downloaded when the first stage needs it."""
        # Before torch is imported: a missing model is reported within seconds.
        folder = locate_model(self.config.model)
        from caft.trainers.devices import pick_device
        from caft.trainers.distributed import describe_threads

        device = pick_device(self.config.trainer)
        log.info("computing on %s, %s", device, describe_threads(self.config.trainer.devices))
        return Student(self.config.model, folder, device)

    def engine_of(self, student: Student, whose: str = "") -> Engine | None:
        """What writes a student's replies in our place; the same one whenever it is asked for.

        `whose` sets another model apart from the student, such as the teacher.
        """
        name = whose or student.tuned_fingerprint
        if name not in self._engines:
            self._engines[name] = open_engine(self.config.engine, student)
        return self._engines[name]

    def close_engines(self) -> None:
        """Give back what engines hold; those that are needed again start again."""
        for engine in self._engines.values():
            if engine is not None:
                engine.close()

    @property
    def held_out(self) -> Sequence[Question]:
        """Validation and test questions, in this order."""
        return join(self.questions.validation, self.questions.test)

    @property
    def every_question(self) -> Sequence[Question]:
        """Training, validation and test questions, in this order."""
        return join(self.questions.train, self.held_out)

    def further_set(self, name: str) -> FurtherSet:
        """The one of that name."""
        return next(each for each in self.further if each.name == name)

    @property
    def subject_of(self) -> dict[str, str]:
        """Every question's subject, by its id; "" if it has none."""
        rows = self.every_question
        return dict(zip(values_of(rows, "id"), values_of(rows, "subject"), strict=True))

    @cached_property
    def published(self) -> Sequence[AnswerScore]:
        """Scores from columns of the dataset's own file, for every question."""
        config = self.config.score
        assert isinstance(config, PublishedScoreConfig)
        found = published_scores(self.config.dataset, config.entropy_column, config.correct_column)
        return pack(
            AnswerScore(
                question_id=name,
                predicted="",
                valid=True,
                correct=found[name][1],
                estimates={"answer_entropy": found[name][0]},
            )
            for name in values_of(self.every_question, "id")
        )

    @property
    def scoring(self) -> ModelScoreConfig:
        """The scoring settings; the defaults if the base model's scores are published ones."""
        return scoring_of(self.config)

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
            keeps_hidden=Need.hidden in wanted_needs(self.config),
        )

    @cached_property
    def fallback_scoring(self) -> ScoreInputs:
        """All questions once more, with a prompt that lets the base model decline."""
        wanted = self.scoring.fallback.wanted
        return replace(
            self.base_scoring, wanted=wanted, keeps_hidden=False, kind=StageKind.fallback
        )

    @cached_property
    def teacher_scoring(self) -> ScoreInputs:
        """The local teacher's answers to the training questions, in the same words."""
        return replace(
            self.base_scoring,
            student=LocalTeacher(self.config).student,
            questions=self.questions.train,
            keeps_hidden=False,
            kind=StageKind.teacher,
        )

    def follow_up(self, kind: StageKind, answers: Mapping[str, str]) -> ScoreInputs:
        """The base model is asked about its own `answers`, given by question id."""
        prompt, name = self.config.dataset.prompt, kind.name
        return replace(
            self.base_scoring,
            questions=follow_up_questions(name, self.every_question, answers, prompt),
            shots=follow_up_shots(name, self.questions.shots, prompt),
            prompt=FOLLOW_UPS[name].word(prompt),
            keeps_hidden=False,
            kind=kind,
        )

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

    @property
    def sampled_questions(self) -> Sequence[Question]:
        """Those of training alone if no wanted estimate of drawn chains exists at test time."""
        wanted = [ESTIMATORS[name] for name in wanted_estimators(self.config)]
        held_out = any(each.need is Need.samples and each.known_at_test for each in wanted)
        return self.every_question if held_out else self.questions.train

    @cached_property
    def base_samples(self) -> SampleInputs:
        """The base model's drawn chains of thought, with its shots."""
        return SampleInputs(
            student=self.student,
            questions=self.sampled_questions,
            shots=self.questions.shots,
            prompt=self.config.dataset.prompt,
            trainer=self.config.trainer,
            config=self.scoring.chain,
            count=self.scoring.samples.count,
            sampling=self.scoring.samples.seeded(self.config.seed),
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
            thinking=self.config.evaluation.thinking,
            max_thinking_tokens=self.config.evaluation.max_thinking_tokens,
            sampling=self.config.evaluation.sampling.seeded(self.config.seed),
            trainer=self.config.trainer,
            title="base rationale",
            engine=self.engine_of(self.student),
        )
