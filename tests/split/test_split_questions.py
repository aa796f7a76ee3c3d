"""Classes by cut points that are worked out by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import exp, inf
from random import Random

import pytest

from caft.errors import UserError
from caft.records import AnswerScore
from caft.split import SplitResult, most_in_classes, refuse_small_subjects, split_questions
from caft.split.config import (
    EntropySplitConfig,
    Match,
    RandomSplitConfig,
    SampledSplitConfig,
    SplitConfig,
    ThresholdSplitConfig,
    Within,
)
from caft.split.cuts import (
    _open_unit,
    place_at_random,
    place_by_cuts,
    place_sampled,
    quantile_cuts,
    shares_below,
)


def scores(
    values: Sequence[float | None], part: str = "train", name: str = "answer_entropy"
) -> list[AnswerScore]:
    return [
        AnswerScore(
            question_id=f"{part}{index}",
            predicted="A",
            valid=True,
            correct=True,
            estimates={name: value},
        )
        for index, value in enumerate(values)
    ]


def split(
    train: Sequence[AnswerScore],
    config: SplitConfig,
    others: Sequence[Sequence[AnswerScore]] = (),
    seed: int = 0,
) -> SplitResult:
    return split_questions(train, others, config, seed)


def classes(result: SplitResult, part: str = "train") -> list[str]:
    return [name for id_, name in result.complexity_of.items() if id_.startswith(part)]


@pytest.mark.parametrize("count", [4, 7, 40, 101])
@pytest.mark.parametrize("quantiles", [[0.25, 0.75], [0.1, 1.0]], ids=str)
def test_the_classes_sizes_are_known_before_the_scores(count: int, quantiles: list[float]) -> None:
    train = scores([value**2 / 3 for value in range(count)])
    subject_of = {row.question_id: "ab"[place % 3 == 0] for place, row in enumerate(train)}
    kinds = (EntropySplitConfig, SampledSplitConfig, RandomSplitConfig)
    configs: list[EntropySplitConfig | RandomSplitConfig] = [k(quantiles=quantiles) for k in kinds]
    if count >= 9:
        configs.append(EntropySplitConfig(quantiles=quantiles, within=Within.subject))
    for config in configs:
        placed = split_questions(train, (), config, 3, subject_of).complexity_of.values()
        most = most_in_classes(config, list(subject_of.values()), distinct=True)
        assert most == {name: list(placed).count(name) for name in config.classes}, config


def test_a_class_may_have_all_rows_where_only_the_scores_tell() -> None:
    subjects = [""] * 40
    assert most_in_classes(ThresholdSplitConfig(), subjects)["hard"] == 40
    # Shares of eight chains are often equal, and a judge's reply may be unreadable.
    for name in ("pass_rate", "judge_steps"):
        assert most_in_classes(EntropySplitConfig(estimator=name), subjects)["middle"] == 40


@pytest.mark.parametrize(
    "values", [[0] * 6 + [1, 2], [0] * 8, [0, 1] * 4, [0, 0, 1, 2, 3, 4, 4, 4]]
)
def test_equal_values_make_no_class_larger_than_its_most(values: list[float]) -> None:
    placed = classes(split(scores(values), EntropySplitConfig()))
    most = most_in_classes(EntropySplitConfig(), [""] * 8)
    assert most == {"easy": 2, "middle": 6, "hard": 8}
    assert all(placed.count(name) <= most[name] for name in most)


def test_cut_points_by_hand() -> None:
    # Linear interpolation: 0.25 * 4 = 1 is the second of five values, 0.25 * 3 = 0.75 lies
    # three quarters of the way from the first of four to the second.
    assert quantile_cuts([0.0, 1.0, 2.0, 3.0, 4.0], [0.25, 0.75]) == (1.0, 3.0)
    assert quantile_cuts([4.0, 0.0, 1.0, 8.0], [0.25, 0.75]) == (0.75, 5.0)
    # What cannot be read is one more than the largest, or than nothing.
    assert quantile_cuts([0.0, 1.0, inf], [0.75]) == (1.5,)
    assert quantile_cuts([inf, inf], [0.5]) == (1.0,)
    assert shares_below(["a", "b", "b", "c"], "abc") == [0.25, 0.75]


def test_a_value_on_a_cut_belongs_to_the_harder_class() -> None:
    result = split(scores([0.0, 1.0, 2.0, 3.0, 4.0]), EntropySplitConfig())
    assert result.thresholds == (1.0, 3.0)
    assert classes(result) == ["easy", "middle", "middle", "hard", "hard"]


def test_a_quarter_a_half_a_quarter() -> None:
    result = split(scores([index / 7 for index in range(100)]), EntropySplitConfig())
    assert Counter(classes(result)) == {"easy": 25, "middle": 50, "hard": 25}


def test_equal_values_share_a_class_whatever_that_does_to_the_sizes() -> None:
    result = split(scores([0.0] * 6 + [1.0] * 2), EntropySplitConfig())
    # Both cuts: 0.25 * 7 = 1.75 -> 0; 0.75 * 7 = 5.25 -> 0.25 of the way from 0 to 1.
    assert result.thresholds == (0.0, 0.25)
    assert classes(result) == ["middle"] * 6 + ["hard"] * 2
    assert set(classes(split(scores([0.5] * 9), EntropySplitConfig()))) == {"hard"}


def test_only_training_rows_move_the_cuts() -> None:
    train = scores([0.0, 1.0, 2.0, 3.0, 4.0])
    config = EntropySplitConfig()
    near = split(train, config, [scores([0.5], "val"), scores([2.0, 2.0], "test")])
    far = split(train, config, [scores([900.0], "val"), scores([0.0, 3.0], "test")])
    assert near.thresholds == far.thresholds == split(train, config).thresholds
    assert classes(near) == classes(far)
    assert (classes(near, "val"), classes(far, "val")) == (["easy"], ["hard"])
    assert classes(far, "test") == ["easy", "hard"]


def test_every_question_is_in_exactly_one_class() -> None:
    parts = [scores([0.1, 0.2, 0.9]), scores([0.3], "val"), scores([0.4, 0.0], "test")]
    for config in (EntropySplitConfig(), ThresholdSplitConfig(), RandomSplitConfig()):
        assert list(split(parts[0], config, parts[1:]).complexity_of) == [
            score.question_id for part in parts for score in part
        ]


def test_absolute_cuts() -> None:
    config = ThresholdSplitConfig(thresholds=[0.5, 1.5])
    result = split(scores([0.49, 0.5, 1.49, 1.5]), config, [scores([9.0], "test")])
    assert result.thresholds == (0.5, 1.5)
    assert classes(result) == ["easy", "middle", "middle", "hard"]
    assert classes(result, "test") == ["hard"]
    assert classes(split(scores([-0.1, 0.5]), ThresholdSplitConfig(thresholds=[0.0, 1.0]))) == [
        "easy", "middle",
    ]  # fmt: skip


def test_an_estimate_that_falls_with_difficulty_is_turned() -> None:
    train = scores([0.95, 0.8, 0.6, 0.3, 0.1], name="top1_probability")
    by_quantile = split(train, EntropySplitConfig(estimator="top1_probability"))
    assert classes(by_quantile) == ["easy", "middle", "middle", "hard", "hard"]
    assert by_quantile.thresholds == (0.8, 0.3)  # in the estimate's own direction
    config = ThresholdSplitConfig(estimator="top1_probability", thresholds=[0.2, 0.9])
    assert classes(split(train, config)) == ["easy", "middle", "middle", "middle", "hard"]


def test_other_classes_than_three() -> None:
    config = EntropySplitConfig(classes=["low", "high"], quantiles=[0.5])
    assert classes(split(scores([3.0, 1.0, 2.0]), config)) == ["high", "low", "high"]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 7, 100, 602])
def test_random_classes_have_the_sizes_that_entropy_gives(count: int) -> None:
    for quantiles in ([0.25, 0.75], [0.0, 0.5], [0.1, 1.0], [0.33, 0.34]):
        values = [index * 0.37 for index in range(count)]
        config = EntropySplitConfig(quantiles=quantiles)
        cut = classes(split(scores(values), config)) if count else []
        drawn = classes(split(scores(values), RandomSplitConfig(quantiles=quantiles)))
        assert Counter(drawn) == Counter(cut)


def test_random_classes_depend_on_the_seed_alone() -> None:
    low, high = scores([0.1] * 50), scores([2.0 * index for index in range(50)])
    config = RandomSplitConfig()
    assert classes(split(low, config, seed=1)) == classes(split(high, config, seed=1))
    assert classes(split(low, config, seed=1)) != classes(split(low, config, seed=2))
    assert split(low, config).thresholds == ()


def test_entropy_does_not_depend_on_the_seed() -> None:
    train = scores([0.1, 0.7, 0.3, 0.2])
    assert split(train, EntropySplitConfig(), seed=1) == split(train, EntropySplitConfig(), seed=2)


def test_a_missing_estimate_names_the_question_and_what_there_is() -> None:
    with pytest.raises(UserError, match=r"top1_margin, which question train0 .* answer_entropy"):
        split(scores([0.1]), EntropySplitConfig(estimator="top1_margin"))
    with pytest.raises(UserError, match="which question test0 has no value"):
        split(scores([0.1]), EntropySplitConfig(), [scores([None], "test")])


def with_both(
    rows: Sequence[tuple[float | None, float]], part: str, name: str
) -> list[AnswerScore]:
    return [
        AnswerScore(question_id=f"{part}{place}", predicted="A", valid=True, correct=True,
                    estimates={name: value, "answer_entropy": entropy})
        for place, (value, entropy) in enumerate(rows)
    ]  # fmt: skip


def test_an_unreadable_judgement_is_hard_and_counted() -> None:
    train = scores([1.0, 2.0, None, 3.0, 4.0], name="judge_steps")
    result = split(train, EntropySplitConfig(estimator="judge_steps"))
    # The unreadable row counts as 5 for the cuts: of 1, 2, 3, 4, 5 they are 2 and 4.
    assert result.thresholds == (2.0, 4.0)
    assert classes(result) == ["easy", "middle", "hard", "middle", "hard"]
    assert result.unreadable == 1
    far = ThresholdSplitConfig(estimator="judge_steps", thresholds=[1.5, 100.0])
    assert classes(split(train, far)) == ["easy", "middle", "hard", "middle", "middle"]
    with pytest.raises(UserError, match="judge_steps, which question train0 has no value"):
        split(scores([None, None], name="judge_steps"), EntropySplitConfig(estimator="judge_steps"))


def test_what_is_not_known_at_test_time_is_placed_by_the_entropy() -> None:
    lengths = [(10.0, 2.0), (20.0, 0.5), (30.0, 1.0), (40.0, 1.5), (50.0, 0.0)]
    train = with_both(lengths, "train", "rationale_length")
    test = with_both([(None, 0.1), (99.0, 0.7), (None, 1.9)], "test", "rationale_length")
    result = split(train, EntropySplitConfig(estimator="rationale_length"), [test])
    assert classes(result) == ["easy", "middle", "middle", "hard", "hard"]
    # Shares below the cuts are 0.2 and 0.6: entropies 0, .5, 1, 1.5, 2 are cut at 0.4 and 1.2.
    # A length that is there by chance is not looked at.
    assert classes(result, "test") == ["easy", "middle", "hard"]
    assert (result.held_out_by, result.unreadable) == ("answer_entropy", 0)
    assert split(train, EntropySplitConfig(), [test]).held_out_by == ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EntropySplitConfig(quantiles=[0.75, 0.25]), r"^split.quantiles is .* must rise"),
        (lambda: EntropySplitConfig(quantiles=[0.5, 0.5]), "must rise"),
        (lambda: EntropySplitConfig(quantiles=[0.5]), "1 cut point .* give 2"),
        (lambda: EntropySplitConfig(quantiles=[25, 75]), "^split.quantiles.0 is 25; give 0 to 1"),
        (lambda: EntropySplitConfig(quantiles=[0.2, float("nan")]), "quantiles.1 is nan"),
        (lambda: RandomSplitConfig(quantiles=[0.9, 0.1]), "^split.quantiles is .* must rise"),
        (lambda: ThresholdSplitConfig(thresholds=[2.0, 1.0]), "^split.thresholds is .* must rise"),
        (
            lambda: ThresholdSplitConfig(thresholds=[0.5, float("nan")]),
            "1 is nan; give a fin",
        ),
        (
            lambda: EntropySplitConfig(classes=["easy", "easy"]),
            "^split.classes names 'easy' 2 times",
        ),
        (
            lambda: EntropySplitConfig(estimator="cot_mean_entropi"),
            "^split.estimator is cot_mean_entropi;",
        ),
        (lambda: ThresholdSplitConfig(estimator="random"), "^split.estimator is random, .*=random"),
        (lambda: RandomSplitConfig(match=Match.calls, reference="x"), "^split.reference is x;"),
        (lambda: RandomSplitConfig(within=Within.subject), "^split.within=subject does nothing"),
        (lambda: RandomSplitConfig(temperature=0.5), "^split.temperature=0.5 does nothing"),
    ],
)
def test_refused_settings(make: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()  # type: ignore[operator]


def test_placing_by_hand() -> None:
    assert place_by_cuts([0.9, 1.0, 2.0], [1.0, 2.0], "abc") == ["a", "b", "c"]


def test_drawing_no_rows() -> None:
    assert place_at_random(0, [0.1, 1.0], "abc", Random(0)) == []


# Drawn classes, and quantiles inside subjects


@pytest.mark.parametrize(("temperature", "spread"), [(1e-9, 0), (1e9, 30)])
def test_a_sampled_split_lies_between_the_cut_and_chance(temperature: float, spread: int) -> None:
    train = scores([float(number) for number in range(40)])
    test = scores([0.5, 20.5, 39.5], "test")
    cut = split(train, EntropySplitConfig(), [test])
    config = SampledSplitConfig(temperature=temperature)
    drawn = [split(train, config, [test], seed=seed) for seed in range(30)]
    for result in drawn:
        # The same sizes, and held-out questions where the cut places them.
        assert Counter(classes(result)) == Counter(classes(cut))
        assert classes(result, "test") == classes(cut, "test") == ["easy", "middle", "hard"]
        assert result.thresholds == ()
    hard = Counter(
        name for result in drawn for name, place in result.complexity_of.items() if place == "hard"
    )
    if spread:
        # Each of 40 is among the 10 hard ones with probability 1/4 in 30 draws: never above 20.
        assert all(hard[f"train{number}"] < 20 for number in range(40))
        assert sum(hard[f"train{number}"] > 0 for number in range(40)) > spread
    else:
        assert all(classes(result) == classes(cut) for result in drawn)
    again = split(train, config, [test], seed=3)
    assert again == drawn[3]


def test_the_first_draw_has_the_probabilities_of_the_formula() -> None:
    # Ranks 0, 1/2, 1/2, 1 at temperature 1/2: weights 1, e, e, e^2 of 13.83 in all.
    random, count = Random(7), 4000
    counts = Counter(
        place_sampled([1.0, 2.0, 2.0, 9.0], [0.9], ["rest", "one"], 0.5, random).index("one")
        for _ in range(count)
    )
    weights = [1.0, exp(1), exp(1), exp(2)]
    for place, weight in enumerate(weights):
        p = weight / sum(weights)
        # Five standard deviations of a binomial.
        assert abs(counts[place] - count * p) < 5 * (count * p * (1 - p)) ** 0.5


def test_the_same_draw_is_the_same_split_below_and_above_temperature_one() -> None:
    values = [float(number % 7) for number in range(60)]
    low, high = (
        place_sampled(values, [0.25, 0.75], "abc", temperature, Random(4))
        for temperature in (1 - 1e-9, 1 + 1e-9)
    )
    assert low == high


def test_noise_is_finite() -> None:
    class Extreme(Random):
        bits = 0

        def getrandbits(self, k: int, /) -> int:
            return self.bits

    extreme = Extreme()
    assert 0 < _open_unit(extreme) < 2**-53
    extreme.bits = 2**53 - 1
    assert 1 - 2**-52 < _open_unit(extreme) < 1


def test_the_order_of_a_sampled_split_is_that_of_the_estimate_at_every_temperature() -> None:
    # The expected estimate of the hard class falls from the cut's to the mean of all.
    train = scores([float(number) for number in range(100)])

    def mean_of_hard(temperature: float) -> float:
        config, values = SampledSplitConfig(temperature=temperature), []
        for seed in range(20):
            placed = split(train, config, seed=seed).complexity_of
            values += [float(name[5:]) for name, place in placed.items() if place == "hard"]
        return sum(values) / len(values)

    means = [mean_of_hard(temperature) for temperature in (0.01, 0.1, 0.3, 1.0, 100.0)]
    assert means == sorted(means, reverse=True)
    assert means[0] > 86
    assert abs(means[-1] - 49.5) < 5


SUBJECTS = {
    **{f"train{number}": "law" if number < 8 else "biology" for number in range(16)},
    "test0": "law", "test1": "biology", "test2": "art",
}  # fmt: skip


def test_quantiles_inside_a_subject_by_hand() -> None:
    # Law 0 to 7 and biology 10 to 17: over all, biology alone would be hard.
    train = scores([*map(float, range(8)), *map(float, range(10, 18))])
    test = scores([6.5, 11.0, 11.0], "test")
    result = split_questions(train, [test], EntropySplitConfig(within=Within.subject), 0, SUBJECTS)
    # Linear quantiles of 0 to 7 are 1.75 and 5.25.
    expected = ["easy"] * 2 + ["middle"] * 4 + ["hard"] * 2
    assert classes(result) == expected * 2
    # Art has no training row: the cuts of all rows place it (3.75 and 13.25).
    assert classes(result, "test") == ["hard", "easy", "middle"]
    assert result.thresholds == ()
    sampled = SampledSplitConfig(within=Within.subject, temperature=1.0)
    drawn = split_questions(train, [test], sampled, 1, SUBJECTS)
    assert Counter(classes(drawn)[:8]) == Counter(classes(drawn)[8:]) == Counter(expected)
    assert classes(drawn, "test") == classes(result, "test")
    # The same ranks in both: each subject has a draw of its own.
    assert classes(drawn)[:8] != classes(drawn)[8:16]


def test_questions_without_a_subject_are_one_more_subject() -> None:
    law = {f"train{number}": "law" for number in range(4)}
    train = scores([9.0, 8.0, 7.0, 6.0, 0.0, 1.0, 2.0, 3.0])
    config = EntropySplitConfig(within=Within.subject)
    placed = classes(split_questions(train, [], config, 0, law))
    assert placed == ["hard", "middle", "middle", "easy", "easy", "middle", "middle", "hard"]


def test_a_subject_of_which_nothing_can_be_read_is_hard() -> None:
    train = scores([1.0, 2.0, 3.0, None, None, None], name="judge_steps")
    subject_of = {row.question_id: "ab"[place > 2] for place, row in enumerate(train)}
    config = EntropySplitConfig(estimator="judge_steps", within=Within.subject)
    result = split_questions(train, [], config, 0, subject_of)
    assert classes(result) == ["easy", "middle", "hard"] + ["hard"] * 3
    assert result.unreadable == 3


def test_a_subject_with_too_few_rows_is_named() -> None:
    config = EntropySplitConfig(within=Within.subject)
    subjects = {"train0": "law", "train1": "law", **{f"train{n}": "art" for n in range(2, 9)}}
    with pytest.raises(UserError, match=r"subject 'law' has 2 training questions, .* 3 classes"):
        split_questions(scores([1.0] * 9), [], config, 0, subjects)
    with pytest.raises(UserError, match="the subject 'art' has 1 "):
        refuse_small_subjects(["law", "art", *["history"] * 3], config)
    refuse_small_subjects(["law"] * 3, config)
    with pytest.raises(UserError, match="the questions have no subject"):
        split(scores([1.0] * 9), config)


def test_six_classes_as_in_the_authors_files() -> None:
    bins = [f"bin{number}" for number in range(1, 7)]
    cuts = ThresholdSplitConfig(classes=bins, thresholds=[0.24, 0.76, 1.27, 1.76, 2.28])
    values = [0.1, 0.24, 1.0, 1.5, 2.0, 3.0]
    assert classes(split(scores(values), cuts)) == bins
    sixths = EntropySplitConfig(classes=bins, quantiles=[n / 6 for n in range(1, 6)])
    assert Counter(classes(split(scores([float(n) for n in range(60)]), sixths))) == Counter(
        dict.fromkeys(bins, 10)
    )
