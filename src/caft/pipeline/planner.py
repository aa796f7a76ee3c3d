"""Plans a run stage by stage, from what is in the store; see `dry_run`. Loads no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from caft.distill import DistillInputs, forecast_prompts, forecast_rationales
from caft.distill.forecast import CostForecast
from caft.distill.local import name_model
from caft.errors import count_of, noun_of
from caft.estimators import ESTIMATORS, STAND_IN, Need
from caft.models.encoding import special_tokens
from caft.models.sources.locate import find_model
from caft.models.student import Student
from caft.packed import values_of
from caft.pipeline import workload
from caft.pipeline.entropy_gain import find_option_teacher, option_prompts
from caft.pipeline.estimators import find_judge
from caft.pipeline.expected import (
    count_prompt_tokens,
    count_rows,
    expected_requests,
    expected_rows,
    expected_trained,
)
from caft.pipeline.matched_budget import match_budget
from caft.pipeline.own_rationales import add_own, own_questions, own_sampling
from caft.pipeline.planned import CACHED, FREE, RUNS, PlannedStage, plan_asking
from caft.pipeline.rescoring import rescoring, split_rescored
from caft.pipeline.results import Scored, Taught
from caft.pipeline.stage_inputs import (
    Requests,
    evaluation,
    gate,
    gate_of,
    questions_for_teacher,
    refuse_small_classes,
    stage_tuning,
)
from caft.pipeline.stages import split_scored
from caft.pipeline.steps import (
    Step,
    asks_one_token,
    find_matched_budget,
    judged_estimators,
    list_phases,
    list_steps,
    own_classes,
    rationale_classes,
    reaches,
    taught_classes,
    tunes,
    wanted_needs,
)
from caft.pipeline.teaching import ask_each, make_ask
from caft.pipeline.workspace import Workspace
from caft.records import Question, Target
from caft.run_config import Until
from caft.score.config import PublishedScoreConfig
from caft.score.stage import SampleInputs, judge_prompts
from caft.split import SplitResult
from caft.store import Artifact, Stage, StageKind
from caft.teachers.config import EndpointConfig, LocalModelTeacherConfig
from caft.text.prompts import Prompt
from caft.tune.config import describe_targets
from caft.tune.stage import read_tuned, starting_student


class Planner:
    """Walks the stages of a run, with the results that are in the store.

    What is not known is None: `base`, the base model, if it is not on this machine; `student`, the
    tuned model, from the first stage that must still be trained.
    """

    def __init__(self, workspace: Workspace, base: Student | None) -> None:
        self.workspace, self.config, self.base = workspace, workspace.config, base
        self.student: Student | None = None
        self.scored: Scored | None = None
        self.answers: dict[str, str] | None = None
        self.split: SplitResult | None = None
        self.taught: Taught | None = None
        self.foreseen: list[CostForecast] = []
        self.phase = list_phases(self.config.method)[0]

    def plan(self) -> list[PlannedStage]:
        """A line for every stage, and for what is read or split in between."""
        steps, lines = list_steps(self.config), []
        for part in Until:
            if not reaches(self.config, part):
                break
            if part is Until.tune and tunes(self.config) and self.base:
                self.student = starting_student(self.base, self.config.tuning)
            lines += self._plan_free(part)
            lines += [_PLANNERS[step.kind](self, step) for step in steps if step.part is part]
            if part is Until.distill and own_classes(self.config.method):
                self.taught = self._foresee_own()
        return lines

    def _plan_free(self, part: Until) -> list[PlannedStage]:
        """Lines for the work of a part outside of its stages, which costs nothing."""
        config = self.config
        if part is Until.score and isinstance(config.score, PublishedScoreConfig):
            self.scored = Scored(scores=self.workspace.published)
            return [
                PlannedStage("score", FREE, count_of(len(self.scored.scores), "published score"))
            ]
        if part is Until.split:
            return [self._plan_split()]
        if part is Until.distill:
            if self.split is not None:
                refuse_small_classes(self.workspace, self.split, self.phase)
            self.taught = self._foresee_teaching()
            if not rationale_classes(config.method):
                whose = "teacher" if own_classes(config.method) else "rationales"
                return [PlannedStage("distill", FREE, f"the method needs no {whose}")]
            if not taught_classes(config.method, self.phase):
                return [PlannedStage("distill", FREE, "a teacher is first asked after rescoring")]
        return []

    def _plan_split(self) -> PlannedStage:
        if self.scored is None:
            return PlannedStage("split", RUNS, "cut points are known after scoring")
        self.split = split_scored(self.workspace, self.scored)
        counts = self.split.count(values_of(self.workspace.questions.train, "id"))
        sizes = [f"{counts[name]} {name}" for name in self.config.split.classes]
        return PlannedStage("split", FREE, ", ".join(sizes))

    def _line(
        self, step: Step, artifact: Artifact | None, work: str, load: workload.Load | None = None
    ) -> PlannedStage:
        return PlannedStage(step.name, CACHED if artifact else RUNS, work, step.kind, load)

    def _find(self, stage: Stage[object] | None) -> Artifact | None:
        return self.workspace.store.find(stage) if stage else None

    def plan_scores(self, step: Step) -> PlannedStage:
        """One forward pass a question."""
        if step.part is Until.tune:
            return self._plan_rescoring(step)
        workspace = self.workspace
        stage = workspace.base_scoring if self.base else None
        artifact = self._find(stage)
        chosen = ESTIMATORS[getattr(self.config.split, "estimator", STAND_IN)]
        # The classes of any other estimator are known once it is gathered.
        if stage and artifact:
            scored = Scored(scores=stage.read(artifact.folder))
            self.answers = scored.answers
            self.scored = scored if chosen.need is Need.single_token else None
        count, tokens = len(workspace.every_question), count_prompt_tokens(workspace)
        work = f"{count_of(count, 'question')}, 1 forward pass each, about {tokens:,} tokens"
        if Need.hidden in wanted_needs(self.config):
            work += ", hidden states kept for the probe"
        return self._line(step, artifact, work, workload.load_of(stage))

    def _plan_rescoring(self, step: Step) -> PlannedStage:
        """The student as tuned by then; what is known of later stages follows from its scores."""
        workspace = self.workspace
        stage = rescoring(workspace, self.student) if self.student else None
        self.phase = next(each for each in list_phases(self.config.method) if step.number in each)
        self.split = self.taught = None
        if stage and (artifact := self._find(stage)):
            self.split = split_rescored(workspace, stage.read(artifact.folder), step.number)
            self.taught = self._foresee_teaching()
        count = len(workspace.questions.train) + len(workspace.questions.validation)
        work = f"{count_of(count, 'question')}, 1 forward pass each of the student as tuned by then"
        # Tuning changes neither prompts nor pace.
        load = workload.load_of(rescoring(workspace, self.base)) if self.base else None
        return PlannedStage(step.name, CACHED if self.split else RUNS, work, step.kind, load)

    def plan_fallback(self, step: Step) -> PlannedStage:
        """One more pass a question."""
        stage = self.workspace.fallback_scoring if self.base else None
        count = count_of(len(self.workspace.every_question), "question")
        work = f"{count}, 1 more forward pass each"
        return self._line(step, self._find(stage), work, workload.load_of(stage))

    def plan_teacher(self, step: Step) -> PlannedStage:
        """One pass of the local teacher over the training questions."""
        teacher = self.config.teacher
        assert isinstance(teacher, LocalModelTeacherConfig)
        here = find_model(name_model(teacher)) is not None
        stage = self.workspace.teacher_scoring if here else None
        count = count_of(len(self.workspace.questions.train), "training question")
        work = f"{count}, 1 forward pass each of {teacher.path or teacher.id}"
        return self._line(step, self._find(stage), work, workload.load_of(stage))

    def plan_teacher_options(self, step: Step) -> PlannedStage:
        """One call a training question for the teacher's log-probabilities, and their price."""
        teacher, whose = (
            find_option_teacher(self.config),
            f"{self.config.teacher.name}, one token each",
        )
        return self._plan_prompts(step, whose, teacher, [*option_prompts(self.workspace)])

    def plan_follow_up(self, step: Step) -> PlannedStage:
        """One more pass a question, about the base model's answer: known after scoring."""
        answers = self.answers
        stage = None if answers is None else self.workspace.follow_up(step.kind, answers)
        count = len(self.workspace.every_question)
        work = (
            f"{count_of(count, 'question')}, 1 more forward pass each, about the model's own answer"
        )
        return self._line(step, self._find(stage), work, workload.load_of(stage))

    def plan_chains(self, step: Step) -> PlannedStage:
        """The base model's own chains of thought."""
        stage = self.workspace.base_chains if self.base else None
        count = len(self.workspace.every_question)
        most = self.workspace.scoring.chain.max_new_tokens
        load = workload.load_of(stage, count, most)
        work = f"{count} {noun_of(count, 'chain')} of thought of at most {count_of(most, 'token')}"
        return self._line(step, self._find(stage), work, load)

    def plan_samples(self, step: Step) -> PlannedStage:
        """Drawn chains of thought of the base model, several a question."""
        scoring = self.workspace.scoring
        if step.part is Until.distill:
            count = len(self._expected_own())
            stage, bill = self._own_sampling(), ", no teacher call"
        else:
            count, bill = len(self.workspace.sampled_questions), ""
            stage = self.workspace.base_samples if self.base else None
        times, most = scoring.samples.count, scoring.chain.max_new_tokens
        work = (
            f"{count_of(count, 'question')}, {times} drawn {noun_of(times, 'chain')} of thought "
            f"each, of at most {count_of(most, 'token')}: up to {count * times * most:,}{bill}"
        )
        load = workload.load_of(stage, count * times, most)
        return self._line(step, self._find(stage), work, load)

    def _settled_split(self) -> SplitResult | None:
        """The classes that are trained, if they are known: a matched budget settles them."""
        settled = self.taught.split if self.taught else None
        return settled if find_matched_budget(self.config) else settled or self.split

    def _own_sampling(self) -> SampleInputs | None:
        split = self._settled_split()
        if split is None or self.base is None:
            return None
        return own_sampling(self.workspace, own_questions(self.workspace, split))

    def _expected_own(self) -> Sequence[Question]:
        train, split = self.workspace.questions.train, self._settled_split() or self.split
        if split is not None:
            return own_questions(self.workspace, split)
        share = sum(
            expected_trained(self.config, len(train), name, [Target.own_rationale], self.phase)
            for name in own_classes(self.config.method)
        )
        return train[: round(share * len(train))]

    def _foresee_own(self) -> Taught | None:
        """What is known of all texts, with the own rationales that the store has."""
        split, stage = self._settled_split(), self._own_sampling()
        artifact = self._find(stage)
        if split is None or stage is None or artifact is None:
            return None
        tries = stage.read(artifact.folder)
        foreseen = add_own(self.workspace, self.taught or Taught(split=split), tries)
        return foreseen if self.taught else None

    def plan_judge(self, step: Step) -> PlannedStage:
        """A judge's replies, and their price."""
        judge, names = find_judge(self.config), judged_estimators(self.config)
        prompts = judge_prompts(self.workspace.every_question, names, self.config.dataset.prompt)
        return self._plan_prompts(step, str(judge.model), judge, prompts)

    def _plan_prompts(
        self, step: Step, whose: str, endpoint: EndpointConfig, prompts: Sequence[Prompt]
    ) -> PlannedStage:
        ledger, before = self.workspace.store.ledger_path, self.foreseen
        forecast = forecast_prompts([prompts], teacher=endpoint, ledger_path=ledger, before=before)
        self.foreseen.append(forecast)
        return plan_asking(step, whose, forecast)

    def plan_rationales(self, step: Step) -> PlannedStage:
        """A teacher's replies, and their price."""
        config, whose = self.config, self.config.teacher.name
        if step.part is Until.score:
            requests: Requests = [(Target.rationale, self.workspace.questions.train)]
            whose = f"EVERY training question, for rationale_length. {whose}"
        else:
            requests = expected_requests(self.workspace, self.split, self.scored, self.phase)
        bound = step.part is Until.tune and self.split is None
        asked_for = [self._distill_inputs(*each, bound) for each in requests]
        forecast = forecast_rationales(asked_for, () if bound else self.foreseen)
        self.foreseen.append(forecast)
        if len(requests) > 1:
            kinds = (f"{len(asked)} for {target.name}" for target, asked in requests)
            whose = f"{whose} ({', '.join(kinds)})"
        if requests and step.part is Until.distill and find_matched_budget(config):
            whose += (
                ", about the entropy arm's questions, whose cost is the budget, and as many drawn"
            )
        if bound:
            whose = f"the classes are known by then; at most, if the ledger has none: {whose}"
            forecast = replace(forecast, note="")  # what a cap leaves is in the real ledger
        writes = isinstance(config.teacher, LocalModelTeacherConfig)
        return plan_asking(step, whose, forecast, writes=writes)

    def _distill_inputs(
        self, target: Target, questions: Sequence[Question], bound: bool = False
    ) -> DistillInputs:
        ledger = self.workspace.store.ledger_path
        return DistillInputs(
            questions=questions,
            prompt=self.config.dataset.prompt,
            teacher=self.config.teacher,
            # Which of the questions are asked is open: as if none had been.
            ledger_path=self.workspace.store.path / "none" if bound else ledger,
            forbidden=special_tokens(self.base.tokenizer) if self.base else (),
            shots=self.workspace.questions.shots,
            target=target,
        )

    def _foresee_teaching(self) -> Taught | None:
        """The result of asking, if reading is free: worked solutions, or a file."""
        workspace, config = self.workspace, self.config
        if self.split is None or self.scored is None:
            return None
        classes = taught_classes(config.method, self.phase)
        if not classes:
            return Taught(split=self.split)
        if config.teacher.kind not in ("worked", "file") or self.base is None:
            return None
        refuse_small_classes(workspace, self.split, self.phase)
        budget = find_matched_budget(config)
        if not budget:
            requests = questions_for_teacher(workspace, self.split, classes, self.phase)
            return Taught(split=self.split, rationales=ask_each(workspace, requests))
        ask = make_ask(workspace, target=budget.target)
        split, rationales = match_budget(workspace, self.scored, self.split, budget, ask)
        return Taught(split=split, rationales=rationales)

    def plan_tuning(self, step: Step) -> PlannedStage:
        """One stage of the method."""
        stage = self.config.method.stages[step.number]
        taught, artifact, rows = self.taught, None, expected_rows(self.workspace, self.split, stage)
        shares, split = stage.shares, self._settled_split()
        if split and not any(target.reasons for own in shares.values() for target in own):
            taught = taught or Taught(split=split)
        if self.student and taught:
            tuning = stage_tuning(self.workspace, taught, self.student, step.number)
            artifact, rows = self._find(tuning), count_rows(stage, tuning.pairs)
        self.student = read_tuned(self.student, artifact) if self.student and artifact else None
        targets = ", ".join(f"{name}: {describe_targets(own)}" for name, own in shares.items())
        epochs = count_of(stage.epochs, "epoch")
        anew = ", drawn anew" if stage.draw else ""
        load = workload.load_of_tuning(self.workspace, self.base, stage, rows)
        work = f"{{{targets}}}: about {count_of(rows, 'row')} x {epochs}{anew}"
        return self._line(step, artifact, work, load)

    def plan_gate(self, step: Step) -> PlannedStage:
        """The comparison of an engine's replies with ours."""
        student = self.student if step.tuned else self.base
        artifact = self._find(gate(self.workspace, step, student) if student else None)
        count = min(gate_of(self.config).questions, len(self.workspace.held_out))
        return self._line(
            step, artifact, f"{count_of(count, 'reply')} of {self.config.engine.kind}, and ours"
        )

    def plan_evaluation(self, step: Step) -> PlannedStage:
        """The replies of one model in one mode."""
        student = self.student if step.tuned else self.base
        artifact = self._find(evaluation(self.workspace, step, student) if student else None)
        workspace, most = self.workspace, self.config.evaluation.max_new_tokens
        questions: Sequence[Question] = workspace.held_out
        if step.also:
            further = workspace.further_set(step.also)
            questions, most = further.questions, further.config.max_new_tokens
        count, most = len(questions), most + (self.config.evaluation.max_thinking_tokens or 0)
        work = f"{count_of(count, 'reply')} of at most {count_of(most, 'token')}"
        if asks_one_token(self.config, step):
            work = f"{count_of(count, 'question')}, 1 forward pass each"
        # Tuning changes neither prompts nor pace.
        asked = evaluation(self.workspace, step, self.base) if self.base else None
        return self._line(step, artifact, work, workload.load_of(asked, count, most))


_PLANNERS: dict[StageKind, Callable[[Planner, Step], PlannedStage]] = {
    StageKind.score: Planner.plan_scores,
    StageKind.fallback: Planner.plan_fallback,
    StageKind.p_true: Planner.plan_follow_up,
    StageKind.verbalized: Planner.plan_follow_up,
    StageKind.teacher: Planner.plan_teacher,
    StageKind.teacher_options: Planner.plan_teacher_options,
    StageKind.chains: Planner.plan_chains,
    StageKind.samples: Planner.plan_samples,
    StageKind.judge: Planner.plan_judge,
    StageKind.distill: Planner.plan_rationales,
    StageKind.tune: Planner.plan_tuning,
    StageKind.gate: Planner.plan_gate,
    StageKind.evaluate: Planner.plan_evaluation,
}
