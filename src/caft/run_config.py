"""All rooms' configs put together: one run, typed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from caft.data.config import DatasetConfig
from caft.errors import UserError
from caft.evaluate.config import EvaluationConfig
from caft.models.config import ModelConfig
from caft.report.config import ReportConfig
from caft.score.config import ScoreConfig
from caft.split.config import SplitConfig
from caft.store.config import StoreConfig
from caft.teachers.config import TeacherConfig
from caft.trainers.config import LoggerConfig, TrainerConfig
from caft.tune.config import MethodConfig, TuningConfig


class Until(Enum):
    """The stage after which a run stops."""

    score = "score"
    split = "split"
    distill = "distill"
    tune = "tune"
    evaluate = "evaluate"
    report = "report"


@dataclass(kw_only=True, slots=True)
class RunConfig:
    """Everything one run depends on. `seed` covers tuning and random routing only."""

    name: str
    model: ModelConfig
    dataset: DatasetConfig
    split: SplitConfig
    method: MethodConfig
    score: ScoreConfig
    teacher: TeacherConfig
    tuning: TuningConfig
    evaluation: EvaluationConfig
    report: ReportConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    store: StoreConfig = field(default_factory=StoreConfig)
    seed: int = 42
    until: Until = Until.report
    dry_run: bool = False

    def __post_init__(self) -> None:
        self._refuse_unknown_classes()

    def _refuse_unknown_classes(self) -> None:
        for stage in self.method.stages:
            for complexity in stage.targets:
                if complexity not in self.split.classes:
                    raise UserError(
                        f"method {self.method.name} names the class {complexity!r}; the split "
                        f"has {', '.join(self.split.classes)}: rename it or set split.classes"
                    )
