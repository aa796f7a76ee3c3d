import html
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from caft.report.headlines import Tone, find_headlines, find_warnings, suggest_next
from caft.report.run.html import render_report
from caft.report.run.terminal import print_summary


def set_area(summary: dict[str, Any], value: Any, low: Any, high: Any, **more: Any) -> None:
    area = {"value": value, "low": low, "high": high, "n": 600, "incorrect": 400, **more}
    summary["score"]["roc_auc"]["answer_entropy"] = area


def test_a_clear_gain_is_called_one(sample: Any) -> None:
    gain, prediction, cost = find_headlines(sample.summary)
    assert gain.tone is Tone.good
    assert gain.answer == "Tuning helped"
    assert "in answer mode" in gain.detail
    assert "in routed mode" in gain.detail
    assert prediction.tone is Tone.good
    assert cost.answer == "188 teacher calls"


def test_overlapping_intervals_without_a_paired_test_are_no_gain(sample: Any) -> None:
    del sample.summary["accuracy"]["comparison"]
    base = sample.summary["accuracy"]["base"]["answer"]
    sample.summary["accuracy"]["tuned"]["routed"] = {**base, "value": base["value"] + 0.01}
    assert find_headlines(sample.summary)[0].tone is Tone.unclear


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


def test_a_loss_is_called_harm(sample: Any) -> None:
    sample.summary["accuracy"]["comparison"] |= {"value": -0.2, "p_value": 0.001}
    gain = find_headlines(sample.summary)[0]
    assert gain.tone is Tone.bad
    assert "learning_rate" in suggest_next(sample.summary)


def test_the_best_mode_is_never_chosen_on_test_rows(sample: Any) -> None:
    del sample.summary["accuracy"]["best_mode"]
    asked = [headline.asked for headline in find_headlines(sample.summary)]
    assert "Did tuning help?" not in asked


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.46, 0.55, "does not predict mistakes here (AUC 0.500, interval 0.460 to 0.550); "
                     "routing by it is a coin toss."),
        (0.30, 0.49, "points the wrong way"),
    ],
)  # fmt: skip
def test_a_useless_entropy_is_warned_of(sample: Any, low: float, high: float, words: str) -> None:
    set_area(sample.summary, (low + high) / 2 if high > 0.5 else 0.4, low, high)
    sample.summary["score"]["roc_auc"]["answer_entropy"]["value"] = 0.5 if high > 0.5 else 0.4
    (warning,) = find_warnings(sample.summary)
    assert warning.startswith("Answer entropy")
    assert words in warning
    assert find_headlines(sample.summary)[1].tone is Tone.bad


def test_no_area_gives_its_reason(sample: Any) -> None:
    set_area(sample.summary, None, None, None, reason="all 600 rows are wrong")
    (warning,) = find_warnings(sample.summary)
    assert "has no ROC AUC: all 600 rows are wrong." in warning
    assert find_headlines(sample.summary)[1].detail == "All 600 rows are wrong."
    assert suggest_next(sample.summary).startswith("Use questions")


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
    sample.summary["accuracy"]["tuned"]["rationale"]["unparsable"] = 40
    first, second = find_warnings(sample.summary)
    assert first == "The class hard holds no training question."
    assert second == (
        "Replies without a readable answer, each counted as wrong: 40 of 300 of the tuned model in "
        "rationale mode."
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


def test_advice_fits_one_line_and_asks_about_routing_only_where_there_was_some(
    sample: Any,
) -> None:
    assert "split=entropy,random" in suggest_next(sample.summary)
    everything = dict.fromkeys(("easy", "middle", "hard"), "answer")
    sample.summary["method"]["stages"] = [{"targets": everything, "epochs": 1, "examples": 9}]
    assert "method=sft,distill,complexity_aware" in suggest_next(sample.summary)
    sample.summary["accuracy"] = None
    assert len(suggest_next(sample.summary)) <= 72


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
