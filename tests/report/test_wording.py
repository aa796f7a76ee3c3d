import pytest

from caft.report import wording


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wording.percent(0.6234), "62.3%"),
        (wording.list_names([]), ""),
        (wording.list_names(["a"]), "a"),
        (wording.list_names(["a", "b", "c"]), "a, b and c"),
        (wording.list_names(["a", "b", "c", "d, e"]), "a; b; c; and 1 more"),
        (wording.list_names(["a", "b, c", "b, d"]), "a; b, c; and b, d"),
        (wording.percent_between({"value": 0.5, "low": 0.4, "high": 0.6}), "50.0% (40.0 to 60.0)"),
        (
            wording.points_between({"value": 0.1, "low": -0.02, "high": 0.2}),
            "+10.0 points (-2.0 to +20.0)",
        ),
        (wording.area_between({"value": None, "low": None, "high": None}), "none"),
        (wording.p_in_words(0.0), "p < 0.001"),
        (wording.p_in_words(0.0312), "p = 0.031"),
        (wording.count_of(1, "row"), "1 row"),
        (wording.count_of(1200, "row"), "1,200 rows"),
        (wording.count_of(0, "reply"), "0 replies"),
        (wording.count_of(3, "day"), "3 days"),
        (wording.count_of(2, "forward pass"), "2 forward passes"),
        (wording.count_of(2, "batch"), "2 batches"),
        (wording.count_of(2, "wish"), "2 wishes"),
        (wording.count_of(2, "box"), "2 boxes"),
        (wording.count_of(2, "path"), "2 paths"),
        (wording.count_of(2, "epoch"), "2 epochs"),
        (wording.short_count(999), "999"),
        (wording.short_count(98_412), "98.4k"),
        (wording.short_count(999_500), "1M"),
        (wording.short_count(999_499), "999k"),
        (wording.short_count(999.6e12), "1e+15"),
        (wording.short_count(7.9e15), "7.9e+15"),
        (wording.write_number(0.000047), "4.7e-05"),
        (wording.write_number(12.3456), "12.35"),
        (wording.write_number(999.94), "999.9"),
        (wording.write_number(999.96), "1,000"),
        (wording.write_number(-12_345.6), "-12,346"),
        (wording.write_number(1234.5, 3), "1,234"),
        (wording.write_number(float("-inf")), "-inf"),
        (wording.usd(0), "$0.00"),
        (wording.usd(0.00001), "$0.00001"),
        (wording.usd(0.0000034), "$0.000003"),
        (wording.usd(0.00005), "$0.00005"),
        (wording.usd(0.00021), "$0.0002"),
        (wording.usd(1234.5), "$1,234.50"),
        (
            wording.name_routing("judge_steps, entropy_within_subject"),
            "reasoning steps by a judge (entropy_within_subject)",
        ),
        (wording.name_routing("cot_margin"), "mean CoT top-2 margin"),
        (wording.duration(59.94), "59.9 s"),
        (wording.duration(59.96), "1 min 00 s"),
        (wording.duration(151), "2 min 31 s"),
        (wording.duration(3600 * 5 + 240), "5 h 04 min"),
        (wording.memory(None), "not measured"),
        (wording.memory(1_912_000_000), "1.91 GB"),
        (wording.memory(632_832), "633 kB"),
        (wording.clip("abcdef", 4), "abcd … (2 more characters)"),
        (wording.clip("abcd", 4), "abcd"),
    ],
)
def test_reads_well(written: str, expected: str) -> None:
    assert written == expected


def test_the_cut_of_routed_mode_is_told_in_the_estimators_own_direction() -> None:
    def told(**cuts: tuple[str, float | None, float]) -> str:
        parts = {
            model: {"estimator": name, "value": value, "share": share}
            for model, (name, value, share) in cuts.items()
        }
        return wording.describe_fitted_cut({"routed_at": parts})  # type: ignore[typeddict-item]

    tuned = ("answer_entropy", 1.3749, 0.455)
    assert "is at least 1.37 nats, the cut" in told(base=("answer_entropy", None, 0.0), tuned=tuned)
    assert told(tuned=tuned).endswith("45.5% of the test questions.")
    assert "top-1 margin is at most 0.2, the" in told(base=("top1_margin", 0.2, 0.5))
    assert "base model writes no rationale" in told(base=("answer_entropy", None, 0.0))
    assert wording.describe_fitted_cut(None) == told() == ""
    own = {"estimator": "answer_entropy", "value": 0.5, "share": 0.5, "by_tuned": True}
    parts = {"routed_at": {"tuned": own}}
    assert "where its own answer entropy is at least 0.5" in wording.describe_fitted_cut(parts)  # type: ignore[arg-type]
