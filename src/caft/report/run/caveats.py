"""What a reader must know before trusting a run's numbers, in whole sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from caft.records import Mode
from caft.report.comparison import results_by_mode
from caft.report.forgetting import warn_of_forgetting
from caft.report.parts import Share
from caft.report.run.estimate_verdict import (
    count_rarer,
    is_reversed,
    judge_estimate,
    main_area,
)
from caft.report.run.rationales import warn_of_chance
from caft.report.run.thinking import warn_of_thinking
from caft.report.run.unread import describe_unread
from caft.report.schema import (
    MODELS,
    AccuracyPart,
    Area,
    CostPart,
    ScorePart,
    SplitPart,
    Summary,
    drawn_at_random,
)
from caft.report.wording import (
    area_between,
    capitalise,
    count_of,
    describe_estimator,
    name_estimator,
    p_in_words,
    percent,
    percent_between,
    points_between,
    reason_of,
)
from caft.statistics import ALPHA, CHANCE_AREA, FEWEST_TO_JUDGE, Verdict
from caft.teachers.refusals import OVER_BUDGET, WRONG, advise, list_reasons

LOW_OPTION_MASS = 0.5
LOW_VALID_RATE = 0.9
MANY_UNPARSABLE = 0.1
_NAMED = 5


def find_warnings(summary: Summary) -> tuple[str, ...]:
    """Warnings that a reader needs before trusting the numbers."""
    score, split = summary.get("score"), summary.get("split")
    return (
        *(_warn_of_score(score) if score else ()),
        *(_warn_of_order(score, split) if score and split else ()),
        *(_warn_of_reversed_subjects(score) if score else ()),
        *(_warn_of_classes(split) if split else ()),
        *_warn_of_refused_replies(summary.get("cost")),
        *warn_of_chance(summary.get("cost")),
        *_warn_of_dropped_rows(summary),
        *_warn_of_unreadable_replies(summary.get("accuracy")),
        *_warn_of_lost_classes(summary.get("accuracy")),
        *warn_of_forgetting(summary.get("forgetting")),
        *warn_of_thinking(summary),
    )


def _warn_of_score(score: ScorePart) -> Iterator[str]:
    estimator, area = describe_estimator(score["estimator"]), main_area(score)
    name = capitalise(estimator.title)
    if score.get("source") == "published":
        yield "Entropies and answers are those of the publisher's model, not of this one."
    if area and (warning := _warn_of_area(area)):
        yield f"{name} {warning}"
    yield from _warn_within_subjects(name, area, score.get("within_subjects"))
    if estimator.circular:
        yield (
            f"{name} uses the gold answers: its AUC proves nothing, and a split by it is "
            "an oracle's."
        )
    if estimator.needs_labels:
        yield (
            f"{name} is fitted on gold answers of the training questions. Each of them is judged "
            "by a probe that was fitted without it, so that the AUC is not circular."
        )
    for follow_up, share in (score.get("follow_up_mass") or {}).items():
        if share < LOW_OPTION_MASS:
            yield (
                f"{capitalise(describe_estimator(follow_up).title)}: only {percent(share)} of the "
                "probability is on the allowed replies: the format, not the confidence, is "
                "being measured."
            )
    mass, valid = score.get("option_mass"), score.get("valid_answer_rate")
    low = []
    if mass is not None and mass < LOW_OPTION_MASS:
        low.append(f"only {percent(mass)} of the probability is on the allowed answers")
    if valid is not None and valid < LOW_VALID_RATE:
        low.append(f"only {percent(valid)} of the one-token replies are allowed answers")
    if low:
        yield (
            f"{capitalise(' and '.join(low))}: the format, not the knowledge, is being measured."
        )


def _warn_of_area(area: Area) -> str:
    """What an area that does not show a prediction means for routing; empty if it shows one."""
    verdict = judge_estimate(area)
    if verdict is None:
        return f"has no ROC AUC: {reason_of(area)}. Nothing shows that routing by it helps."
    found = f"AUC {area_between(area)}"
    if verdict is Verdict.yes:
        return ""
    if verdict is Verdict.unclear:
        return f"is not shown to predict mistakes here: {found}, which is not enough data."
    if is_reversed(area):
        return f"is reversed here: {found}. The model errs where it looks sure."
    return f"does not predict mistakes here: {found}. Routing by it is no better than at random."


def _warn_within_subjects(name: str, pooled: Area | None, within: Area | None) -> Iterator[str]:
    if pooled is None or within is None or judge_estimate(pooled) is not Verdict.yes:
        return
    if within["value"] is not None and judge_estimate(within) is not Verdict.yes:
        yield (
            f"{name} predicts mistakes over all questions, AUC {area_between(pooled)}, but is not "
            f"shown to within subjects, AUC {area_between(within)}: routing by it may select "
            "subjects rather than questions."
        )


def _warn_of_order(score: ScorePart, split: SplitPart) -> Iterator[str]:
    """Harder classes in which the base model is no less accurate; chance makes no order."""
    shares: Mapping[str, Share] = score.get("accuracy_by_class") or {}
    alike = len({share["value"] for share in shares.values()}) == 1
    if alike or drawn_at_random(split["strategy"]):
        return
    found = [
        f"{harder} is not harder than {easier}, base accuracy {percent_between(two)} and "
        f"{percent_between(one)}"
        for (easier, one), (harder, two) in combinations(shares.items(), 2)
        if two["value"] >= one["value"]
    ]
    if found:
        yield f"Classes out of order: {'; '.join(found)}."


def _warn_of_reversed_subjects(score: ScorePart) -> Iterator[str]:
    areas = {
        name: area
        for name, area in (score.get("by_subject") or {}).items()
        if count_rarer(area) >= FEWEST_TO_JUDGE
    }
    found = [
        f"{name or 'no subject'} {area_between(area)}"
        for name, area in areas.items()
        if is_reversed(area)
    ]
    if found:
        more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
        yield (
            f"{capitalise(name_estimator(score['estimator']))} is reversed in "
            f"{len(found):,} of the {count_of(len(areas), 'subject')} with enough questions (AUC "
            f"wholly below {CHANCE_AREA}): {', '.join(found[:_NAMED])}{more}."
        )


def _warn_of_classes(split: SplitPart) -> Iterator[str]:
    for name, count in split["counts"].items():
        if count == 0:
            yield f"The class {name} holds no training question."
    stand_in, unreadable = split.get("held_out_by"), split.get("unreadable")
    if stand_in:
        yield (
            "The split's estimator does not exist for validation and test questions: they are "
            f"placed by {name_estimator(stand_in)}, at the training classes' shares."
        )
    if unreadable:
        drawn = split["strategy"].startswith("sampled")
        yield (
            f"{count_of(unreadable, 'question')} without a readable estimate "
            f"{'is' if unreadable == 1 else 'are'} {'likelier to be' if drawn else 'placed'} in "
            f"{list(split['counts'])[-1]}."
        )


def _warn_of_refused_replies(cost: CostPart | None) -> Iterator[str]:
    counts = cost.get("teacher_refused") if cost else None
    if not counts:
        return
    fixable = [reason for reason in counts if reason not in (WRONG, OVER_BUDGET)]
    advice = f" {fixable[0]}: {advise(fixable[0])}." if fixable else ""
    yield f"Replies of the teacher that were not trained on: {list_reasons(counts)}.{advice}"


def _warn_of_dropped_rows(summary: Summary) -> Iterator[str]:
    stages = zip(summary["method"]["stages"], summary.get("tuning") or [], strict=False)
    for number, (stage, tuned) in enumerate(stages, start=1):
        dropped, ids = tuned.get("dropped"), tuned.get("dropped_ids") or []
        if not dropped:
            continue
        more = f" and {len(ids) - _NAMED:,} more, all in summary.json" if len(ids) > _NAMED else ""
        yield (
            f"Stage {number} trained {count_of(stage['examples'] or 0, 'row')}; {dropped:,} more "
            f"{'was' if dropped == 1 else 'were'} too long and left out: "
            f"{', '.join(ids[:_NAMED])}{more}."
        )


def _warn_of_unreadable_replies(accuracy: AccuracyPart | None) -> Iterator[str]:
    counts = [
        f"{result['unparsable']:,} of {result['n']:,} of the {model} model in {mode} mode: "
        f"{describe_unread(result)}"
        for model in MODELS
        for mode, result in results_by_mode(accuracy, model).items()
        if mode != Mode.routed.name and result["unparsable"] > MANY_UNPARSABLE * result["n"]
    ]
    if counts:
        yield f"Replies without a readable answer count as wrong. {'; '.join(counts)}."


def _warn_of_lost_classes(accuracy: AccuracyPart | None) -> Iterator[str]:
    lost = [
        f"{part['complexity']} in {part['mode']} mode {points_between(part)} on "
        f"{count_of(part['n'], 'test question')} ({p_in_words(part['p_adjusted'])})"
        for part in (accuracy.get("class_comparisons") or () if accuracy else ())
        if part["p_adjusted"] < ALPHA and part["high"] < 0
    ]
    if lost:
        yield f"Tuning lost what the base model could do (p after Holm): {'; '.join(lost)}."
