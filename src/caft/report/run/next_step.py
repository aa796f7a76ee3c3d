"""What to run after a run, as a command that can be pasted. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from caft.estimators import ESTIMATORS, STAND_IN, Need
from caft.program import name_command
from caft.records import Target
from caft.report.schema import MethodPart, SplitPart, Summary, drawn_at_random
from caft.statistics import FEWEST_SEEDS

_GOES_ON = " \\"
_SEEDS = ",".join(map(str, range(1, FEWEST_SEEDS + 1)))
# They say where a run stops, where it runs or what it is part of, and not what it does. Several
# nodes need a launcher, which is not in the overrides.
_OF_THIS_RUN = ("until", "dry_run", "name", "multirun_sweeps", "trainer.num_nodes")
# A share that holds none of a million questions.
_NO_QUESTION = 1e-6
_TAUGHT = {target.name for target in Target if target.taught}
_SHARED_DIALS = ("classes", "quantiles")
_BUDGET_DIALS = ("within", "temperature")


@dataclass(frozen=True, slots=True)
class Step:
    """A reason, and the command that follows from it."""

    why: str
    command: str


def rerun(summary: Summary, *changes: str, without: Sequence[str] = ()) -> str:
    """The run's own command with `changes`, without the groups and keys that are named.

    A change of a key replaces the run's own value. `without=("split",)` leaves out split.* as well.
    """
    replaced = {_key(change) for change in changes} | {*_OF_THIS_RUN, *without}
    kept = [
        override
        for override in summary["run"]["overrides"]
        if not any(_key(override) == key or _key(override).startswith(f"{key}.") for key in replaced
                   if not key.startswith("-"))
    ]  # fmt: skip
    flags = [change for change in changes if change.startswith("-")]
    words = [*flags, *kept, *(change for change in changes if change not in flags)]
    return " ".join([name_command(), *map(shlex.quote, words)])


def repeat_with_seeds(summary: Summary, *changes: str) -> str:
    """The run under as many seeds as a verdict needs."""
    return rerun(summary, "-m", *changes, f"seed={_SEEDS}", without=("hydra",))


def compare_with_control(summary: Summary) -> str:
    """A sweep of the run's own routing and its random control, equal in all else.

    They have an equal budget of teacher calls, or where nothing is bought for one class alone,
    classes of equal sizes. Beside a method that rescores its classes stands the one that does not,
    with the control: that of the rescored one needs the mean number of questions that it asked
    for, which the sweep's report gives (`split.pool`).
    """
    split = summary["split"]
    assert split is not None, "a run that has tuned has split its questions"
    own, control = _own_rule(summary, split), _control(summary, split)
    stages = enumerate(summary["method"]["stages"])
    on = list(dict.fromkeys(
        stage["rescored"].get("dial", f"method.stages.{number}.rescore=true")
        for number, stage in stages if "rescored" in stage
    ))  # fmt: skip
    dials = [_key(dial) for dial in on]
    off = [f"{dial}=false" for dial in dials]
    if any(_key(word) == "split.pool" for word in control):
        cases = [[*own, *on], [*control, *on]]
    else:
        cases = [[*own, *on], *([[*own, *off]] if dials else []), [*control, *off]]
    written = ",".join(f"[{','.join(map(_quote, case))}]" for case in cases)
    return rerun(
        summary,
        "-m",
        f"hydra.sweeper.cases=[{written}]",
        f"seed={_SEEDS}",
        without=("split", "hydra", *dials),
    )


def fold(command: str, width: int) -> list[str]:
    """The command in lines of at most `width` characters that a shell reads as the one command."""
    lines, line = [], ""
    for word in shlex.split(command):
        first, *rest = _break(word, width - len(_GOES_ON))
        if line and len(line) + 1 + len(first) + len(_GOES_ON) > width:
            lines.append(line + _GOES_ON)
            line = first
        else:
            line = f"{line} {first}" if line else first
        for piece in rest:
            # No space before the backslash: the pieces are one word.
            lines.append(f"{line}\\")
            line = piece
    return [*lines, line]


def _break(word: str, width: int) -> list[str]:
    """A word in quoted pieces, each of at most `width` characters."""
    size = len(word)
    while size > 1:
        pieces = [shlex.quote(word[start : start + size]) for start in range(0, len(word), size)]
        if max(map(len, pieces)) <= width:
            return pieces
        size = size * 3 // 4
    return [shlex.quote(word)]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~").partition("@")[0]


def _quote(override: str) -> str:
    escaped = override.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _own_dials(summary: Summary) -> dict[str, str]:
    """The run's own overrides of split.*, by the last part of their key."""
    words = (
        override for override in summary["run"]["overrides"] if _key(override).startswith("split.")
    )
    return {_key(word).removeprefix("split."): word.partition("=")[2] for word in words}


def _own_rule(summary: Summary, split: SplitPart) -> list[str]:
    """What routes: this run's split, or the one whose budget it has if it is a control itself."""
    if drawn_at_random(split["strategy"]):
        own = {name: value for name, value in _own_dials(summary).items() if value != "null"}
        dials = {name: own[name] for name in (*_SHARED_DIALS, *_BUDGET_DIALS) if name in own}
        if "reference" in own:
            dials["estimator"] = own["reference"]
        kind = "sampled" if "temperature" in own else "entropy"
        return [f"split={kind}", *_write_dials(dials)]
    kinds = ("sampled", "entropy_threshold", "entropy")
    kind = next(kind for kind in kinds if split["strategy"].startswith(kind))
    return [f"split={kind}", *_write_dials(_own_dials(summary))]


def _control(summary: Summary, split: SplitPart) -> list[str]:
    own = _own_dials(summary)
    if drawn_at_random(split["strategy"]):
        return ["split=random", *_write_dials(own)]
    dials = {name: own[name] for name in _SHARED_DIALS if name in own}
    shares = _class_shares(split)
    if "thresholds" in own or split["strategy"].startswith("entropy_threshold"):
        dials["quantiles"] = f"[{','.join(f'{share:.7g}' for share in shares)}]"
    estimator = split.get("estimator") or STAND_IN
    if _buys_for_one_class(summary["method"], estimator):
        dials |= {"match": "calls"} | {name: own[name] for name in _BUDGET_DIALS if name in own}
        kind, _, temperature = split["strategy"].rpartition("_")
        if kind.startswith("sampled"):
            dials["temperature"] = temperature
        if estimator != STAND_IN:
            dials["reference"] = estimator
    return ["split=random", *_write_dials(dials)]


def _write_dials(dials: Mapping[str, str]) -> Iterator[str]:
    return (f"split.{name}={value}" for name, value in dials.items())


def _class_shares(split: SplitPart) -> list[float]:
    """The shares of training questions below each cut; they rise past an empty class, too."""
    sizes = list(split["counts"].values())
    shares: list[float] = []
    for count in accumulate(sizes[:-1]):
        least = shares[-1] + _NO_QUESTION if shares else 0.0
        shares.append(max(count / sum(sizes), least))
    return shares


def _buys_for_one_class(method: MethodPart, estimator: str) -> bool:
    """Whether an equal budget can be had: see `find_matched_budget`, which refuses the others."""
    # A class may have several targets, such as "rationale 0.7 + answer 0.3".
    bought = {
        (name, word)
        for stage in method["stages"]
        for name, told in stage["targets"].items()
        for word in told.split()
        if word in _TAUGHT
    }
    drawn = any(stage.get("draw") for stage in method["stages"])
    asks_for_all = ESTIMATORS[estimator].need is Need.rationale
    return len(bought) == 1 and not drawn and not asks_for_all
