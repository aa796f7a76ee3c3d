"""Users' own files: every way to write options and answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from caft.data import QuestionSplits, load_questions, published_scores
from caft.data.config import (
    AnswerForm,
    ArithmeticConfig,
    ColumnsConfig,
    DatasetConfig,
    Duplicates,
    LocalConfig,
)
from caft.errors import UserError
from local_rows import in_order, load, refused

COLOURS = ["red", "green", "blue"]


def rows_of(*answers: object, **more: object) -> list[dict[str, object]]:
    return [
        {"question": f"Which one, {number}?", "options": COLOURS, "answer": answer, **more}
        for number, answer in enumerate(answers)
    ]


def write_jsonl(folder: Path, rows: list[dict[str, object]], name: str = "q.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def golds(splits: QuestionSplits) -> list[int | None]:
    return [question.gold_index for question in in_order(splits)]


@pytest.mark.parametrize(
    ("answers", "dials"),
    [
        (["C", "a", "B"], {}),
        ([2, 0, 1], {}),
        (["2", "0", "1"], {}),
        ([2.0, 0.0, 1.0], {}),
        (["blue", "red", "green "], {}),
        (["C", "A", "B"], {"answer_form": AnswerForm.letter}),
        ([3, 1, 2], {"answer_form": AnswerForm.index, "first_index": 1}),
        ([3, 1, 2], {"first_index": 1}),
    ],
)
def test_answers_in_every_form(
    tmp_path: Path, answers: list[object], dials: dict[str, object]
) -> None:
    assert golds(load(write_jsonl(tmp_path, rows_of(*answers)), **dials)) == [2, 0, 1]


def test_same_questions_from_jsonl_csv_and_parquet(tmp_path: Path) -> None:
    rows = rows_of("A", "C", "B", "A", topic="colours")
    jsonl = write_jsonl(tmp_path, rows)
    with (tmp_path / "list.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["question", "options", "answer", "topic"])
        writer.writeheader()
        writer.writerows({**row, "options": json.dumps(row["options"])} for row in rows)
    with (tmp_path / "wide.csv").open("w", newline="", encoding="utf-8") as file:
        wide = csv.writer(file)
        wide.writerow(["question", "o1", "o2", "o3", "o4", "answer", "topic"])
        wide.writerows([r["question"], *COLOURS, "", r["answer"], r["topic"]] for r in rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "list.parquet")

    columns, wide_columns = (
        ColumnsConfig(subject="topic"),
        ColumnsConfig(subject="topic", options="o1, o2,o3,o4"),
    )
    loaded = load(jsonl, columns=columns)
    assert loaded.train[0].subject == "colours"
    for path, how in (("list.csv", columns), ("wide.csv", wide_columns), ("list.parquet", columns)):
        assert load(str(tmp_path / path), columns=how).fingerprint == loaded.fingerprint


def test_origin_names_file_and_line(tmp_path: Path) -> None:
    splits = load(write_jsonl(tmp_path, rows_of("A", "B", "C")))
    assert [question.origin for question in in_order(splits)] == [
        "q.jsonl:1",
        "q.jsonl:2",
        "q.jsonl:3",
    ]


def test_ids_made_of_content_do_not_move(tmp_path: Path) -> None:
    first = in_order(load(write_jsonl(tmp_path, rows_of("A", "B", "C"))))
    # the same rows further down in another file
    rows = [{"question": "new?", "options": ["x", "y"], "answer": "A"}, *rows_of("A", "B", "C")]
    later = in_order(load(write_jsonl(tmp_path, rows, "other.jsonl")))
    assert [question.id for question in later[1:]] == [question.id for question in first]
    assert len({question.id for question in later}) == 4


def test_ids_rationale_and_subject_from_columns(tmp_path: Path) -> None:
    rows = [
        {**row, "n": number, "why": why}
        for number, (row, why) in enumerate(
            zip(rows_of("A", "B", "C"), ["Because.", "", None], strict=True)
        )
    ]
    columns = ColumnsConfig(id="n", rationale="why")
    found = in_order(load(write_jsonl(tmp_path, rows), columns=columns))
    assert [question.id for question in found] == ["0", "1", "2"]
    assert [question.rationale for question in found] == ["Because.", None, None]


def test_free_text_and_closed_answer_sets(tmp_path: Path) -> None:
    rows = [{"question": f"{n} + 1?", "answer": n + 1} for n in range(4)]
    path = write_jsonl(tmp_path, rows)
    free = in_order(load(path, columns=ColumnsConfig(options=None)))
    assert [(question.gold_text, question.gold_index) for question in free] == [
        ("1", None),
        ("2", None),
        ("3", None),
        ("4", None),
    ]
    closed = load(path, columns=ColumnsConfig(options=None), answer_set=list("4321"))
    assert golds(closed) == [3, 2, 1, 0]
    assert in_order(closed)[0].answer_set == ("4", "3", "2", "1")
    message = refused(path, columns=ColumnsConfig(options=None), answer_set=list("123"))
    assert "q.jsonl:4: answer 4 is not in dataset.answer_set (1, 2, 3)" in message


def test_numbers_that_are_options_too_are_not_guessed(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "options": ["1", "2", "0"], "answer": str(n)} for n in (0, 1, 2)]
    path = write_jsonl(tmp_path, rows)
    message = refused(path)
    assert "index and as text" in message
    assert "dataset.answer_form" in message
    assert golds(load(path, answer_form=AnswerForm.text)) == [2, 0, 1]
    assert golds(load(path, answer_form=AnswerForm.index)) == [0, 1, 2]


def test_letters_that_are_options_too_are_not_guessed(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "options": ["B", "A"], "answer": "AB"[n % 2]} for n in range(4)]
    assert "letter and as text" in refused(write_jsonl(tmp_path, rows))


def test_forms_that_agree_on_every_row_are_no_quarrel(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "options": ["A", "B"], "answer": "AB"[n % 2]} for n in range(4)]
    assert golds(load(write_jsonl(tmp_path, rows))) == [0, 1, 0, 1]


def test_indices_that_may_start_at_one_are_not_guessed(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, rows_of(1, 2, 1))
    message = refused(path)
    assert "dataset.first_index" in message
    assert refused(path, answer_form=AnswerForm.index) == message
    assert golds(load(path, first_index=0)) == [1, 2, 1]
    assert golds(load(path, answer_form=AnswerForm.index, first_index=1)) == [0, 1, 0]


def test_the_form_is_settled_over_all_files_together(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path, rows_of(1, 2, 1))
    test = write_jsonl(
        tmp_path, [{"question": "z?", "options": COLOURS, "answer": 0}], "test.jsonl"
    )
    splits = load(train, test_path=test, validation=1)
    assert splits.test[0].gold_index == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"answer": "D"}, "q.jsonl:3: answer 'D' is not among the 3 options; read as letter"),
        ({"answer": None}, "q.jsonl:3: column 'answer' is empty"),
        ({"answer": ["A"]}, "q.jsonl:3: column 'answer' holds ['A']"),
        ({"answer": True}, "q.jsonl:3: column 'answer' holds True"),
        ({"question": ""}, "q.jsonl:3: column 'question' is empty"),
        ({"question": "  \n"}, "q.jsonl:3: column 'question' is empty"),
        ({"question": None}, "q.jsonl:3: column 'question' is empty"),
        ({"question": 7}, "q.jsonl:3: column 'question' holds 7 (int); give text"),
        ({"options": ["red"]}, "q.jsonl:3: 1 option; give 2 to 26"),
        ({"options": []}, "q.jsonl:3: 0 options"),
        ({"options": [f"o{n}" for n in range(27)]}, "q.jsonl:3: 27 options; give 2 to 26"),
        ({"options": ["red", " "]}, "q.jsonl:3: option 2 is empty"),
        ({"options": ["red", None]}, "q.jsonl:3: option 2 is None"),
        ({"options": ["red", {"x": 1}]}, "q.jsonl:3: option 2 is {'x': 1}"),
        ({"options": "red or green"}, "q.jsonl:3: column 'options' holds no list"),
        ({"options": {"A": "red"}}, "q.jsonl:3: column 'options' holds no list"),
        ({"question": "half \ud800"}, "q.jsonl:3: a text holds half a surrogate pair"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(
    tmp_path: Path, change: dict[str, object], named: str
) -> None:
    rows = rows_of("A", "B", "C", "A")
    rows[2].update(change)
    message = refused(write_jsonl(tmp_path, rows))
    assert message.startswith(named)


def test_twenty_six_options_are_fine(tmp_path: Path) -> None:
    options = [f"option {n}" for n in range(26)]
    rows = [{"question": f"{n}?", "options": options, "answer": "Z"} for n in range(3)]
    assert golds(load(write_jsonl(tmp_path, rows))) == [25, 25, 25]


def test_several_wrong_rows_are_counted(tmp_path: Path) -> None:
    rows = rows_of("A", "X", "B", "Y", "C", "Q", "A", "B")
    message = refused(write_jsonl(tmp_path, rows))
    assert message.startswith("q.jsonl:2: answer 'X'")
    assert "(2 more rows" in message


@pytest.mark.parametrize(
    "answers", [list("abc"), ["(B)", "(C)", "(A)"], ["B.", "C.", "A."], ["[A]", "b)", "C:"]]
)
def test_letters_as_people_write_them(tmp_path: Path, answers: list[str]) -> None:
    letters = ["".join(filter(str.isalpha, answer)).upper() for answer in answers]
    assert golds(load(write_jsonl(tmp_path, rows_of(*answers)))) == [
        "ABC".index(letter) for letter in letters
    ]


@pytest.mark.parametrize(
    "answers", [[1, 2, 3], ["1", "2", "3"], [1.0, 2.0, 3.0], ["1.0", "3.0", "2.0"]]
)
def test_the_last_option_tells_that_indices_count_from_one(
    tmp_path: Path, answers: list[object]
) -> None:
    expected = [int(float(str(answer))) - 1 for answer in answers]
    for dials in ({}, {"answer_form": AnswerForm.index}):
        assert golds(load(write_jsonl(tmp_path, rows_of(*answers)), **dials)) == expected


def test_indices_that_fit_no_base_name_the_odd_row(tmp_path: Path) -> None:
    message = refused(write_jsonl(tmp_path, rows_of(0, 1, 2, 0, 1, 3)))
    assert message.startswith("q.jsonl:6: answer 3 is not among the 3 options; read as index")


def test_one_number_in_two_spellings_is_one_option(tmp_path: Path) -> None:
    rows = [
        {"question": f"{n}?", "options": ["1.5", "2.0", "30"], "answer": answer}
        for n, answer in enumerate(["1.50", "2", "30.0"])
    ]
    assert golds(load(write_jsonl(tmp_path, rows))) == [0, 1, 2]


def test_two_equal_options_are_named_where_one_is_gold(tmp_path: Path) -> None:
    rows = rows_of("A", "B", "C")
    rows[1]["options"] = ["red", "green", " green "]
    message = refused(write_jsonl(tmp_path, rows))
    assert message.startswith("q.jsonl:2: options 2 and 3 are both 'green', the answer")
    rows[1]["answer"] = "A"
    assert golds(load(write_jsonl(tmp_path, rows))) == [0, 0, 2]


GPQA = ["Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Subdomain"]


def test_gpqas_own_columns(tmp_path: Path) -> None:
    path = tmp_path / "gpqa.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Pre-Revision Question", *GPQA, ""])
        writer.writerows(
            ["", f"What, then,\nis {n}?", f"r{n}\n", f"x{n}", f"y{n}", "Physics", ""]
            for n in range(30)
        )
    columns = ColumnsConfig(options=GPQA[1:4], answer=GPQA[1], question=GPQA[0], subject=GPQA[4])
    assert "dataset.shuffle_options=true" in refused(str(path), columns=columns)
    question = load(str(path), columns=columns, shuffle_options=True).train[0]
    number = question.text.removeprefix("What, then,\nis ").removesuffix("?")
    assert sorted(question.options) == [f"r{number}", f"x{number}", f"y{number}"]
    assert question.options[question.gold_index or 0] == f"r{number}"
    assert question.subject == "Physics"


def free(folder: Path, answers: list[str], **names: str) -> str:
    rows = [{"question": f"What is {n}?", "answer": answer} for n, answer in enumerate(answers)]
    return write_jsonl(folder, rows)


@pytest.mark.parametrize(
    ("final", "gold"), [("1,234", "1234"), ("-5", "-5"), ("2.5", "2.5"), ("0", "0")]
)
def test_solutions_that_end_in_a_number_are_split_off(
    tmp_path: Path, final: str, gold: str
) -> None:
    path = free(tmp_path, [f"First {n}.\nThen <<1*2=2>>2.\n#### {final}\n" for n in range(12)])
    splits = load(path)
    assert {question.gold_text for question in splits.train} == {gold}
    for question in splits.train:
        number = question.text.removeprefix("What is ").removesuffix("?")
        assert question.rationale == f"First {number}.\nThen 2."
    bare = free(tmp_path, ["7", "8", "9"])
    Path(bare).rename(tmp_path / "bare.jsonl")
    path = free(tmp_path, [f"So {n}.\n#### {n}" for n in range(12)])
    both = load(path, test_path=str(tmp_path / "bare.jsonl"), duplicates=Duplicates.first)
    assert {(q.gold_text, q.rationale) for q in both.test} == {(n, None) for n in "789"}


def test_a_column_that_was_not_named_is_no_solution_beside_those_that_are_split_off(
    tmp_path: Path,
) -> None:
    train = free(tmp_path, [f"So {n}.\n#### {n}" for n in range(12)])
    rows: list[dict[str, object]] = [
        {"question": f"And {n}?", "answer": str(n), "rationale": "Not mapped."} for n in range(4)
    ]
    splits = load(train, test_path=write_jsonl(tmp_path, rows, "test.jsonl"))
    assert {q.rationale for q in splits.test} == {None}
    assert all((q.rationale or "").startswith("So ") for q in splits.train)


def test_solutions_as_gold_are_noticed(tmp_path: Path) -> None:
    answers = [f"First {n}.\n#### {n}" for n in range(12)]
    message = refused(free(tmp_path, answers), columns=ColumnsConfig(rationale="question"))
    assert "q.jsonl:1: column 'answer' holds whole worked solutions" in message
    assert "in 12 of 12 rows; put the number into a column of its own" in message
    message = refused(free(tmp_path, [*answers, "Six. " * 9999]))
    assert "in 12 of 13 rows (not q.jsonl:13); end every answer so, or put the num" in message
    assert len(message) < 300
    # Also where those of another file are split off.
    path = free(tmp_path, answers)
    odd = [{"question": f"And {n}?", "answer": text} for n, text in enumerate([*answers, "Six."])]
    message = refused(path, test_path=write_jsonl(tmp_path, odd, "test.jsonl"))
    assert "in 12 of 13 rows (not test.jsonl:13); end every answer so, or put the num" in message


def test_solutions_around_a_box_are_noticed_and_boxed_answers_are_none(tmp_path: Path) -> None:
    columns = ColumnsConfig(options=None)
    path = free(tmp_path, [f"So that $x = \\boxed{{{n}}}$." for n in range(12)])
    message = refused(path, columns=columns)
    assert message.startswith("q.jsonl:1: column 'answer' holds whole worked solutions")
    assert r"\boxed{}, in 12 of 12 rows" in message
    load(free(tmp_path, [f"$\\boxed{{{n}}}$" for n in range(12)]), columns=columns)


@pytest.mark.parametrize("answer", ["x" * 501, "one\ntwo"])
def test_gold_that_no_reply_can_equal_is_refused(tmp_path: Path, answer: str) -> None:
    message = refused(free(tmp_path, ["1", answer, "3"]), columns=ColumnsConfig(options=None))
    assert message.startswith("q.jsonl:2: the answer has ")
    assert "dataset.columns.rationale" in message


def test_a_question_of_megabytes_is_refused_at_once(tmp_path: Path) -> None:
    rows = rows_of("A", "B", "C")
    rows[1]["question"] = "why " * 2_500_000
    message = refused(write_jsonl(tmp_path, rows))
    assert message.startswith("q.jsonl:2: a text of 9,999,999 characters")
    assert len(message) < 300


def test_options_that_are_not_there_say_how_to_name_them(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "one": "x", "two": "y", "answer": "A"} for n in range(3)]
    assert "dataset.columns.options=one,two" in refused(write_jsonl(tmp_path, rows))


def test_near_misses_of_option_texts_are_suggested(tmp_path: Path) -> None:
    message = refused(write_jsonl(tmp_path, rows_of("red", "gren", "blue")))
    assert "q.jsonl:2: answer 'gren'" in message
    assert "did you mean 'green'?" in message


def test_an_answer_that_is_two_options_is_refused(tmp_path: Path) -> None:
    rows = rows_of("red", "red", "red")
    rows[1]["options"] = ["red", "red", "blue"]
    message = refused(write_jsonl(tmp_path, rows), answer_form=AnswerForm.text)
    assert message.startswith("q.jsonl:2: answer 'red' is the text of two options")


@pytest.mark.parametrize(
    ("dials", "named"),
    [
        ({"columns": ColumnsConfig(answer="anser")}, "did you mean 'answer'?"),
        ({"columns": ColumnsConfig(subject="topic")}, "dataset.columns.subject is 'topic'"),
        ({"columns": ColumnsConfig(options="A,B,C")}, "dataset.columns.options (name 1) is 'A'"),
        ({"columns": ColumnsConfig(options="A,B,C")}, "; give dataset.columns.options=[NAME,...]"),
        ({"columns": ColumnsConfig(id="id")}, "dataset.columns.id is 'id'"),
        ({"answer_set": ["A", "B"]}, "both set"),
        (
            {"columns": ColumnsConfig(options=None), "answer_form": AnswerForm.letter},
            "dataset.answer_form is letter",
        ),
        ({"test_path": "no/such/file.jsonl"}, "dataset.test_path=no/such/file.jsonl"),
    ],
)
def test_dials_that_do_not_fit_the_file(
    tmp_path: Path, dials: dict[str, object], named: str
) -> None:
    assert named in refused(write_jsonl(tmp_path, rows_of("A", "B", "C")), **dials)


def test_duplicate_ids(tmp_path: Path) -> None:
    rows = [{**row, "n": n} for row, n in zip(rows_of(*"ABCABC"), [1, 2, 3, 2, 4, 5], strict=True)]
    path, columns = write_jsonl(tmp_path, rows), ColumnsConfig(id="n")
    message = refused(path, columns=columns)
    assert message.startswith("q.jsonl:4: id '2' repeats q.jsonl:2")
    assert "dataset.duplicates=first" in message
    splits = load(path, columns=columns, duplicates=Duplicates.first)
    assert [question.id for question in in_order(splits)] == ["1", "2", "3", "4", "5"]
    assert splits.removed == {"train rows: id repeated": 1}


@pytest.mark.parametrize("id", [None, "", True, 1.5, ["x"]])
def test_ids_of_wrong_types(tmp_path: Path, id: object) -> None:
    rows = [{**row, "n": n} for row, n in zip(rows_of("A", "B", "C"), [1, id, 3], strict=True)]
    path = write_jsonl(tmp_path, rows)
    held = "is empty" if id in (None, "") else "holds"
    said = refused(path, columns=ColumnsConfig(id="n"))
    assert said.startswith(f"q.jsonl:2: column 'n' {held}")


def test_no_file_and_an_unknown_kind() -> None:
    with pytest.raises(
        UserError, match=r"dataset\.train_path is not set.*\.jsonl, \.csv, \.parquet, \.json"
    ):
        load_questions(LocalConfig(name="local"))
    with pytest.raises(UserError, match="dataset=text needs one file"):
        load_questions(LocalConfig(name="text"))
    with pytest.raises(
        UserError,
        match="give one of arithmetic, gsm_symbolic, hub, local, mixed",
    ):
        load_questions(DatasetConfig(kind="imaginary", name="x"))
    with pytest.raises(UserError, match=r"dataset\.first_index is 2"):
        LocalConfig(name="local", first_index=2)
    with pytest.raises(UserError, match="answer_set names '1' 2 times; name it once"):
        LocalConfig(name="local", answer_set=["1", "1"])
    with pytest.raises(UserError, match=r"give two or more different answers, or \[\]"):
        LocalConfig(name="local", answer_set=["1"])


def test_relative_paths_start_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(tmp_path, rows_of("A", "B", "C"))
    monkeypatch.chdir(tmp_path)
    assert len(in_order(load("q.jsonl"))) == 3


PUBLISHED = ColumnsConfig(id="n")


def scored_rows() -> list[dict[str, object]]:
    return [
        {**row, "n": n, "entropy": n / 2, "correct": n % 2 == 0}
        for n, row in enumerate(rows_of("A", "B", "C"))
    ]


def scores(path: str) -> dict[str, tuple[float, bool]]:
    config = LocalConfig(name="local", train_path=path, columns=PUBLISHED)
    return published_scores(config, "entropy", "correct")


def test_published_scores_by_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    expected = {"0": (0.0, True), "1": (0.5, False), "2": (1.0, True)}
    assert scores(write_jsonl(tmp_path, scored_rows())) == expected
    as_text = [
        {**r, "entropy": str(r["entropy"]), "correct": str(r["correct"])} for r in scored_rows()
    ]
    assert scores(write_jsonl(tmp_path, as_text)) == expected
    assert not caplog.records  # the loading of the questions logs it


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"entropy": -0.1}, "q.jsonl:2: column 'entropy' holds -0.1"),
        ({"entropy": float("nan")}, "q.jsonl:2: column 'entropy' holds nan"),
        ({"entropy": None}, "q.jsonl:2: column 'entropy' is empty"),
        ({"entropy": "high" * 99}, "q.jsonl:2: column 'entropy' holds 'highhighhighhighhighh"),
        ({"entropy": "high"}, "q.jsonl:2: column 'entropy' holds 'high'"),
        ({"correct": "perhaps"}, "q.jsonl:2: column 'correct' holds 'perhaps'"),
        ({"n": 0}, "q.jsonl:2: id '0' has two different scores"),
    ],
)
def test_scores_that_are_none_are_refused(
    tmp_path: Path, change: dict[str, object], named: str
) -> None:
    rows = scored_rows()
    rows[1].update(change)
    with pytest.raises(UserError) as error:
        scores(write_jsonl(tmp_path, rows))
    assert str(error.value).startswith(named)


def test_scores_need_their_columns_and_local_files(tmp_path: Path) -> None:
    config = LocalConfig(name="local", train_path=write_jsonl(tmp_path, rows_of("A", "B")))
    with pytest.raises(UserError, match=r"score\.entropy_column is 'h'"):
        published_scores(config, "h", "answer")
    with pytest.raises(UserError, match="dataset=arithmetic does not have"):
        published_scores(ArithmeticConfig(name="arithmetic"), "h", "c")
