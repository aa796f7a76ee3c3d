"""The tables of a sweep's report, as texts with their values. Page, Markdown and W&B print them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caft.records import Mode
from caft.report.cells import (
    Cell,
    Column,
    Table,
    area_cell,
    count_cell,
    points_cell,
    share_cell,
    value_cell,
    write_bounds,
)
from caft.report.parts import Share
from caft.report.schema import drawn_at_random
from caft.report.sweep.job_results import FINISHED
from caft.report.sweep.schema import (
    ArmForgettingPart,
    ArmPart,
    BasePart,
    ComparisonPart,
    JobPart,
    RoutingTestPart,
    SavingPart,
    SavingsPart,
)
from caft.report.wording import (
    count_of,
    duration,
    limit_of_p,
    p_in_words,
    percent,
    short_count,
    usd,
)


def tabulate_arms(arms: Sequence[ArmPart], bases: Sequence[BasePart] = ()) -> Table:
    """Every setting with its accuracy, its modes, its tokens and its cut points; base models first.

    What a base model has no part in is empty.
    """
    rows: list[ArmPart | BasePart] = [*bases, *arms]
    none = [""] * len(bases)
    costs = [arm["cost"] for arm in arms]
    cuts = [[f"{cut:.3g}" for cut in arm["thresholds"]] for arm in arms]
    by_mode = {mode: [row["by_mode"].get(mode) for row in rows] for mode in list_modes(rows)}
    return Table("Settings with their accuracy", [
        Column("setting", "head", [row["name"] for row in rows]),
        Column("seeds", "number", [str(len(row["seeds"])) for row in rows]),
        Column("accuracy", "text", [share_cell(row["accuracy"]) for row in rows]),
        Column("over seeds", "text",
               [*none, *(_spread(arm["over_seeds"], len(arm["seeds"])) for arm in arms)]),
        Column("mode", "text", [*(base["mode"] for base in bases),
                                *(", ".join(arm["modes"]) for arm in arms)]),
        Column("tokens per question", "number",
               [f"{row['tokens_a_question']:.1f}" for row in rows]),
        *(Column(f"{mode} mode", "number", [value_cell(share, percent, "none") for share in shares])
          for mode, shares in by_mode.items()),
        *(Column(name, "number", [*none, *(count_cell(cost[key]) for cost in costs)])
          for name, key in (("rationales", "rationales_kept"),
                            ("trained tokens", "trained_total_tokens"))),
        Column("USD", "number", [*none, *(usd(cost["usd"]) for cost in costs)]),
        Column("cut points", "text", [*none, *(", ".join(texts) for texts in cuts)]),
    ])  # fmt: skip


def list_modes(rows: Sequence[ArmPart | BasePart]) -> list[str]:
    """The modes that any setting was evaluated in."""
    known = {mode for row in rows for mode in row["by_mode"]}
    return [mode.name for mode in Mode if mode.name in known]


def _spread(share: Share | None, seeds: int) -> Cell:
    if share is None:
        return Cell(f"no interval of {count_of(seeds, 'seed')}", "", style="soft")
    return Cell("", share["high"] - share["low"], write_bounds(share))


def tabulate_classes(arms: Sequence[ArmPart]) -> Table | None:
    """Trained classes by classes of test questions; None where all arms trained the same ones.

    A random arm's classes say nothing about difficulty: it has no row.
    """
    shown = [arm for arm in arms if arm.get("by_class") and not drawn_at_random(arm["strategy"])]
    if len({tuple(sorted(arm.get("trained", {}).items())) for arm in shown}) < 2:
        return None
    names = dict.fromkeys(name for arm in shown for name in arm["by_class"])
    return Table("Accuracy by trained class and test class", [
        Column("setting", "head", [arm["name"] for arm in shown]),
        Column("trained on", "text", [_describe_trained(arm["trained"]) for arm in shown]),
        *(Column(f"on {name}", "number",
                 [value_cell(arm["by_class"].get(name), percent, "none") for arm in shown])
          for name in names),
    ])  # fmt: skip


def _describe_trained(trained: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {targets}" for name, targets in trained.items()) or "nothing"


def tabulate_tests(tests: Sequence[RoutingTestPart]) -> Table:
    """Routed settings against their random controls, ranked by accuracy under each control."""
    ways = [" and ".join(test["equal_in"]).replace("teacher ", "") for test in tests]
    budgets = [Cell(short_count(test["budget"]), test["budget"], f"equal {words}")
               for test, words in zip(tests, ways, strict=True)]  # fmt: skip
    return Table("Routed settings against random ones", [
        Column("setting", "head", [test["second"] for test in tests]),
        Column("rank", "place", [Cell(str(test["rank"]), test["rank"]) for test in tests]),
        Column("accuracy", "text",
               [Cell(percent(test["accuracy"]), test["accuracy"], f"{test['mode']} mode")
                for test in tests]),
        Column("Δ to random", "text", [points_cell(test) for test in tests]),
        Column("better?", "text", [test["verdict"] for test in tests]),
        Column("random control", "text", [test["first"] for test in tests]),
        Column("budget", "text", budgets),
        Column("seeds", "place", [str(test["seeds"]) for test in tests]),
        Column("p, Holm", "number", [_p(test, test["p_adjusted"]) for test in tests]),
        Column("MDD", "number",
               [value_cell(test["detectable"], _points, "none") for test in tests]),
    ])  # fmt: skip


def _p(gap: ComparisonPart | ArmForgettingPart, p: float) -> Cell:
    return Cell(p_in_words(p), p, limit_of_p(gap, p, gap["seeds"]))


def tabulate_comparisons(pairs: Sequence[ComparisonPart]) -> Table:
    """Every pair of settings, the clearest difference first."""
    pairs = sorted(pairs, key=lambda pair: pair["p_adjusted"])
    gaps = [points_cell(pair, tag="clear" if pair["clear"] else "") for pair in pairs]
    return Table("Pairs of settings", [
        Column("first", "head", [pair["first"] for pair in pairs]),
        Column("second", "text", [pair["second"] for pair in pairs]),
        Column("mode", "text", [pair["mode"] or "each its own" for pair in pairs]),
        Column("Δ, second to first", "text", gaps),
        Column("only first correct", "number", [str(pair["only_first"]) for pair in pairs]),
        Column("only second correct", "number", [str(pair["only_second"]) for pair in pairs]),
        Column("p", "number", [_p(pair, pair["p_value"]) for pair in pairs]),
        Column("p, Holm", "number", [_p(pair, pair["p_adjusted"]) for pair in pairs]),
        Column("MDD", "number",
               [value_cell(pair["detectable"], _points, "none") for pair in pairs]),
    ])  # fmt: skip


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def tabulate_savings(savings: SavingsPart, arms: Sequence[ArmPart]) -> Table:
    """The cost of every setting by way of counting, with its savings and its loss of accuracy."""
    names = [arm["name"] for arm in arms]
    losses = {loss["arm"]: loss for loss in savings["losses"]}
    gaps = [losses.get(name) for name in names]
    return Table("Cost of every setting", [
        Column("setting", "head", names),
        *(Column(count["name"], "number", [_amount(key, count, name) for name in names])
          for key, count in savings["counts"].items()),
        *([Column("loss of accuracy", "text",
                  [points_cell(gap) if gap else "" for gap in gaps]),
           Column("keeps up?", "text", [gap["verdict"] if gap else "" for gap in gaps])]
          if losses else []),
    ])  # fmt: skip


def _amount(key: str, count: SavingPart, arm: str) -> Cell:
    amount, saved = count["amounts"][arm], count["saved"][arm]
    text = usd(amount) if key == "usd" else short_count(amount)
    return Cell(text, amount, f"{-100 * saved:+.1f}%" if saved else "")


def tabulate_forgetting(parts: Sequence[ArmForgettingPart]) -> Table:
    """What every setting changed on further data sets."""
    return Table("Forgetting", [
        Column("setting", "head", [part["arm"] for part in parts]),
        Column("data set", "text", [part["dataset"] for part in parts]),
        Column("mode", "text", [part["mode"] for part in parts]),
        Column("seeds", "number", [str(part["seeds"]) for part in parts]),
        Column("base", "number", [value_cell(part["base"], percent) for part in parts]),
        Column("tuned", "number", [value_cell(part["tuned"], percent) for part in parts]),
        Column("change", "text", [points_cell(part) for part in parts]),
        Column("p, Holm", "number", [_p(part, part["p_adjusted"]) for part in parts]),
        Column("forgotten?", "text", [part["verdict"] for part in parts]),
    ])  # fmt: skip


def tabulate_jobs(jobs: Sequence[JobPart], address_of: Mapping[str, str]) -> Table:
    """Every job, finished or not; `address_of` is by folder."""
    keys = dict.fromkeys(key for job in jobs for key in job["settings"])
    numbers = [Cell(str(job["number"]), job["number"], link=address_of.get(job["folder"], ""))
               for job in jobs]  # fmt: skip
    costs = [job["cost"] or {} for job in jobs]
    return Table("Jobs of the sweep", [
        Column("job", "head", numbers),
        Column("state", "text", [_state(job) for job in jobs]),
        *(Column(key, "text", [job["settings"].get(key, "") for job in jobs]) for key in keys),
        Column("seed", "number", ["" if job["seed"] is None else str(job["seed"]) for job in jobs]),
        Column("accuracy", "text", [share_cell(job["accuracy"]) for job in jobs]),
        Column("mode", "text", [job["mode"] or "" for job in jobs]),
        Column("ROC AUC", "text", [area_cell(job["roc_auc"]) for job in jobs]),
        Column("rationales", "number", [count_cell(cost.get("rationales_kept")) for cost in costs]),
        Column("USD", "number", [value_cell(cost.get("usd"), usd) for cost in costs]),
        Column("time", "number", [value_cell(job["seconds"], duration) for job in jobs]),
    ])  # fmt: skip


def _state(job: JobPart) -> Cell:
    text = ": ".join(filter(None, (job["state"], job["error"])))
    return Cell(text, style="" if job["state"] == FINISHED else "state")
