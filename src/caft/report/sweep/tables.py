"""The tables of a sweep's report, as texts with their values. Page, Markdown and W&B print them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from caft.records import Mode
from caft.report.schema import Area, Share
from caft.report.sweep.job_results import FINISHED
from caft.report.sweep.schema import (
    ArmPart,
    ComparisonPart,
    JobPart,
    RoutingTestPart,
    SavingsPart,
)
from caft.report.wording import duration, p_in_words, percent, points_between, short_count, usd

Item = TypeVar("Item")
Value = TypeVar("Value", float, int)


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, the `value` that it is sorted by, if not itself, and an `aside` such as an interval.

    `style` is the page's class of the text, `tag` a word that marks the whole row, `link` an
    address.
    """

    text: str
    value: float | str | None = None
    aside: str = ""
    style: str = ""
    tag: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """Its `kind` is "text", "number", "place" (a short number) or "head" (it names the row)."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one cell a column; `label` names what is in the rows."""

    label: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    def select(self, *names: str) -> Table:
        """The columns of these names, in their order."""
        known = [column.name for column in self.columns]
        places = [known.index(name) for name in names]
        rows = [[row[place] for place in places] for row in self.rows]
        return Table(self.label, [self.columns[place] for place in places], rows)


def _tabulate(
    label: str, items: Sequence[Item], *columns: tuple[str, str, Callable[[Item], Cell | str]]
) -> Table:
    cells = [[write(item) for _, _, write in columns] for item in items]
    rows = [[Cell(cell) if isinstance(cell, str) else cell for cell in row] for row in cells]
    return Table(label, [Column(name, kind) for name, kind, _ in columns], rows)


def _cell(value: float | None, write: Callable[[float], str], missing: str = "") -> Cell:
    if value is None:
        return Cell(missing, "", style="soft" if missing else "")
    return Cell(write(value), value)


def _share(share: Share | None) -> Cell:
    if share is None:
        return Cell("", "")
    bounds = f"{100 * share['low']:.1f} to {100 * share['high']:.1f}"
    return Cell(percent(share["value"]), share["value"], bounds)


def tabulate_arms(arms: Sequence[ArmPart]) -> Table:
    """Every setting with its accuracy, its modes, what it took and where it was cut."""
    number_of = {arm["name"]: number for number, arm in enumerate(arms, start=1)}
    return _tabulate(
        "Settings with their accuracy",
        arms,
        ("no.", "place", lambda arm: str(number_of[arm["name"]])),
        ("setting", "head", lambda arm: arm["name"]),
        ("seeds", "number", lambda arm: str(len(arm["seeds"]))),
        ("accuracy", "text", lambda arm: _share(arm["accuracy"])),
        ("over seeds", "text", lambda arm: _spread(arm["over_seeds"])),
        ("mode", "text", lambda arm: ", ".join(arm["modes"])),
        ("tokens a question", "number", lambda arm: f"{arm['tokens_a_question']:.1f}"),
        *((f"{mode} mode", "number", partial(_share_in, mode)) for mode in list_modes(arms)),
        ("rationales", "number", lambda arm: f"{arm['cost']['rationales_kept']:,.0f}"),
        ("trained tokens", "number", lambda arm: f"{arm['cost']['trained_total_tokens']:,.0f}"),
        ("USD", "number", lambda arm: usd(arm["cost"]["teacher_usd"])),
        ("cut points", "text", lambda arm: ", ".join(f"{cut:.3g}" for cut in arm["thresholds"])),
    )


def list_modes(arms: Sequence[ArmPart]) -> list[str]:
    """The modes that any setting was examined in."""
    known = {mode for arm in arms for mode in arm["by_mode"]}
    return [mode.name for mode in Mode if mode.name in known]


def _spread(share: Share | None) -> Cell:
    if share is None:
        return Cell("one seed", "", style="soft")
    return replace(_share(share), text="", value=share["high"] - share["low"])


def _share_in(mode: str, arm: ArmPart) -> Cell:
    return _cell(arm["by_mode"].get(mode), percent, "none")


def tabulate_tests(tests: Sequence[RoutingTestPart]) -> Table:
    """The routed settings against their random controls."""
    return _tabulate(
        "Routed settings against random ones",
        tests,
        ("routed", "head", lambda test: test["second"]),
        ("random", "text", lambda test: test["first"]),
        ("equal in", "text", lambda test: ", ".join(test["equal_in"])),
        ("mode", "text", lambda test: test["mode"] or ""),
        ("routed minus random", "text", lambda test: Cell(points_between(test), test["value"])),
        ("seeds", "number", lambda test: str(test["seeds"])),
        ("p, Holm", "number", lambda test: _cell(test["p_adjusted"], p_in_words)),
        ("better?", "text", lambda test: test["verdict"]),
    )


def tabulate_comparisons(pairs: Sequence[ComparisonPart]) -> Table:
    """Every two settings against each other, the clearest difference first."""
    return _tabulate(
        "Pairs of settings",
        sorted(pairs, key=lambda pair: pair["p_adjusted"]),
        ("first", "head", lambda pair: pair["first"]),
        ("second", "text", lambda pair: pair["second"]),
        ("mode", "text", lambda pair: pair["mode"] or "each its own"),
        ("second minus first", "text", lambda pair: Cell(
            points_between(pair), pair["value"], tag="clear" if pair["clear"] else "")),
        ("only first right", "number", lambda pair: str(pair["only_first"])),
        ("only second right", "number", lambda pair: str(pair["only_second"])),
        ("p", "number", lambda pair: _cell(pair["p_value"], p_in_words)),
        ("p, Holm", "number", lambda pair: _cell(pair["p_adjusted"], p_in_words)),
        ("detectable", "number", lambda pair: _cell(
            pair["detectable"], lambda gap: f"{100 * gap:.1f} points", "none")),
    )  # fmt: skip


def tabulate_savings(savings: SavingsPart, arms: Sequence[ArmPart]) -> Table:
    """What every setting cost, by way of counting, and what that saves against the reference."""

    def write(key: str, arm: ArmPart) -> Cell:
        name, count = arm["name"], savings["counts"][key]
        amount, saved = count["amounts"][name], count["saved"][name]
        text = usd(amount) if key == "teacher_usd" else short_count(amount)
        return Cell(text, amount, f"{-100 * saved:+.1f}%" if saved else "")

    counts = savings["counts"].items()
    return _tabulate(
        "Cost of every setting",
        arms,
        ("setting", "head", lambda arm: arm["name"]),
        *((count["name"], "number", partial(write, key)) for key, count in counts),
    )


def tabulate_jobs(jobs: Sequence[JobPart], address_of: Mapping[str, str]) -> Table:
    """Every job, finished or not; `address_of` goes by folder."""
    keys = dict.fromkeys(key for job in jobs for key in job["settings"])
    return _tabulate(
        "Jobs of the sweep",
        jobs,
        ("job", "head", lambda job: Cell(
            str(job["number"]), job["number"], link=address_of.get(job["folder"], ""))),
        ("state", "text", _state),
        *((key, "text", partial(_setting, key)) for key in keys),
        ("seed", "number", lambda job: "" if job["seed"] is None else str(job["seed"])),
        ("accuracy", "text", lambda job: _share(job["accuracy"])),
        ("mode", "text", lambda job: job["mode"] or ""),
        ("ROC AUC", "text", lambda job: _area(job["roc_auc"])),
        ("rationales", "number",
         lambda job: f"{job['cost']['rationales_kept']:,.0f}" if job["cost"] else ""),
        ("USD", "number", lambda job: _cell((job["cost"] or {}).get("teacher_usd"), usd)),
        ("time", "number", lambda job: _cell(job["seconds"], duration)),
    )  # fmt: skip


def _setting(key: str, job: JobPart) -> str:
    return job["settings"].get(key, "")


def _state(job: JobPart) -> Cell:
    text = ": ".join(filter(None, (job["state"], job["error"])))
    return Cell(text, style="" if job["state"] == FINISHED else "state")


def _area(area: Area | None) -> Cell:
    if not area or area["value"] is None:
        return Cell("none" if area else "", "")
    return Cell(f"{area['value']:.3f}", area["value"], f"{area['low']:.3f} to {area['high']:.3f}")
