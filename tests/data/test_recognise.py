"""Files as other tools write them are read without naming a column."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from caft.data.config import ColumnsConfig
from caft.data.recognise import find_series
from caft.errors import UserError
from local_rows import in_order, load

COLOURS = ("red", "green", "blue")
LETTERED = dict(zip("ABC", COLOURS, strict=True))


def write(
    folder: Path, rows: list[dict[str, object]], ending: str = "jsonl", name: str = "q"
) -> str:
    path = folder / f"{name}.{ending}"
    if ending == "json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


OPTIONS: dict[str, object] = {
    "list": {"options": list(COLOURS)},
    "list under another name": {"choices": list(COLOURS)},
    "JSON as text": {"options": json.dumps(COLOURS)},
    "Python as text": {"options": repr(list(COLOURS))},
    "dict of letters": {"options": LETTERED},
    "dict of letters, as text": {"Options": repr(LETTERED)},
    "dict in another order": {"options": dict(reversed(LETTERED.items()))},
    "two lists": {"choices": {"text": list(COLOURS), "label": ["A", "B", "C"]}},
    "two arrays, as text": {
        "choices": f"{{'text': array({list(COLOURS)}, dtype=object),\n"
        " 'label': array(['A', 'B', 'C'], dtype=object)}"
    },
    "dicts": {"choices": [{"label": name, "text": text} for name, text in LETTERED.items()]},
    "letters as columns": LETTERED,
    "columns with a prefix": {f"Option {name}": text for name, text in LETTERED.items()},
    "numbered columns": {f"option{n}": text for n, text in enumerate(COLOURS, start=1)},
    "MedMCQA's columns": {f"op{name.lower()}": text for name, text in LETTERED.items()},
}
ANSWERS: dict[str, list[object]] = {
    "letter": ["C", "A", "B"],
    "index": [2, 0, 1],
    "text": ["blue", "red", "green"],
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_options_and_answers_in_every_form(tmp_path: Path, options: dict[str, object]) -> None:
    for number, answers in enumerate(ANSWERS.values()):
        rows = [
            {"question": f"Which is {n}?", **options, "answer": answer}
            for n, answer in enumerate(answers)
        ]
        ending = ("jsonl", "json", "parquet")[number]
        found = in_order(load(write(tmp_path, rows, ending)))
        assert [question.options for question in found] == [COLOURS] * 3
        assert [question.gold_index for question in found] == [2, 0, 1]


def test_labels_may_differ_from_row_to_row(tmp_path: Path) -> None:
    rows = [
        {"question": f"{n}?", "choices": {"text": list(COLOURS), "label": list(labels)},
         "answerKey": answer}
        for n, (labels, answer) in enumerate([("ABC", "C"), ("123", "1"), ("ABC", "B")])
    ]  # fmt: skip
    splits = load(write(tmp_path, rows))
    assert [question.gold_index for question in in_order(splits)] == [2, 0, 1]
    assert splits.sources["answer"] == "answerKey, as letter"


@pytest.mark.parametrize(
    "truths", [(True, False, True), ("yes", "No", "yes"), ("true", "false", "True")]
)
def test_truth_values_are_two_options(tmp_path: Path, truths: tuple[object, ...]) -> None:
    rows = [{"question": f"Is it {n}?", "answer": truth} for n, truth in enumerate(truths)]
    words = ("Yes", "No") if "No" in truths else ("True", "False")
    found = in_order(load(write(tmp_path, rows)))
    assert [question.options for question in found] == [words] * 3
    assert [question.gold_index for question in found] == [0, 1, 0]
    # Who asks for free text gets it.
    free = in_order(load(write(tmp_path, rows), columns=ColumnsConfig(options=None)))
    assert [question.gold_text for question in free] == [str(truth) for truth in truths]


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_alpaca_with_solutions(tmp_path: Path, ending: str) -> None:
    rows: list[dict[str, object]] = [
        {"instruction": "Add.", "input": f"2 and {n}", "output": f"2 + {n}.\n#### {2 + n}"}
        for n in range(3)
    ]
    rows[1]["input"] = ""
    found = in_order(load(write(tmp_path, rows, ending)))
    assert [question.text for question in found] == ["Add.\n\n2 and 0", "Add.", "Add.\n\n2 and 2"]
    assert [question.gold_text for question in found] == ["2", "3", "4"]
    assert found[0].rationale == "2 + 0."


def test_completions_are_split_unless_they_are_options(tmp_path: Path) -> None:
    rows = [{"prompt": f"2 and {n}?", "completion": f"2 + {n}.\n#### {2 + n}"} for n in range(3)]
    splits = load(write(tmp_path, rows))
    found = in_order(splits)
    assert [question.text for question in found] == ["2 and 0?", "2 and 1?", "2 and 2?"]
    assert [question.gold_text for question in found] == ["2", "3", "4"]
    assert found[0].rationale == "2 + 0."
    assert splits.sources["answer"].startswith("TRL")
    turns: list[dict[str, object]] = [
        {name: [{"role": "user", "content": text}] for name, text in row.items()} for row in rows
    ]
    same = in_order(load(write(tmp_path, turns, name="turns")))
    assert [q.gold_text for q in same] == ["2", "3", "4"]
    turns[1]["prompt"] = [*turns[0]["prompt"], *turns[1]["prompt"]]  # type: ignore[misc]
    with pytest.raises(UserError, match=r"turns.jsonl:2: column 'prompt' holds .*of one turn"):
        load(write(tmp_path, turns, name="turns"))
    turns[1]["prompt"] = []
    with pytest.raises(UserError, match=r"turns.jsonl:2: column 'question' is empty"):
        load(write(tmp_path, turns, name="turns"))
    chosen = [{**row, "choices": COLOURS, "completion": "red"} for row in rows]
    assert {q.gold_index for q in in_order(load(write(tmp_path, chosen, name="chosen")))} == {0}


def test_calculator_marks_are_left_out_and_an_empty_list_is_no_input(tmp_path: Path) -> None:
    reply = "Half is <<4/2=2>>2.\n#### 1,002"
    rows = [{"instruction": f"Task {n}.", "input": [], "output": reply} for n in range(3)]
    found = in_order(load(write(tmp_path, rows)))
    assert [question.text for question in found] == ["Task 0.", "Task 1.", "Task 2."]
    assert {(q.gold_text, q.rationale) for q in found} == {("1,002", "Half is 2.")}


def alpaca(n: int, output: str) -> dict[str, object]:
    return {"instruction": f"Add {n} and 1.", "output": output.format(n + 1)}


@pytest.mark.parametrize("odd", ["train", "test"])
@pytest.mark.parametrize("form", ["So #### {}", "So it is [[{}]]", "So it is \\\\boxed{{{}}}"])
def test_solutions_are_split_off_in_the_whole_of_a_file_or_not_at_all(
    tmp_path: Path, form: str, odd: str
) -> None:
    rows = {
        "train": [alpaca(n, form) for n in range(6)],
        "test": [alpaca(n, form) for n in range(6, 20)],
    }
    paths = {part: write(tmp_path, each, name=part) for part, each in rows.items()}
    splits = load(paths["train"], test_path=paths["test"], validation=2)
    assert {q.gold_text for q in splits.test} == {str(n + 1) for n in range(6, 20)}
    assert all((q.rationale or "").startswith("So") for q in (*splits.train, *splits.test))
    rows[odd][3]["output"] = "It is 4."
    write(tmp_path, rows[odd], name=odd)
    refused = rf"^{odd}\.jsonl:1: the reply \(Alpaca\) holds .* of the file"
    with pytest.raises(UserError, match=refused):
        load(paths["train"], test_path=paths["test"])


@pytest.mark.parametrize(
    ("train", "test"),
    [("So #### {}", "It is [[{}]]"), ("So #### {}", "{}"), ("{}", "So it is [[{}]]")],
)
def test_each_file_marks_its_answers_as_it_does(tmp_path: Path, train: str, test: str) -> None:
    paths = (
        write(tmp_path, [alpaca(n, train) for n in range(6)], name="train"),
        write(tmp_path, [alpaca(n, test) for n in range(6, 9)], name="test"),
    )
    splits = load(paths[0], test_path=paths[1], validation=2)
    assert {q.gold_text for q in splits.train} < {str(n + 1) for n in range(6)}
    assert {q.gold_text for q in splits.test} == {"7", "8", "9"}
    for form, part in ((train, splits.train), (test, splits.test)):
        assert {bool(q.rationale) for q in part} == {form != "{}"}


def test_solutions_as_gold_of_the_smaller_file_are_noticed(tmp_path: Path) -> None:
    train = write(tmp_path, [alpaca(n, "{}") for n in range(20)])
    rows = [alpaca(n, "So #### {}") for n in range(20, 24)]
    test = write(tmp_path, [*rows, alpaca(24, "It is {}.")], name="test")
    with pytest.raises(UserError, match=r"^test\.jsonl:1: .* in 4 of 5 rows"):
        load(train, test_path=test)


def test_a_rationale_of_one_file_alone_is_not_demanded_of_the_other(tmp_path: Path) -> None:
    train = write(tmp_path, [{**alpaca(n, "{}"), "rationale": "So."} for n in range(6)])
    test = write(tmp_path, [alpaca(n, "{}") for n in range(6, 9)], name="test")
    splits = load(train, test_path=test, validation=2)
    assert {q.rationale for q in splits.train} == {"So."}
    assert [q.rationale for q in splits.test] == [None] * 3


def chat(n: int, system: str = "Be short.", **more: object) -> dict[str, object]:
    turns = [("system", system), ("user", f"What is {n}?"), ("assistant", f"It is [[{n}]]")]
    return {"messages": [{"role": role, "content": text} for role, text in turns], **more}


def test_messages_and_sharegpt(tmp_path: Path) -> None:
    found = in_order(load(write(tmp_path, [chat(n) for n in range(3)])))
    assert [question.text for question in found] == ["What is 0?", "What is 1?", "What is 2?"]
    assert [(q.gold_text, q.rationale) for q in found] == [(str(n), "It is") for n in range(3)]
    share = [
        {"conversations": [{"from": "human", "value": f"{n}?"}, {"from": "gpt", "value": str(n)}]}
        for n in range(3)
    ]
    found = in_order(load(write(tmp_path, share, "json")))
    assert [(q.text, q.gold_text) for q in found] == [(f"{n}?", str(n)) for n in range(3)]


def test_a_system_turn_of_a_row_is_context(tmp_path: Path) -> None:
    rows = [chat(n, system=f"Passage {n}.") for n in range(3)]
    assert in_order(load(write(tmp_path, rows)))[1].text == "Passage 1.\n\nWhat is 1?"


@pytest.mark.parametrize("odd", [range(6, 9), range(7, 8)])
def test_a_system_turn_is_left_out_of_all_files_or_of_none(tmp_path: Path, odd: range) -> None:
    train = write(tmp_path, [chat(n) for n in range(6)])
    rows = [chat(n, "Be long." if n in odd else "Be short.") for n in range(6, 9)]
    splits = load(train, test_path=write(tmp_path, rows, name="test"), validation=2)
    assert splits.train[0].text.startswith("Be short.\n\nWhat is ")
    assert {q.text.splitlines()[0] for q in splits.test} == {
        "Be long." if n in odd else "Be short." for n in range(6, 9)
    }


def test_conversations_of_several_turns_are_named(tmp_path: Path) -> None:
    rows = [chat(n) for n in range(3)]
    rows[1]["messages"] = [*rows[1]["messages"], {"role": "user", "content": "?"}]  # type: ignore[misc]
    with pytest.raises(UserError, match=r"q\.jsonl:2: .* the turns system, user, assistant, user"):
        load(write(tmp_path, rows))


def test_what_is_given_is_not_guessed_and_what_is_unsure_is_asked(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": f"{n}?", "choices": list(COLOURS), "label": "C", "gold": "A"} for n in range(3)
    ]
    path = write(tmp_path, rows)
    with pytest.raises(UserError, match=r"dataset\.columns\.answer is 'answer'"):
        load(path)  # label or gold?
    found = in_order(load(path, columns=ColumnsConfig(answer="label")))
    assert [question.gold_index for question in found] == [2] * 3
    with pytest.raises(UserError, match=r"dataset\.columns\.question is 'text'"):
        load(path, columns=ColumnsConfig(question="text", answer="label"))


LISTED: dict[str, object] = {"choices": list(COLOURS)}
FOUR = {**LETTERED, "D": "gold"}


def write_pair(folder: Path, train: dict[str, object], test: dict[str, object]) -> list[str]:
    return [
        write(
            folder,
            [{"question": f"{name} {n}?", **more, "answer": "ABC"[n % 3]} for n in range(6)],
            name=name,
        )
        for name, more in (("train", train), ("test", test))
    ]


@pytest.mark.parametrize(
    ("train", "test", "words", "way_out"),
    [
        (LETTERED, FOUR, "in A, B, C, D, and train.jsonl in A, B, C; ", [*LETTERED]),
        (FOUR, LETTERED, "in A, B, C, and train.jsonl in A, B, C, D; ", [*LETTERED]),
        ({}, LETTERED, "in A, B, C, and train.jsonl has none; ", None),
        ({}, LISTED, "in choices, and train.jsonl has none; ", None),
        (LISTED, LETTERED, "in A, B, C, and train.jsonl in choices; ", None),
    ],
)
def test_options_in_other_columns_than_those_of_the_first_file_are_not_left_out(
    tmp_path: Path,
    train: dict[str, object],
    test: dict[str, object],
    words: str,
    way_out: list[str] | None,
) -> None:
    one, other = write_pair(tmp_path, train, test)
    with pytest.raises(UserError) as refused:
        load(one, test_path=other, validation=2)
    assert str(refused.value).startswith(f"test.jsonl has its options {words}give both files ")
    splits = load(one, test_path=other, validation=2, columns=ColumnsConfig(options=way_out))
    assert {len(question.options) for question in splits.test} == {len(way_out or ())}


@pytest.mark.parametrize(
    ("train", "test", "options"),
    [
        ({}, {"weight": 1}, 0),
        (LETTERED, {name.lower(): text for name, text in LETTERED.items()}, 3),
        (LETTERED, {**FOUR, "D": None}, 3),
        (LISTED, {**LISTED, "options": ["old", "list"]}, 3),
    ],
)
def test_other_columns_that_are_no_other_options_are_read(
    tmp_path: Path, train: dict[str, object], test: dict[str, object], options: int
) -> None:
    one, other = write_pair(tmp_path, train, test)
    splits = load(one, test_path=other, validation=2)
    assert {len(question.options) for question in splits.test} == {options}


def test_further_answers_of_one_file_are_no_options(tmp_path: Path) -> None:
    one, other = write_pair(tmp_path, {}, {"answer_1": "A", "answer_2": "B"})
    splits = load(one, test_path=other, validation=2)
    assert {q.gold_text for q in (*splits.train, *splits.test)} == {*"ABC"}


@pytest.mark.parametrize("words", [("True", "False"), ("Yes", "No")])
def test_truth_values_may_have_their_options_in_the_test_file_alone(
    tmp_path: Path, words: tuple[str, str]
) -> None:
    rows: dict[str, list[dict[str, object]]] = {
        name: [{"question": f"{name} {n}?", "answer": words[n % 2]} for n in range(6)]
        for name in ("train", "test")
    }
    rows["test"] = [{**row, "options": words} for row in rows["test"]]
    one, other = (write(tmp_path, each, name=name) for name, each in rows.items())
    splits = load(one, test_path=other, validation=2)
    assert {question.options for question in (*splits.train, *splits.test)} == {words}
    assert [question.gold_index for question in splits.test] == [0, 1] * 3


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["A", "q", "B"], ["A", "B"]),
        (["opt_10", *(f"opt_{n}" for n in range(1, 10))], [f"opt_{n}" for n in range(1, 11)]),
        (["a", "c"], None),
        (["1", "2"], None),
        (["A", "B", "option1", "option2"], None),
    ],
)
def test_series_of_option_columns(names: list[str], found: list[str] | None) -> None:
    assert find_series(names) == found
