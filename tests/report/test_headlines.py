import html
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from caft.report.advice import suggest_next
from caft.report.headlines import Tone, find_headlines
from caft.report.run.caveats import find_warnings
from caft.report.run.estimator_rows import tabulate_estimates
from caft.report.run.html import render_report
from caft.report.run.terminal import print_summary
from caft.report.wording import capitalise, points_between
from caft.statistics import Verdict

UNCLEAR = capitalise(Verdict.unclear.value)


def set_area(summary: dict[str, Any], value: Any, low: Any, high: Any, **more: Any) -> None:
    area = {"value": value, "low": low, "high": high, "n": 600, "incorrect": 400, **more}
    summary["score"]["roc_auc"]["answer_entropy"] = area


def test_the_questions_come_in_the_order_of_their_weight(sample: Any) -> None:
    gain, routing, prediction, cost = find_headlines(sample.summary)
    assert (gain.asked, gain.answer, gain.tone) == ("Did tuning help?", "Yes", Tone.good)
    assert (routing.asked, routing.answer) == ("Did routing help?", "Not tested here")
    assert (prediction.answer, prediction.tone) == ("Yes", Tone.good)
    assert cost.answer == "188 teacher calls"


def test_a_gain_is_that_of_one_mode_with_chance_and_the_best_modes_beside_it(sample: Any) -> None:
    accuracy = sample.summary["accuracy"]
    base, tuned = (accuracy[who]["routed"]["value"] for who in ("base", "tuned"))
    gain = find_headlines(sample.summary)[0]
    assert gain.figure == f"{base:.1%} → {tuned:.1%}"
    same = accuracy["same_mode"]["routed"]
    assert f"on the same 300 questions: {100 * same['value']:+.1f} points" in gain.detail
    assert (
        "Both in routed mode (a rationale where the estimate is past a cut, else the answer at once"
        in gain.detail
    )
    # Every question has the ten digits to choose from.
    assert "Chance, one of the allowed answers at random, is 10.0%." in gain.detail
    assert "The base model's best mode is answer: 19.0% (15.0 to 23.8)" in gain.detail
    # The same tuned model against a base model that is as good in another mode.
    accuracy["comparison"] |= {"value": 0.0, "low": -0.03, "high": 0.03}
    gain = find_headlines(sample.summary)[0]
    assert (gain.answer, gain.tone) == ("Yes, in routed mode alone", Tone.unclear)


def test_a_model_clearly_below_the_base_models_best_mode_was_harmed(sample: Any) -> None:
    accuracy, summary = sample.summary["accuracy"], sample.summary
    loss = {"value": -0.3, "low": -0.4, "high": -0.2, "p_value": 0.001}
    best = points_between(accuracy["comparison"])
    assert f"; minus the base's best mode {best}" in find_headlines(summary)[0].brief
    accuracy["comparison"] |= loss
    gain = find_headlines(summary)[0]
    assert gain.answer == "No, the base model's best mode is clearly better"
    assert gain.tone is Tone.bad
    base, tuned = accuracy["base"]["answer"]["value"], accuracy["tuned"]["routed"]["value"]
    assert gain.figure == f"{base:.1%} → {tuned:.1%}"
    assert "; minus the base's best mode -30.0 points (-40.0 to -20.0)" in gain.brief
    why = "Search for a learning rate that beats the base model's best mode:"
    assert suggest_next(summary).why == why
    # A loss in its own mode as well is harm, whatever the base's best mode is.
    accuracy["same_mode"]["routed"] |= loss
    assert find_headlines(summary)[0].answer == "No, it did harm"
    assert suggest_next(summary).why == "Search for a learning rate that does not harm:"
    # One mode for both: the two comparisons are one, and it is not said twice.
    accuracy["best_mode"]["base"] = "routed"
    gain = find_headlines(summary)[0]
    assert gain.answer == "No, it did harm"
    assert "best mode" not in gain.brief


@pytest.mark.parametrize(
    ("change", "answer", "tone"),
    [
        ({"value": 0.01, "low": -0.08, "high": 0.1, "p_value": 0.9}, UNCLEAR, Tone.unclear),
        ({"value": 0.0, "low": -0.019, "high": 0.019, "p_value": 1.0}, "No", Tone.bad),
        ({"value": -0.2, "low": -0.3, "high": -0.1, "p_value": 0.001}, "No, it did harm", Tone.bad),
        # The test and the interval must agree.
        ({"value": 0.05, "low": 0.001, "high": 0.1, "p_value": 0.06}, UNCLEAR, Tone.unclear),
    ],
)
def test_gains_have_one_vocabulary(
    sample: Any, change: dict[str, float], answer: str, tone: Tone
) -> None:
    sample.summary["accuracy"]["same_mode"]["routed"] |= change
    gain = find_headlines(sample.summary)[0]
    assert (gain.answer, gain.tone) == (answer, tone)


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ({"wrong": 3}, "that were not trained on: 3 wrong."),
        (
            {"wrong": 3, "cut_off": 2},
            "3 wrong, 2 cut_off. cut_off: give a larger teacher.max_tokens.",
        ),
        ({"not_finished: SAFETY": 1}, "not_finished: SAFETY: a filter or the model declines"),
        ({"not_finished: eol": 9}, "says that a reply is finished, give teacher.keep=all."),
    ],
)
def test_refused_replies_are_named_by_reason_with_what_helps(
    sample: Any, refused: dict[str, int], words: str
) -> None:
    sample.summary["cost"]["teacher_refused"] = refused
    assert any(words in warning for warning in find_warnings(sample.summary))
    sample.summary["cost"]["teacher_refused"] = {}
    assert not any("not trained on" in warning for warning in find_warnings(sample.summary))


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("entropy", "2 questions without a readable estimate are placed in hard."),
        ("sampled_0.3", "2 questions without a readable estimate are likelier to be in hard."),
    ],
)
def test_questions_without_an_estimate_are_where_the_split_puts_them(
    sample: Any, strategy: str, words: str
) -> None:
    sample.summary["split"] |= {"strategy": strategy, "unreadable": 2}
    assert words in find_warnings(sample.summary)


def test_the_best_mode_is_never_chosen_on_test_rows(sample: Any) -> None:
    del sample.summary["accuracy"]["best_mode"]
    asked = [headline.asked for headline in find_headlines(sample.summary)]
    assert "Did tuning help?" not in asked


@pytest.mark.parametrize(
    ("area", "answer", "words"),
    [
        ((0.5, 0.46, 0.55), "No", "Answer entropy does not predict mistakes here: AUC 0.500 (0.460 "
         "to 0.550). Routing by it is no better than at random."),
        ((0.4, 0.3, 0.49), "No, it is reversed", "Answer entropy is reversed here: AUC 0.400"),
        ((0.5, 0.21, 0.79), UNCLEAR, "Answer entropy is not shown to predict mistakes here: AUC "
         "0.500 (0.210 to 0.790), which is not enough data."),
        ((0.58, 0.53, 0.63), "Yes, weakly", None),
    ],
)  # fmt: skip
def test_an_estimate_is_judged_against_one_half(
    sample: Any, area: tuple[float, float, float], answer: str, words: str | None
) -> None:
    set_area(sample.summary, *area)
    warnings = find_warnings(sample.summary)
    assert find_headlines(sample.summary)[2].answer == answer
    assert len(warnings) == (words is not None)
    assert not words or warnings[0].startswith(words)


@pytest.mark.parametrize("incorrect", [4, 596])
@pytest.mark.parametrize("bounds", [(0.86, 0.94), (0.06, 0.14)])
def test_four_answers_of_a_kind_prove_nothing(
    sample: Any, incorrect: int, bounds: tuple[float, float]
) -> None:
    summary = sample.summary
    set_area(summary, sum(bounds) / 2, *bounds, incorrect=incorrect)
    headline = find_headlines(summary)[2]
    assert (headline.answer, headline.tone) == (UNCLEAR, Tone.unclear)
    assert "Fewer than 5 of a kind prove nothing." in headline.detail
    assert tabulate_estimates(summary["score"]).texts[0]["above chance"] == Verdict.unclear.value
    assert "which is not enough data." in find_warnings(summary)[0]
    # More of the kind that lacks is what helps.
    assert suggest_next(summary).command.endswith(
        "until=score dataset=mmlu_pro" if incorrect == 4 else "dataset.prompt.shots=16"
    )
    enough = {4: 5, 596: 595}[incorrect]
    set_area(summary, sum(bounds) / 2, *bounds, incorrect=enough)
    answer = "Yes" if bounds[0] > 0.5 else "No, it is reversed"
    assert find_headlines(summary)[2].answer == answer


def test_no_area_gives_its_reason(sample: Any) -> None:
    set_area(sample.summary, None, None, None, reason="all 600 rows are wrong")
    (warning,) = find_warnings(sample.summary)
    assert "has no ROC AUC: all 600 rows are wrong." in warning
    headline = find_headlines(sample.summary)[2]
    assert (headline.answer, headline.detail) == ("Undefined", "All 600 rows are wrong.")
    summary = sample.summary
    steps = []
    for part, key, value in (
        # Each is the run that the step before it advised.
        ("run", "overrides", []),
        ("run", "overrides", ["dataset.prompt.shots=16"]),
        ("model", "id", "Qwen/Qwen2.5-3B-Instruct"),
    ):
        summary[part][key] = value
        steps.append(suggest_next(summary).command.partition("until=score ")[2])
    summary["score"]["roc_auc"]["answer_entropy"]["incorrect"] = 0
    for name in ("arithmetic", "mmlu_pro"):
        summary["dataset"]["name"] = name
        steps.append(suggest_next(summary).command.partition("until=score ")[2])
    assert steps == [
        "dataset.prompt.shots=16", "model=qwen2_5_3b", "model=smollm2",
        "dataset=mmlu_pro", "model=smollm2",
    ]  # fmt: skip


def test_other_estimates_are_named_until_all_are_measured(sample: Any) -> None:
    set_area(sample.summary, 0.5, 0.46, 0.55)
    score = sample.summary["score"]
    always, found = dict(score["roc_auc"]), []
    for _ in range(3):
        command = suggest_next(sample.summary).command
        found.append(command.partition("until=score ")[2])
        names = command.partition("[")[2].partition("]")[0].split(",")
        # The list that is given replaces the one before it.
        score["roc_auc"] = always | dict.fromkeys(filter(None, names), always["top1_margin"])
    assert found == [
        "'score.estimators=[fallback_entropy,p_true]'",
        "'score.estimators=[fallback_entropy,p_true,cot_mean_entropy,cot_answer_entropy]'",
        "dataset.seed=1,2,3",
    ]


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        ("gold_cross_entropy", "Cross-entropy of the gold answer (circular) uses the gold answers: "
         "its AUC proves nothing, and a split by it is an oracle's."),
        ("pass_rate", "Share of sampled chains that are right (circular) uses the gold answers: "
         "its AUC proves nothing, and a split by it is an oracle's."),
        ("probe", "Probability of a mistake by a probe of the hidden state (needs labels) is "
         "fitted on gold answers of the training questions. Each of them is judged by a probe "
         "that was fitted without it, so that the AUC is not circular."),
        ("option_entropy", None),
    ],
)  # fmt: skip
def test_what_looks_at_gold_answers_is_said(sample: Any, estimator: str, words: str | None) -> None:
    score = sample.summary["score"]
    score["roc_auc"][estimator] = score["roc_auc"][score["estimator"]]
    score["estimator"] = estimator
    assert find_warnings(sample.summary) == ((words,) if words else ())


def test_subjects_alone_are_not_enough(sample: Any) -> None:
    within = {"value": 0.52, "low": 0.47, "high": 0.57, "n": 560, "incorrect": 400}
    sample.summary["score"]["within_subjects"] = within
    headline = find_headlines(sample.summary)[2]
    assert (headline.answer, headline.tone) == ("Yes, but not within subjects", Tone.unclear)
    assert "Within subjects 0.520 (0.470 to 0.570)." in headline.detail
    (warning,) = find_warnings(sample.summary)
    assert "is not shown to within subjects, AUC 0.520 (0.470 to 0.570):" in warning
    sample.summary["score"]["within_subjects"] = {**within, "value": 0.6, "low": 0.55, "high": 0.7}
    assert find_headlines(sample.summary)[2].answer == "Yes"
    assert find_warnings(sample.summary) == ()


def test_classes_out_of_order_are_named_unless_they_were_drawn_at_random(sample: Any) -> None:
    # The run that said yes by AUC 0.73: hard 89.3% wrong, middle 94.0%.
    shares = {"easy": 0.3, "middle": 0.06, "hard": 0.107}
    sample.summary["score"]["accuracy_by_class"] = {
        name: {"value": value, "low": value / 2, "high": value * 2, "n": 150}
        for name, value in shares.items()
    }
    (warning,) = find_warnings(sample.summary)
    assert warning.startswith(
        "Classes out of order: hard is not harder than middle, base accuracy 10.7% (5.3 to 21.4) "
        "and 6.0% (3.0 to 12.0)."
    )
    sample.summary["split"]["strategy"] = "random_calls"
    assert find_warnings(sample.summary) == ()


def test_reversed_subjects_are_named_where_they_have_enough_questions(sample: Any) -> None:
    area = {"value": 0.209, "low": 0.076, "high": 0.396, "n": 120, "incorrect": 110}
    sample.summary["score"]["by_subject"] = {
        "1 step": {**area, "value": 0.8, "low": 0.7, "high": 0.9},
        "4 steps": area,
        "5 steps": {**area, "incorrect": 116},  # four correct answers prove nothing
    }
    (warning,) = find_warnings(sample.summary)
    assert warning == (
        "Answer entropy is reversed in 1 of the 2 subjects with enough questions (AUC wholly below "
        "0.5): 4 steps 0.209 (0.076 to 0.396)."
    )


def test_format_trouble_is_named_once(sample: Any) -> None:
    sample.summary["score"] |= {"option_mass": 0.31, "valid_answer_rate": 0.62}
    (warning,) = find_warnings(sample.summary)
    assert warning == (
        "Only 31.0% of the probability is on the allowed answers and only 62.0% of the "
        "one-token replies are allowed answers: the format, not the knowledge, is being measured."
    )


def test_free_text_has_no_option_mass_and_no_warning_of_it(sample: Any) -> None:
    sample.summary["score"] |= {"option_mass": None, "valid_answer_rate": None}
    assert find_warnings(sample.summary) == ()


def test_empty_classes_and_unreadable_replies_are_warned_of(sample: Any) -> None:
    sample.summary["split"]["counts"]["hard"] = 0
    sample.summary["accuracy"]["tuned"]["rationale"] |= {
        "unparsable": 40,
        "unread": {"no_marker": 1, "outside": 29, "cut": 10, "said": {"0": 20, "13": 9}},
    }
    first, second = find_warnings(sample.summary)
    assert first == "The class hard holds no training question."
    assert second == (
        "Replies without a readable answer count as wrong. 40 of 300 of the tuned model in "
        "rationale mode: 29 outside the allowed answers (“0” 20, “13” 9), 10 cut at the limit, "
        "1 no marker."
    )


def test_rows_that_were_too_long_are_counted_and_named_by_stage(sample: Any) -> None:
    first, second = sample.summary["method"]["stages"]
    first["examples"], second["examples"] = 400, 1
    ids = [f"q{number}" for number in range(7)]
    sample.summary["tuning"] = [
        {"dropped": 7, "dropped_ids": ids},
        {"dropped": 1, "dropped_ids": ["long"]},
    ]
    assert find_warnings(sample.summary) == (
        "Stage 1 trained 400 rows; 7 more were too long and left out: q0, q1, q2, q3, q4 and 2 "
        "more, all in summary.json.",
        "Stage 2 trained 1 row; 1 more was too long and left out: long.",
    )
    sample.summary["tuning"] = [{"dropped": 0, "dropped_ids": []}, {}]
    assert find_warnings(sample.summary) == ()


def test_the_next_step_follows_from_what_was_found(sample: Any) -> None:
    summary = sample.summary
    assert suggest_next(summary).command == find_headlines(summary)[1].command
    found = dict(summary["accuracy"]["same_mode"]["routed"])
    summary["accuracy"]["same_mode"]["routed"] |= {"value": -0.2, "high": -0.1}
    # What the command fixes is not searched.
    fixed = ["tuning.learning_rate=0.05", "tuning.lora.r=8", "tuning.batch_size=4"]
    summary["run"]["overrides"] += fixed
    search = suggest_next(summary).command
    assert search.endswith("tuning.batch_size=4 multirun_sweeps=tune_lr")
    assert "learning_rate" not in search
    assert "lora.r" not in search
    del summary["run"]["overrides"][-3:]
    summary["accuracy"]["same_mode"]["routed"] |= {"high": 0.1, "p_value": 0.3}
    assert suggest_next(summary).command.endswith("teacher=openai seed=1,2,3")
    summary["accuracy"]["same_mode"]["routed"] = found
    everything = dict.fromkeys(("easy", "middle", "hard"), "answer")
    summary["method"]["stages"] = [{"targets": everything, "epochs": 1, "examples": 9}]
    assert "method=sft,distill,complexity_aware" in suggest_next(summary).command
    assert find_headlines(summary)[1].figure == "no routing"
    # A teacher that has nothing to teach: what it cannot run is not proposed.
    summary["method"]["untaught"] = True
    routing = find_headlines(summary)[1]
    assert routing.command == ""
    assert "teacher=openai teacher.model=MODEL" in routing.detail
    assert suggest_next(summary).command.endswith("teacher=openai seed=1,2,3")
    summary["accuracy"] |= {"tuned": None}
    assert "method=sft seed=1,2,3" in suggest_next(summary).command
    # The base model alone, evaluated to the end.
    del summary["method"]["untaught"]
    assert "method=sft,distill,complexity_aware" in suggest_next(summary).command
    summary["accuracy"] = None
    assert suggest_next(summary).command.endswith("dry_run=true")
    assert find_headlines(summary)[0].asked.startswith("Does answer entropy")


@pytest.mark.parametrize(
    ("target", "asked", "warned"),
    [
        ("thinking", {"thinking": None}, True),
        ("thinking", {"thinking": False}, True),
        ("thinking", {"thinking": True}, False),
        ("thinking", {}, False),  # a summary of old, which does not say
        ("rationale", {"thinking": None}, False),
    ],
)
def test_thinking_that_is_trained_and_not_evaluated_is_told(
    sample: Any, target: str, asked: dict[str, Any], warned: bool
) -> None:
    sample.summary["method"]["stages"][-1]["targets"]["hard"] = target
    sample.summary["accuracy"].update(asked)
    assert any("evaluation.thinking=true" in each for each in find_warnings(sample.summary)) is (
        warned
    )


def lose(complexity: str, **numbers: float) -> dict[str, Any]:
    lost = {"value": -0.75, "low": -0.85, "high": -0.62, "n": 60, "p_value": 1e-9}
    return {**lost, "p_adjusted": 1e-8, "complexity": complexity, "mode": "answer", **numbers}


def test_a_class_that_tuning_lost_is_named_on_the_page_and_on_the_screen(
    sample: Any, tmp_path: Path
) -> None:
    sample.summary["accuracy"]["class_comparisons"] = [
        lose("easy"),
        lose("middle", high=0.01),  # the interval does not agree
        lose("hard", p_adjusted=0.06),  # the corrected test does not
        lose("more", value=0.5, low=0.4, high=0.6),  # a gain
    ]
    (warning,) = find_warnings(sample.summary)
    assert warning == (
        "Tuning lost what the base model could do (p after Holm): easy in answer mode -75.0 "
        "points (-85.0 to -62.0) on 60 test questions (p < 0.001)."
    )
    page = render_report(sample.summary, sample.tables, "seed: 42\n", "A run")
    assert warning in html.unescape(page)
    screen = io.StringIO()
    print_summary(sample.summary, tmp_path, Console(file=screen, width=80))
    assert warning in " ".join(screen.getvalue().split())
