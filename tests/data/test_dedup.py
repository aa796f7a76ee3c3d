"""Repeats, overlaps and draws on questions written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from caft.data.config import DatasetConfig, Duplicates
from caft.data.dedup import divide, draw, drop_repeats, leave_out, order_of_draw
from caft.data.splits import QuestionSplits
from caft.errors import UserError
from caft.records import Question
from caft.text.config import PromptConfig

PINNED_ORDER = ["q1", "q5", "q4", "q0", "q3", "q2"]


def ask(id: str, text: str = "", *options: str, origin: str = "") -> Question:
    return Question(
        id=id,
        text=text or f"question {id}",
        options=options,
        gold_index=0 if options else None,
        gold_text="" if options else "x",
        origin=origin or f"rows.jsonl:{id}",
    )


def many(prefix: str, count: int) -> tuple[Question, ...]:
    return tuple(ask(f"{prefix}{number}") for number in range(count))


def config(**dials: object) -> DatasetConfig:
    return DatasetConfig(kind="local", name="local", **dials)  # type: ignore[arg-type]


def ids(questions: tuple[Question, ...]) -> list[str]:
    return [question.id for question in questions]


def test_first_of_each_id_and_content_stays() -> None:
    rows = [
        ask("1", "Which?", "a", "b"),
        ask("1", "Other?", "a", "b"),  # the id repeats
        ask("2", "  which? ", "a", "b"),  # the content repeats, but for case and space
        ask("3", "Which?", "a", "c"),  # other options: another question
        ask("4", "Which?", "b", "a"),  # and so is another order of them
    ]
    kept, removed = drop_repeats(rows, "train", Duplicates.first)
    assert ids(kept) == ["1", "3", "4"]
    assert removed == {"train rows: id repeated": 1, "train rows: question repeated": 1}


def test_repeats_are_refused_by_line_with_the_number_of_others() -> None:
    rows = [
        ask("7", "a", origin="f.jsonl:1"),
        ask("7", "b", origin="f.jsonl:5"),
        ask("8", "a", origin="f.jsonl:6"),
    ]
    with pytest.raises(UserError) as error:
        drop_repeats(rows, "train", Duplicates.refuse)
    assert str(error.value).startswith("f.jsonl:5: id '7' repeats f.jsonl:1 (1 more row ")
    assert "dataset.duplicates=first" in str(error.value)
    assert "\n" not in str(error.value)


def test_between_splits_wording_alone_decides() -> None:
    train = (ask("1", "Stem", "a", "b"), ask("2", "stem ", "c", "d"), ask("3", "Free"))
    test = (ask("9", "Stem", "x", "y"), ask("10", "Elsewhere"))
    kept, removed = leave_out(train, test, "train", "test")
    assert ids(kept) == ["3"]
    assert removed == {
        "train rows: question stands in test": 2,
        "test questions found in train": 1,
    }


def test_draws_are_pinned_and_blind_to_file_order() -> None:
    rows = many("q", 6)
    order = order_of_draw(ids(rows), "test", 0)
    assert order == order_of_draw(ids(rows[::-1]), "test", 0)
    assert order == PINNED_ORDER
    assert ids(draw(rows, 3, "test", 0)) == sorted(PINNED_ORDER[:3])  # file order is kept


def test_rows_added_to_a_file_move_none_that_were_there() -> None:
    before = order_of_draw(ids(many("q", 50)), "train", 1)
    after = order_of_draw(ids(many("q", 80)), "train", 1)
    assert [id for id in after if id in set(before)] == before


def test_a_larger_draw_holds_the_smaller_one() -> None:
    rows = many("q", 40)
    assert set(draw(rows, 10, "train", 3)) < set(draw(rows, 20, "train", 3))
    assert set(draw(rows, 10, "train", 3)) != set(draw(rows, 10, "train", 4))


def test_splits_without_rows_are_drawn_from_train() -> None:
    rows = many("q", 100)
    splits = divide(config(prompt=PromptConfig(shots=5)), train=rows)
    sizes = {split: len(getattr(splits, split)) for split in ("train", "validation", "test")}
    assert sizes == {"train": 75, "validation": 10, "test": 10}
    everything = [*splits.train, *splits.validation, *splits.test, *splits.shots]
    assert sorted(ids(tuple(everything))) == sorted(ids(rows))


def test_test_rows_stay_when_other_counts_change() -> None:
    rows = many("q", 100)
    few = divide(config(test=20, train=30), train=rows)
    more = divide(config(test=20, train=50, validation=5), train=rows)
    assert few.test == more.test
    assert divide(config(test=20, seed=1), train=rows).test != few.test


def test_test_wins_over_validation_and_validation_over_train() -> None:
    train = (ask("t1", "in all"), ask("t2", "in validation"), ask("t3", "own"))
    validation = (ask("v1", "in all"), ask("v2", "in validation"))
    test = (ask("e1", "in all"),)
    splits = divide(config(), train=train, validation=validation, test=test)
    assert (ids(splits.train), ids(splits.validation), ids(splits.test)) == (["t3"], ["v2"], ["e1"])
    assert splits.removed == {
        "validation rows: question stands in test": 1,
        "test questions found in validation": 1,
        "train rows: question stands in test": 1,
        "test questions found in train": 1,
        "train rows: question stands in validation": 1,
        "validation questions found in train": 1,
    }


def test_train_does_not_depend_on_how_many_test_rows_are_taken() -> None:
    train, test = many("t", 30), (*many("e", 10), ask("twin", "question t3"))
    small = divide(config(test=1), train=train, test=test)
    large = divide(config(test=11), train=train, test=test)
    assert small.train == large.train
    assert "t3" not in ids(small.train)


def test_shots_are_never_scored_or_trained() -> None:
    rows = (*many("q", 20), *(ask(f"twin{n}", f"question q{n}", "a", "b") for n in range(20)))
    splits = divide(config(prompt=PromptConfig(shots=4)), train=rows)
    texts = {question.text for question in splits.shots}
    assert len(splits.shots) == 4
    for split in (splits.train, splits.validation, splits.test):
        assert not texts & {question.text for question in split}


def test_too_many_asked_for_is_refused() -> None:
    with pytest.raises(UserError, match=r"dataset\.test is 5, but .* 3 of the questions can"):
        divide(config(test=5), train=many("t", 9), test=many("e", 3))
    with pytest.raises(UserError, match=r"dataset\.prompt\.shots is 99"):
        divide(config(prompt=PromptConfig(shots=99)), train=many("t", 9))


def test_no_rows_left_is_refused_with_the_reasons() -> None:
    same = [ask(f"{split}1", "one and the same") for split in "te"]
    with pytest.raises(UserError, match="no question is left for train") as error:
        divide(config(), train=(same[0],), test=(same[1],), validation=many("v", 3))
    assert "question stands in test: 1" in str(error.value)


def test_one_id_for_two_questions_is_refused() -> None:
    with pytest.raises(UserError, match=r"id '0' is another question at"):
        divide(config(validation=1), train=(ask("0", "this"), ask("1")), test=(ask("0", "that"),))


def test_test_questions_have_a_fingerprint_of_their_own() -> None:
    one, two, three = ask("1"), ask("2", "other"), ask("3", "third")

    def fingerprint(*test: Question, train: tuple[Question, ...] = ()) -> str:
        return QuestionSplits(train=train, validation=(), test=test).test_fingerprint

    assert fingerprint(one, two) == fingerprint(two, one, train=(three,))
    assert fingerprint(one, two) != fingerprint(one)
    assert fingerprint(one) != fingerprint(ask("1", "other"))
    assert fingerprint(one) == fingerprint(replace(one, rationale="3 + 4 = 7"))


def test_fingerprint_sees_content_and_split_but_not_origin() -> None:
    one, two = ask("1"), ask("2")

    def fingerprint(*train: Question, test: tuple[Question, ...] = ()) -> str:
        return QuestionSplits(train=train, validation=(), test=test).fingerprint

    assert fingerprint(one, two) != fingerprint(two, one)
    assert fingerprint(one, two) != fingerprint(one, test=(two,))
    assert fingerprint(one) == fingerprint(ask("1", origin="elsewhere.csv:9"))
    assert fingerprint(one) != fingerprint(replace(one, rationale="3 + 4 = 7"))
    assert fingerprint(ask("1", "t", "a b", "c")) != fingerprint(ask("1", "t", "a", "b c"))
    assert len(fingerprint(one)) == 64


def test_a_split_that_nobody_counted_is_called_a_tenth() -> None:
    line = r"^dataset\.validation is null \(a tenth, 4\), but .* 0 of the questions can be drawn"
    with pytest.raises(UserError, match=line):
        divide(config(), train=many("q", 40), test=many("q", 40))
