"""How scores become classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from itertools import pairwise

from caft.dials import Count, Finite, Positive, Share, Text, check_dials
from caft.errors import UserError, count_of
from caft.estimators import STAND_IN, find_estimator
from caft.records import COMPLEXITIES


class Within(Enum):
    """Where quantiles are taken: over `all` training rows, or inside each `subject`."""

    all = "all"
    subject = "subject"


class Match(Enum):
    """The quantity that the random control shares with routing by entropy.

    `sizes`: the classes' sizes. `calls`, `tokens`: what the teacher is asked and what is kept of
    its replies, counted in questions or in tokens.
    """

    sizes = "sizes"
    calls = "calls"
    tokens = "tokens"


def refuse_unordered(name: str, cuts: list[float], classes: list[str]) -> None:
    """Cut points must rise strictly, one fewer than there are classes."""
    if len(cuts) != len(classes) - 1:
        raise UserError(
            f"{name} has {count_of(len(cuts), 'cut point')} for the classes {', '.join(classes)}; "
            f"give {len(classes) - 1}"
        )
    if any(low >= high for low, high in pairwise(cuts)):
        raise UserError(f"{name} is {cuts}; cut points must rise, such as [0.25, 0.75]")


@dataclass(kw_only=True, slots=True)
class SplitConfig:
    """What every strategy shares: the classes, easiest first."""

    kind: str
    classes: list[str] = field(default_factory=lambda: list(COMPLEXITIES))

    def __post_init__(self) -> None:
        check_dials(self, "split")
        if len(self.classes) < 2:
            raise UserError(f"split.classes is {self.classes}; give two or more different names")

    @property
    def strategy(self) -> str:
        """The name in summaries."""
        return self.kind


def name_strategy(split: EntropySplitConfig) -> str:
    """Its kind, and whether it is cut inside subjects."""
    return split.kind if split.within is Within.all else f"{split.kind}_within_subject"


@dataclass(kw_only=True, slots=True)
class EntropySplitConfig(SplitConfig):
    """Quantiles of an estimate over the training rows (paper: 25 / 50 / 25).

    `within=subject` takes them inside each subject, since a cut over all of them also selects
    subjects.
    """

    kind: str = "entropy"
    estimator: Text = "answer_entropy"
    quantiles: list[Share] = field(default_factory=lambda: [0.25, 0.75])
    within: Within = Within.all

    def __post_init__(self) -> None:
        SplitConfig.__post_init__(self)
        find_estimator("split.estimator", self.estimator)
        refuse_unordered("split.quantiles", self.quantiles, self.classes)

    @property
    def strategy(self) -> str:
        """`entropy` or `entropy_within_subject`."""
        return name_strategy(self)


@dataclass(kw_only=True, slots=True)
class SampledSplitConfig(EntropySplitConfig):
    """Classes of the same sizes, drawn so that a harder question is likelier to be in a harder one.

    The hardest class is drawn without replacement, each draw with probability proportional to
    exp(rank / temperature) among the questions that are left; `rank` goes from 0 for the lowest
    estimate to 1 for the highest. Near 0 this is the cut at the quantiles, at infinity uniform
    random routing. Held-out questions are placed by the cut.
    """

    kind: str = "sampled"
    temperature: Positive = 0.3

    @property
    def strategy(self) -> str:
        """Such as `sampled_0.3`."""
        return f"{name_strategy(self)}_{self.temperature:g}"


@dataclass(kw_only=True, slots=True)
class ThresholdSplitConfig(SplitConfig):
    """Absolute cut points in the estimate's own unit (nats for entropies)."""

    kind: str = "entropy_threshold"
    estimator: Text = "answer_entropy"
    thresholds: list[Finite] = field(default_factory=lambda: [0.5, 1.5])

    def __post_init__(self) -> None:
        SplitConfig.__post_init__(self)
        find_estimator("split.estimator", self.estimator)
        refuse_unordered("split.thresholds", self.thresholds, self.classes)


@dataclass(kw_only=True, slots=True)
class RandomSplitConfig(SplitConfig):
    """The control: classes drawn by the run's seed, at the cost of routing by an estimate.

    The routing that sets the budget of match=calls and match=tokens: the cut of the estimate
    `reference`, `within` each subject or over all, or drawn from it at a `temperature`. `pool` is
    for methods that rescore (see `caft.pipeline.rescoring.move_at_random`).
    """

    kind: str = "random"
    quantiles: list[Share] = field(default_factory=lambda: [0.25, 0.75])
    match: Match = Match.sizes
    reference: Text = "answer_entropy"
    within: Within = Within.all
    temperature: Positive | None = None
    pool: Count | None = None

    @property
    def strategy(self) -> str:
        """`random`, `random_calls` or `random_tokens`."""
        return self.kind if self.match is Match.sizes else f"{self.kind}_{self.match.value}"

    def __post_init__(self) -> None:
        SplitConfig.__post_init__(self)
        find_estimator("split.reference", self.reference)
        refuse_unordered("split.quantiles", self.quantiles, self.classes)
        if self.match is Match.sizes:
            self._refuse_rule_without_budget()

    def _refuse_rule_without_budget(self) -> None:
        """UserError where a rule is described whose budget nothing uses."""
        usual = {"reference": STAND_IN, "within": Within.all, "temperature": None}
        for name, value in usual.items():
            given = getattr(self, name)
            if given != value:
                given = given.value if isinstance(given, Within) else given
                raise UserError(
                    f"split.{name}={given} does nothing with split=random split.match=sizes: it "
                    "describes the rule whose budget a random split has; add split.match=calls or "
                    f"split.match=tokens, or leave out split.{name}"
                )

    @property
    def budget_of(self) -> EntropySplitConfig:
        """The split whose cost is the budget."""
        make: Callable[..., EntropySplitConfig] = EntropySplitConfig
        if self.temperature is not None:
            make = partial(SampledSplitConfig, temperature=self.temperature)
        return make(
            classes=self.classes,
            estimator=self.reference,
            quantiles=self.quantiles,
            within=self.within,
        )
