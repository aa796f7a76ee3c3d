"""Accuracy of a sweep's settings against what they cost, and against where classes are cut."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from caft.report.figures import Figure
from caft.report.sweep.schema import ArmPart
from caft.report.wording import name_estimator, percent_between, unit_of
from caft.statistics import pareto_front

_Numbered = tuple[int, ArmPart]
_BOUGHT = (("teacher_tokens", "teacher tokens"), ("teacher_calls", "teacher calls"))
_FREE = (
    ("unique_rationale_tokens", "rationale tokens"),
    ("rationales_asked", "rationales asked for"),
)
_ALWAYS = (("trained_total_tokens", "trained tokens"), ("teacher_usd", "USD"))


def draw_sweep(arms: Sequence[ArmPart]) -> list[Figure]:
    """The figures whose numbers differ between the arms."""
    # Solutions that come with the data are free: they are counted in the student's tokens.
    of_teacher = _BOUGHT if any(arm["cost"]["teacher_calls"] for arm in arms) else _FREE
    figures = (draw_pareto(arms, (*of_teacher, *_ALWAYS)), draw_cut_points(arms))
    return [figure for figure in figures if figure]


def draw_pareto(arms: Sequence[ArmPart], ways: Sequence[tuple[str, str]]) -> Figure | None:
    """A panel for every way (key of `cost`, words) in which the arms differ; None without any."""
    shown = [(key, words) for key, words in ways if len({arm["cost"][key] for arm in arms}) > 1]
    if not shown:
        return None
    return Figure(
        key="pareto",
        heading="Accuracy against what it cost",
        note="Numbers are those of the table of settings; whiskers are the intervals. Filled: "
        "no other setting is as accurate for less. The line joins these.",
        panels=tuple(_draw_price(arms, key, words) for key, words in shown),
        columns=("setting", "accuracy", *(words for _, words in shown)),
        rows=tuple(
            (*_name_arm(number, arm), *(f"{arm['cost'][key]:,.6g}" for key, _ in shown))
            for number, arm in enumerate(arms, start=1)
        ),
        legend=(("front", "on the front, filled"), ("behind", "not on the front, hollow")),
    )


def _name_arm(number: int, arm: ArmPart) -> tuple[str, str]:
    return f"{number}. {arm['name']}", percent_between(arm["accuracy"])


def _draw_price(arms: Sequence[ArmPart], key: str, words: str) -> Markup:
    from caft.report.charts.drawing import COUNT
    from caft.report.charts.panels import draw_arms

    prices = [arm["cost"][key] for arm in arms]
    front = pareto_front([(arm["cost"][key], arm["accuracy"]["value"]) for arm in arms])
    marks = [
        {**arm["accuracy"], "x": price, "number": place + 1,
         "line": "front" if place in front else None,
         "hover": f"{arm['name']}: {percent_between(arm['accuracy'])}, {price:,.6g} {words}"}
        for place, (arm, price) in enumerate(zip(arms, prices, strict=True))
    ]  # fmt: skip
    names = ", ".join(arms[place]["name"] for place in front)
    text = f"On the front, by rising price: {names}. The numbers follow as a table."
    key = f"pareto-{key.replace('_', '-')}"
    return draw_arms(key, text, marks, axis=words, domain=(0, max(prices)), labels=COUNT)


def draw_cut_points(arms: Sequence[ArmPart]) -> Figure | None:
    """A panel for each estimate and cut point of which several values were tried; None without."""
    by_measure: dict[str, list[_Numbered]] = {}
    for number, arm in enumerate(arms, start=1):
        if arm["thresholds"]:
            by_measure.setdefault(_name_measure(arm), []).append((number, arm))
    panels: list[Markup] = []
    rows: list[tuple[str, ...]] = []
    for measure, of_measure in by_measure.items():
        count = len(of_measure[0][1]["thresholds"])
        alike = [(number, arm) for number, arm in of_measure if len(arm["thresholds"]) == count]
        tried = zip(*(arm["thresholds"] for _, arm in alike), strict=True)
        varied = [k for k, cuts in enumerate(tried) if len({round(cut, 9) for cut in cuts}) > 1]
        for k in varied:
            panels.append(_draw_cut(alike, k, measure, f"cuts-{len(panels) + 1}"))
        for number, arm in alike if varied else ():
            values = (f"{cut:.4g}" for cut in arm["thresholds"])
            rows.append((*_name_arm(number, arm), measure, *values))
    if not panels:
        return None
    width = max(map(len, rows))
    cuts = (f"cut point {k + 1}" for k in range(width - 3))
    return Figure(
        key="cuts",
        heading="Accuracy against the cut points",
        note="One panel for each estimate and cut point, one line a method; numbers are those of "
        "the table of settings, whiskers the intervals.",
        panels=tuple(panels),
        columns=("setting", "accuracy", "estimate", *cuts),
        rows=tuple((*row, *[""] * (width - len(row))) for row in rows),
    )


def _name_measure(arm: ArmPart) -> str:
    """Such as "answer entropy, nats": numbers of two measures share no axis."""
    if arm["estimator"] is None:
        return "estimate"  # an older summary may not name it
    return ", ".join(filter(None, (name_estimator(arm["estimator"]), unit_of(arm["estimator"]))))


def _draw_cut(arms: Sequence[_Numbered], k: int, measure: str, key: str) -> Markup:
    from caft.report.charts.drawing import NUMBER
    from caft.report.charts.panels import draw_arms

    cuts = [arm["thresholds"][k] for _, arm in arms]
    marks = [
        {**arm["accuracy"], "x": cut, "number": number, "line": arm["method"],
         "hover": f"{arm['name']}, cut at {cut:.4g}: {percent_between(arm['accuracy'])}"}
        for (number, arm), cut in zip(arms, cuts, strict=True)
    ]  # fmt: skip
    text = "; ".join(str(mark["hover"]) for mark in marks)
    axis = f"cut point {k + 1}, {measure}"
    return draw_arms(key, text, marks, axis=axis, domain=(min(cuts), max(cuts)), labels=NUMBER)
