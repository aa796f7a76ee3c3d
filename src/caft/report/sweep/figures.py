"""Accuracy of a sweep's settings against what they cost, and against where classes are cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from caft.report.figures import Figure
from caft.report.schema import drawn_at_random
from caft.report.sweep.arms import are_close
from caft.report.sweep.schema import ArmPart
from caft.report.wording import name_estimator, percent_between, unit_of, write_number
from caft.statistics import pareto_front

_BOUGHT = (("teacher_tokens", "teacher tokens"), ("teacher_calls", "teacher calls"))
_FREE = (
    ("unique_rationale_tokens", "rationale tokens"),
    ("rationales_asked", "rationales requested"),
)
_ALWAYS = (("trained_total_tokens", "trained tokens"), ("usd", "cost, USD"))
_LONG = 30  # characters of a name that a plot shows whole
_UNNAMED = (
    "Names leave out what settings share; whole names, and those of points without one, are under "
    "the pointer and in the table."
)


def draw_sweep(arms: Sequence[ArmPart]) -> list[Figure]:
    """The figures whose numbers differ between the arms."""
    # Solutions that come with the data are free: they are counted in the student's tokens.
    of_teacher = _BOUGHT if any(arm["cost"]["teacher_calls"] for arm in arms) else _FREE
    figures = (
        draw_pareto(arms, (*of_teacher, *_ALWAYS)),
        draw_cut_points(arms),
    )
    return [figure for figure in figures if figure]


def name_briefly(names: Sequence[str]) -> list[str]:
    """The parts of each name that not all have; of long names, those that most do not have."""
    parts = [[part.removeprefix("split.") for part in name.split(", ")] for name in names]
    counts = Counter(part for own in parts for part in dict.fromkeys(own))
    for part, count in counts.most_common():
        long = max(len(", ".join(own)) for own in parts) > _LONG
        left = [[each for each in own if each != part] for own in parts]
        distinct = all(left) and len({*map(tuple, left)}) == len(names)
        if distinct and (count == len(names) or (long and count > len(names) / 2)):
            parts = left
    return [", ".join(own) for own in parts]


def draw_pareto(arms: Sequence[ArmPart], ways: Sequence[tuple[str, str]]) -> Figure | None:
    """A panel for every way (key of `cost`, words) in which budgets differ; None without any."""
    shown = [(key, words) for key, words in ways if _differ([arm["cost"][key] for arm in arms])]
    if not shown:
        return None
    at_random = any(map(_is_random, arms))
    of_random = [("random", "random routing, a diamond, its interval shaded")] if at_random else []
    return Figure(
        key="pareto",
        heading="Accuracy against cost",
        note="Whiskers are the intervals. Each setting is in the mode that its validation "
        "questions chose; a test of routing compares two settings in one mode. Pareto-optimal: no "
        f"other setting is as accurate for less. The line joins these. {_UNNAMED}",
        panels=tuple(_draw_price(arms, key, words) for key, words in shown),
        columns=("setting", "accuracy", *(words for _, words in shown)),
        rows=tuple(
            (*_name_arm(arm), *(f"{arm['cost'][key]:,.6g}" for key, _ in shown)) for arm in arms
        ),
        legend=(("front", "Pareto-optimal, filled"), ("behind", "dominated, hollow"), *of_random),
    )


def _differ(prices: Sequence[float]) -> bool:
    return bool(prices) and not are_close(min(prices), max(prices))


def _name_arm(arm: ArmPart) -> tuple[str, str]:
    return arm["name"], percent_between(arm["accuracy"])


def _is_random(arm: ArmPart) -> bool:
    return drawn_at_random(arm["strategy"])


def _draw_price(arms: Sequence[ArmPart], key: str, words: str) -> Markup:
    from caft.report.charts.arms import draw_arms
    from caft.report.charts.drawing import COUNT

    prices = [arm["cost"][key] for arm in arms]
    front = pareto_front([(arm["cost"][key], arm["accuracy"]["value"]) for arm in arms])
    brief = name_briefly([arm["name"] for arm in arms])
    marks = [
        {**arm["accuracy"], "x": price, "name": brief[place],
         "line": "front" if place in front else None, "random": _is_random(arm),
         "hover": f"{arm['name']}: {percent_between(arm['accuracy'])}, {price:,.6g} {words}"}
        for place, (arm, price) in enumerate(zip(arms, prices, strict=True))
    ]  # fmt: skip
    names = ", ".join(arms[place]["name"] for place in front)
    text = f"Pareto-optimal, by rising cost: {names}. The numbers follow as a table."
    key = f"pareto-{key.replace('_', '-')}"
    low, high = domain = _span_prices(prices)
    return draw_arms(key, text, marks, axis=words, domain=domain, labels=COUNT,
                     bands=_shade_random(arms, prices, 0.04 * (high - low)))  # fmt: skip


def _span_prices(prices: Sequence[float]) -> tuple[float, float]:
    """From 0, unless all are above half of the highest: budgets that are nearly equal."""
    low, high = min(prices), max(prices)
    return (low - 0.2 * (high - low) if low > high / 2 else 0.0), high


def _shade_random(
    arms: Sequence[ArmPart], prices: Sequence[float], beside: float
) -> list[dict[str, object]]:
    """Corners of a band for the random arms that differ in nothing but their split.

    It is straight between their prices, and ends a little `beside` the first and the last.
    """
    controls: dict[str, list[tuple[float, ArmPart]]] = {}
    for price, arm in zip(prices, arms, strict=True):
        if _is_random(arm):
            others = [f"{name}={value}" for name, value in arm["settings"].items()
                      if name.partition(".")[0] != "split"]  # fmt: skip
            controls.setdefault(", ".join([arm["method"], *others]), []).append((price, arm))
    corners: list[dict[str, object]] = []
    for band, points in controls.items():
        points.sort(key=lambda point: point[0])
        (first, left), (last, right) = points[0], points[-1]
        ends = [(max(0.0, first - beside), left), *points, (min(last + beside, max(prices)), right)]
        corners += [{"band": band, "x": x, **arm["accuracy"]} for x, arm in ends]
    return corners


def draw_cut_points(arms: Sequence[ArmPart]) -> Figure | None:
    """A panel for each estimate and cut point of which several values were tried; None without."""
    by_measure: dict[str, list[ArmPart]] = {}
    for arm in arms:
        if arm["thresholds"]:
            by_measure.setdefault(_name_measure(arm), []).append(arm)
    panels: list[Markup] = []
    rows: list[tuple[str, ...]] = []
    for measure, of_measure in by_measure.items():
        count = len(of_measure[0]["thresholds"])
        alike = [arm for arm in of_measure if len(arm["thresholds"]) == count]
        tried = zip(*(arm["thresholds"] for arm in alike), strict=True)
        varied = [k for k, cuts in enumerate(tried) if len({round(cut, 9) for cut in cuts}) > 1]
        for k in varied:
            panels.append(_draw_cut(alike, k, measure, f"cuts-{len(panels) + 1}"))
        for arm in alike if varied else ():
            values = map(write_number, arm["thresholds"])
            rows.append((*_name_arm(arm), measure, *values))
    if not panels:
        return None
    width = max(map(len, rows))
    cuts = (f"cut point {k + 1}" for k in range(width - 3))
    return Figure(
        key="cuts",
        heading="Accuracy against the cut points",
        note="One panel for each estimate and cut point, one line for each method; whiskers are "
        f"the intervals. {_UNNAMED}",
        panels=tuple(panels),
        columns=("setting", "accuracy", "estimate", *cuts),
        rows=tuple((*row, *[""] * (width - len(row))) for row in rows),
    )


def _name_measure(arm: ArmPart) -> str:
    """Such as "answer entropy, nats": numbers of two measures share no axis."""
    if arm["estimator"] is None:
        return "estimate"  # an older summary may not name it
    return ", ".join(filter(None, (name_estimator(arm["estimator"]), unit_of(arm["estimator"]))))


def _draw_cut(arms: Sequence[ArmPart], k: int, measure: str, key: str) -> Markup:
    from caft.report.charts.arms import draw_arms
    from caft.report.charts.drawing import NUMBER

    cuts = [arm["thresholds"][k] for arm in arms]
    brief = name_briefly([arm["name"] for arm in arms])
    marks = [
        {**arm["accuracy"], "x": cut, "name": name, "line": arm["method"],
         "hover": f"{arm['name']}, cut at {write_number(cut)}: {percent_between(arm['accuracy'])}"}
        for arm, name, cut in zip(arms, brief, cuts, strict=True)
    ]  # fmt: skip
    text = "; ".join(str(mark["hover"]) for mark in marks)
    axis = f"cut point {k + 1}, {measure}"
    return draw_arms(key, text, marks, axis=axis, domain=(min(cuts), max(cuts)), labels=NUMBER)
