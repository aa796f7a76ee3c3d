"""A sweep's report as one HTML page. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from caft.records import Mode
from caft.report import wording
from caft.report.figures import CutArm, Figure, PricedArm, draw_cut_points, draw_pareto
from caft.report.page import render_page
from caft.report.sweep.summary import SweepResults
from caft.statistics import ALPHA

_BOUGHT = (("teacher_tokens", "teacher tokens"), ("teacher_calls", "teacher calls"))
_FREE = (
    ("unique_rationale_tokens", "rationale tokens"),
    ("rationales_asked", "rationales asked for"),
)
_ALWAYS = (("trained_total_tokens", "trained tokens"), ("teacher_usd", "USD"))


def render_sweep(found: SweepResults, summary: Mapping[str, Any]) -> str:
    """The page of a sweep; `summary` is the one that `summarise_sweep` made of `found`."""
    arms = summary["arms"]
    values = {
        "title": summary["name"],
        "summary": summary,
        "headlines": found.answers,
        "warnings": found.warnings,
        "advice": _suggest_next(found, summary),
        "number_of": {arm["name"]: number for number, arm in enumerate(arms, start=1)},
        "modes": [mode.name for mode in Mode if any(mode.name in arm["by_mode"] for arm in arms)],
        "settings": list(dict.fromkeys(key for job in summary["jobs"] for key in job["settings"])),
        "alpha": ALPHA,
        "comparisons": sorted(summary["comparisons"], key=lambda pair: pair["p_adjusted"]),
        "figures": {figure.key: figure for figure in draw_sweep(arms)},
        "address_of": {job.folder: f"{quote(job.folder, errors='replace')}/report.html"
                       for job in found.sweep.jobs if job.has_page},
        "amounts": {"teacher_usd": wording.usd},
    }  # fmt: skip
    return render_page("sweep.html.j2", ("tables.js", "values.js"), values)


def _suggest_next(found: SweepResults, summary: Mapping[str, Any]) -> str:
    if set(summary["counts"]) - {"finished"}:
        return "The same command again runs what is missing; this page may be made at any time."
    if not summary["routing"]["tests"]:
        return "Is it the routing? Run -m split=entropy,random seed=1,2,3 with the same method."
    if any(len(arm.jobs) < 3 for arm in found.arms):
        return "More seeds: the same command with seed=1,2,3,4,5 runs only what is missing."
    return "The pages of the single jobs hold their questions and replies."


def draw_sweep(arms: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Accuracy against price and against the cut points; `arms` as `describe_arm` makes them."""
    if not arms:
        return []
    priced = [
        PricedArm(number=number, name=arm["name"], accuracy=arm["accuracy"], prices=arm["cost"])
        for number, arm in enumerate(arms, start=1)
    ]
    cut = [
        CutArm(number=number, name=arm["name"], method=arm["method"],
               measure=_name_measure(arm["estimator"]), accuracy=arm["accuracy"],
               cuts=arm["thresholds"])
        for number, arm in enumerate(arms, start=1)
        if arm["thresholds"]
    ]  # fmt: skip
    # Solutions that come with the data are free: they are counted in the student's tokens.
    of_teacher = _BOUGHT if any(arm["cost"]["teacher_calls"] for arm in arms) else _FREE
    figures = (draw_pareto(priced, (*of_teacher, *_ALWAYS)), draw_cut_points(cut))
    return [figure for figure in figures if figure]


def _name_measure(estimator: str | None) -> str:
    """Such as "answer entropy, nats"; an older summary may not name its estimate."""
    if estimator is None:
        return "estimate"
    return ", ".join(filter(None, (wording.name_estimator(estimator), wording.unit_of(estimator))))
