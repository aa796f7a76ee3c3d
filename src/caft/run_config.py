"""The typed config of one run: the configs of all rooms together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from caft.data.config import (
    ArithmeticConfig,
    DatasetConfig,
    GsmSymbolicConfig,
    HubConfig,
    LocalConfig,
    MixedConfig,
)
from caft.dials import Seed, Text, check_dials
from caft.engines.config import (
    EngineConfig,
    OwnEngineConfig,
    ServerEngineConfig,
    SglangEngineConfig,
    VllmEngineConfig,
)
from caft.errors import UserError
from caft.estimators import ESTIMATORS, STAND_IN, Need
from caft.evaluate.config import EvaluationConfig
from caft.models.config import (
    EmbeddedModelConfig,
    HubModelConfig,
    ModelConfig,
    TinyModelConfig,
)
from caft.report.config import ReportConfig
from caft.score.config import ModelScoreConfig, PublishedScoreConfig, ScoreConfig
from caft.split.config import (
    EntropySplitConfig,
    Match,
    RandomSplitConfig,
    SampledSplitConfig,
    SplitConfig,
    ThresholdSplitConfig,
)
from caft.store.config import StoreConfig
from caft.teachers.config import (
    FileTeacherConfig,
    LocalModelTeacherConfig,
    OpenAITeacherConfig,
    TeacherConfig,
    WorkedTeacherConfig,
)
from caft.trainers.config import (
    CsvLoggerConfig,
    LoggerConfig,
    MlflowLoggerConfig,
    TensorboardLoggerConfig,
    TrainerConfig,
    WandbLoggerConfig,
)
from caft.tune.config import Adapter, AnswerTarget, MethodConfig, Select, TuningConfig


class Until(Enum):
    """The stage after which a run stops; `data` shows how a row was read."""

    data = "data"
    score = "score"
    split = "split"
    distill = "distill"
    tune = "tune"
    evaluate = "evaluate"
    report = "report"


@dataclass(kw_only=True, slots=True)
class RunConfig:
    """Everything one run depends on. `seed` covers tuning, drawn replies, and random routing."""

    name: Text
    model: ModelConfig
    dataset: DatasetConfig
    split: SplitConfig
    method: MethodConfig
    score: ScoreConfig
    teacher: TeacherConfig
    tuning: TuningConfig
    evaluation: EvaluationConfig
    engine: EngineConfig = field(default_factory=OwnEngineConfig)
    report: ReportConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    store: StoreConfig = field(default_factory=StoreConfig)
    seed: Seed = 42
    until: Until = Until.report
    dry_run: bool = False

    def __post_init__(self) -> None:
        check_dials(self, "")
        self._refuse_unknown_classes()
        self._refuse_impossible_rescoring()
        self._refuse_same_sets()
        self._refuse_divided_four_bits()

    @property
    def only_shows(self) -> bool:
        """Whether nothing is run or written: a plan, or a row of the data, is printed."""
        return self.dry_run or self.until is Until.data

    @property
    def further(self) -> Sequence[DatasetConfig]:
        """The data sets of `evaluation.also`."""
        return self.evaluation.also

    def _refuse_same_sets(self) -> None:
        seen = {self.dataset.name: self.dataset}
        for one in self.further:
            same = next((other for other in seen.values() if _read_alike(one, other)), None)
            if same is self.dataset:
                raise UserError(
                    f"evaluation.also names {one.name}, which is this run's dataset, and that is "
                    "evaluated anyway; leave it out"
                )
            if same or one.name in seen:
                raise UserError(
                    f"evaluation.also names two sets {one.name}"
                    + (
                        "; name it once"
                        if same
                        else ", or one like the dataset; give one another "
                        f"name, as in {{dataset: {one.kind}, name: other, ...}}"
                    )
                )
            if isinstance(one, LocalConfig) and not (one.train_path or one.test_path):
                raise UserError(
                    f"evaluation.also, {one.name}: no file is named; give one, as in {{dataset: "
                    "local, name: mine, test_path: mine.jsonl}"
                )
            seen[one.name] = one

    def _refuse_divided_four_bits(self) -> None:
        if self.trainer.shards and self.tuning.adapter is Adapter.qlora:
            raise UserError(
                "trainer.strategy=fsdp cannot divide weights of 4 bits; use tuning=lora, or leave "
                "trainer.strategy=ddp"
            )

    def _refuse_unknown_classes(self) -> None:
        for stage in self.method.stages:
            for complexity in stage.targets:
                if complexity not in self.split.classes:
                    raise UserError(
                        f"method {self.method.name} names the class {complexity!r}; the split "
                        f"has {', '.join(self.split.classes)}: rename it or set split.classes"
                    )

    def _refuse_impossible_rescoring(self) -> None:
        number = next((n for n, stage in enumerate(self.method.stages) if stage.rescores), None)
        pool: int | None = getattr(self.split, "pool", None)
        if number is None:
            if pool is not None:
                raise UserError(
                    f"split.pool={pool} is for a method that rescores, and no stage of "
                    f"{self.method.name} does; leave it out"
                )
            return
        part = self.method.part(number)
        estimator = getattr(self.split, "estimator", "")
        why = ""
        if isinstance(self.score, PublishedScoreConfig):
            why = "score=published has no scores of a tuned student; use score=model"
        elif isinstance(self.split, RandomSplitConfig):
            if pool is None or self.split.match is not Match.sizes:
                why = (
                    "split=random reads no score; use split=entropy or split=sampled, for their "
                    "control split.pool without split.match"
                )
        elif ESTIMATORS[estimator].need is not Need.single_token:
            why = (
                f"split.estimator={estimator} takes more than the one forward pass in which a "
                f"tuned student is scored; use {STAND_IN}"
            )
        elif self.tuning.answer_target is AnswerTarget.bracketed:
            why = (
                "tuning.answer_target=bracketed trains answers without a one-token entropy; use "
                "tuning.answer_target=bare"
            )
        parts = map(self.method.part, range(len(self.method.stages)))
        by_epoch = next((part for part in parts if part.epochs > 1), None)
        if not why and by_epoch and (self.tuning.patience or self.tuning.select is Select.best):
            part = by_epoch
            why = (
                "tuning.select=best and tuning.patience compare a stage's epochs, and here each is "
                "a stage of its own; leave them out"
            )
        if not why and by_epoch and isinstance(self.split, ThresholdSplitConfig):
            part = by_epoch
            why = (
                "split=entropy_threshold cuts at fixed values, and tuning moves the estimates: a "
                "class may have no question left in some epoch; use split=entropy, whose classes "
                "keep their sizes"
            )
        if why:
            off = f"method.stages.{part.stage}.rescore"
            word = "epoch" if part.epochs > 1 else "true"
            raise UserError(f"{off}={word}, but {why}, or set {off}=false")


_OF_USE = (
    "name", "train", "validation", "test", "duplicates", "shuffle_options", "grader", "prompt",
)  # fmt: skip
"""What a run makes of a data set; the other settings, but for lengths, say which rows it has."""


def _read_alike(one: DatasetConfig, other: DatasetConfig) -> bool:
    """Whether both have the same rows, however many are drawn."""
    rows = [
        {key: value for key, value in asdict(each).items()
         if key not in (*_OF_USE, "max_new_tokens", "seed")}
        for each in (one, other)
    ]  # fmt: skip
    return rows[0] == rows[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What a run knows in addition to its config: its output `folder` and how it was started.

    `overrides` are the command line's words for this job, `config_yaml` is the resolved config
    as text. `sweep` is the name of the folder of the sweep whose job the run is, empty for a
    single run. `run_id` is the same whenever the same job is started again.
    """

    folder: Path
    overrides: tuple[str, ...] = ()
    config_yaml: str = ""
    run_id: str = ""
    sweep: str = ""


KINDS: dict[str, dict[str, type[Any]]] = {
    "model": {
        "hub": HubModelConfig,
        "embedded": EmbeddedModelConfig,
        "tiny": TinyModelConfig,
    },
    "dataset": {
        "arithmetic": ArithmeticConfig,
        "gsm_symbolic": GsmSymbolicConfig,
        "mixed": MixedConfig,
        "local": LocalConfig,
        "hub": HubConfig,
    },
    "split": {
        "entropy": EntropySplitConfig,
        "entropy_threshold": ThresholdSplitConfig,
        "sampled": SampledSplitConfig,
        "random": RandomSplitConfig,
    },
    "score": {"model": ModelScoreConfig, "published": PublishedScoreConfig},
    "teacher": {
        "worked": WorkedTeacherConfig,
        "openai": OpenAITeacherConfig,
        "local_model": LocalModelTeacherConfig,
        "file": FileTeacherConfig,
    },
    "engine": {
        "own": OwnEngineConfig,
        "vllm": VllmEngineConfig,
        "sglang": SglangEngineConfig,
        "server": ServerEngineConfig,
    },
    "logger": {
        "csv": CsvLoggerConfig,
        "wandb": WandbLoggerConfig,
        "tensorboard": TensorboardLoggerConfig,
        "mlflow": MlflowLoggerConfig,
    },
}
"""The class of every `kind`, group by group: to add a kind, add one line here."""

ONE_KIND: dict[str, type[Any]] = {
    "method": MethodConfig,
    "tuning": TuningConfig,
    "evaluation": EvaluationConfig,
    "report": ReportConfig,
    "trainer": TrainerConfig,
    "store": StoreConfig,
}
"""The groups that have one kind only."""
