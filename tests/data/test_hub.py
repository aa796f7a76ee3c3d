"""Datasets of the hub by their true schemas, on small files laid out as there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import yaml
from omegaconf import OmegaConf

from caft.data import NotHereError, QuestionSplits, load_questions
from caft.data.config import HubConfig
from caft.data.hub_files import are_complete, choose_files
from caft.errors import UserError
from caft.hydra_bridge import find_conf
from caft.records import Question

TEXT, TEXTS = pa.string(), pa.list_(pa.string())
WORDS = ("red", "green", "blue", "white")
CHOICES = pa.struct([("text", TEXTS), ("label", TEXTS)])


def choices(count: int, labels: str = "ABCDE") -> dict[str, Any]:
    return {"text": [*WORDS, "grey"][:count], "label": list(labels[:count])}


def gpqa(n: int) -> dict[str, Any]:
    wrong = {f"Incorrect Answer {place}": WORDS[place] for place in (1, 2, 3)}
    return {
        "Question": f"{n}?",
        "Correct Answer": "red\n",
        **wrong,
        "Record ID": f"rec{n}",
        "High-level domain": "Physics",
        "Explanation": "So it is.",
        "Subdomain": "Optics",
    }


OPTIONS = ("opa", "opb", "opc", "opd")


def exam(n: int, **change: object) -> dict[str, Any]:
    options = {name: f"bone {name} {n}" for name in OPTIONS}
    named = {"id": f"id-{n}", "subject_name": "Anatomy", "exp": "Books say so."}
    return {**named, "question": f"Bone {n}?", **options, "cop": n % 4, **change}


def problem(n: int, final: str = "") -> dict[str, Any]:
    solution = f"Each box has 3 apples.\nSo there are {n}*3=<<{n}*3={n * 3}>>{n * 3} apples."
    return {"question": f"Ann packs {n} boxes?", "answer": f"{solution}\n#### {final or n * 3}"}


def sciq(n: int) -> dict[str, Any]:
    wrong = {f"distractor{place}": WORDS[place] for place in (3, 1, 2)}
    return {"question": f"{n}?", **wrong, "correct_answer": "red", "support": "It is red."}


Made = Callable[[int], dict[str, Any]]
SETS: dict[str, tuple[tuple[str, ...], list[tuple[str, pa.DataType]], Made]] = {
    "mmlu": (
        ("all/test-00000-of-00001.parquet",),
        [("question", TEXT), ("subject", TEXT), ("choices", TEXTS), ("answer", pa.int64())],
        lambda n: {"question": f"{n}?", "subject": "law", "choices": WORDS, "answer": n % 4},
    ),
    "arc": (
        tuple(f"ARC-Challenge/{split}-00000-of-00001.parquet"
              for split in ("train", "validation", "test")),
        [("id", TEXT), ("question", TEXT), ("choices", CHOICES), ("answerKey", TEXT)],
        lambda n: {"id": f"i{n}", "question": f"{n}?",
                   "choices": choices(3 + n % 2, "1234" if n % 5 == 0 else "ABCD"),
                   "answerKey": "1234"[n % 3] if n % 5 == 0 else "ABC"[n % 3]},
    ),
    "commonsense_qa": (
        ("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"),
        [("id", TEXT), ("question", TEXT), ("question_concept", TEXT), ("choices", CHOICES),
         ("answerKey", TEXT)],
        lambda n: {"id": f"i{n}", "question": f"{n}?", "question_concept": "colour",
                   "choices": choices(5), "answerKey": "ABCDE"[n % 5]},
    ),
    "openbookqa": (
        tuple(f"main/{split}-00000-of-00001.parquet" for split in ("train", "validation", "test")),
        [("id", TEXT), ("question_stem", TEXT), ("choices", CHOICES), ("answerKey", TEXT)],
        lambda n: {"id": f"i{n}", "question_stem": f"{n} is", "choices": choices(4),
                   "answerKey": "ABCD"[n % 4]},
    ),
    "sciq": (
        tuple(f"data/{split}-00000-of-00001.parquet" for split in ("train", "validation", "test")),
        [(name, TEXT) for name in sciq(0)],
        sciq,
    ),
    "boolq": (
        ("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"),
        [("question", TEXT), ("answer", pa.bool_()), ("passage", TEXT)],
        lambda n: {"question": f"is it {n}", "answer": n % 3 == 0, "passage": f"Passage {n}."},
    ),
    "math": (
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        [("problem", TEXT), ("solution", TEXT), ("answer", TEXT), ("subject", TEXT),
         ("level", pa.int64()), ("unique_id", TEXT)],
        lambda n: {"problem": f"What is ${n}$?", "solution": f"It is $\\boxed{{{n}}}$.",
                   "answer": str(n), "subject": "Algebra", "level": 1 + n % 5,
                   "unique_id": f"train/algebra/{n}.json"},
    ),
    "medmcqa": (
        ("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"),
        [(name, pa.int64() if name == "cop" else TEXT) for name in exam(0)],
        exam,
    ),
    "gsm8k": (
        tuple(f"{name}/{split}-00000-of-00001.parquet"
              for name in ("main", "socratic") for split in ("train", "test")),
        [(name, TEXT) for name in problem(0)],
        problem,
    ),
    "gpqa": (("gpqa_main.csv", "gpqa_diamond.csv"), [(name, TEXT) for name in gpqa(0)], gpqa),
}  # fmt: skip


def lay_out(folder: Path, files: tuple[str, ...], schema: pa.Schema, make: Made) -> None:
    for place, name in enumerate(files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        rows = [make(n) for n in range(30 * place, 30 * place + 30)]
        table = pa.Table.from_pylist(rows, schema)
        write = pyarrow.csv.write_csv if name.endswith("csv") else pyarrow.parquet.write_table
        write(table, folder / name)


def ready(name: str, path: Path | None, **dials: object) -> HubConfig:
    """The config of conf/dataset/NAME.yaml, without composing all other groups."""
    values = yaml.safe_load((find_conf() / "dataset" / f"{name}.yaml").read_text())
    del values["defaults"]
    made = OmegaConf.merge(
        OmegaConf.structured(HubConfig(name=name)),
        {**values, "path": str(path) if path else None, **dials},
    )
    return OmegaConf.to_object(made)  # type: ignore[return-value]


def everything(splits: QuestionSplits) -> list[Question]:
    return [question for _, part in splits.parts() for question in part]


GOLD: dict[str, Callable[[int], tuple[str, str]]] = {
    "mmlu": lambda n: (f"{n}?", WORDS[n % 4]),
    "arc": lambda n: (f"{n}?", WORDS[n % 3]),
    "commonsense_qa": lambda n: (f"{n}?", [*WORDS, "grey"][n % 5]),
    "openbookqa": lambda n: (f"{n} is", WORDS[n % 4]),
    "sciq": lambda n: (f"{n}?", "red"),
    "boolq": lambda n: (f"Passage {n}.\n\nis it {n}", str(n % 3 == 0)),
    "math": lambda n: (f"What is ${n}$?", str(n)),
    "medmcqa": lambda n: (f"Bone {n}?", f"bone {OPTIONS[n % 4]} {n}"),
    "gsm8k": lambda n: (f"Ann packs {n} boxes?", str(3 * n)),
    "gpqa": lambda n: (f"{n}?", "red"),
}
"""The text and the right answer of the row `n`."""


@pytest.mark.parametrize("name", SETS)
def test_ready_sets_by_their_schema(tmp_path: Path, name: str) -> None:
    files, schema, make = SETS[name]
    lay_out(tmp_path, files, pa.schema(schema), make)
    splits = load_questions(ready(name, tmp_path))
    found = {
        q.text: q.gold_text if q.gold_index is None else q.options[q.gold_index]
        for q in everything(splits)
    }
    # Of two subsets one is read.
    count = 30 * len(files) // (2 if name in ("gpqa", "gsm8k") else 1)
    assert found == dict(GOLD[name](n) for n in range(count))
    told = [question.rationale for question in splits.train]
    assert all(told) if name in ("gsm8k", "math") else not any(told)


def test_a_split_is_the_one_that_is_named_and_the_others_are_drawn(tmp_path: Path) -> None:
    files, schema, make = SETS["medmcqa"]
    lay_out(tmp_path, files, pa.schema(schema), make)
    splits = load_questions(ready("medmcqa", tmp_path))
    assert [len(part) for _, part in splits.parts()] == [27, 3, 30]
    assert {question.id for question in splits.test} == {f"id-{n}" for n in range(30, 60)}
    first = splits.train[0]
    assert (first.subject, first.options) == ("Anatomy", tuple(exam(0)[name] for name in OPTIONS))


def write(path: Path, rows: list[dict[str, Any]], name: str) -> Path:
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, pa.schema(SETS[name][1])), path)
    return path


def test_a_subsets_own_folder_is_a_copy_of_it(tmp_path: Path) -> None:
    files, schema, make = SETS["gsm8k"]
    lay_out(tmp_path, files, pa.schema(schema), make)
    splits = load_questions(ready("gsm8k", tmp_path / "main"))
    assert splits == load_questions(ready("gsm8k", tmp_path))
    assert [len(part) for _, part in splits.parts()] == [27, 3, 30]
    first = splits.train[0]
    assert (first.options, first.gold_index, first.gold_text) == ((), None, "3")
    assert first.rationale == "Each box has 3 apples.\nSo there are 1*3=3 apples."
    assert splits.sources["rationale"] == "answer, before ####"
    with pytest.raises(UserError, match="has no such file of the subset 'main'"):
        load_questions(ready("gsm8k", tmp_path / "socratic"))


def test_a_copy_may_be_named_as_one_of_the_subsets_that_it_holds(tmp_path: Path) -> None:
    files, schema, make = SETS["gsm8k"]
    lay_out(tmp_path / "main", files, pa.schema(schema), make)
    splits = load_questions(ready("gsm8k", tmp_path / "main"))
    assert splits == load_questions(ready("gsm8k", tmp_path / "main/main"))


def test_shots_are_drawn_from_the_split_that_is_named(tmp_path: Path) -> None:
    _, schema, make = SETS["mmlu"]
    names = ("all/test-00000-of-00001.parquet", "all/dev-00000-of-00001.parquet")
    lay_out(tmp_path, names, pa.schema(schema), make)
    splits = load_questions(ready("mmlu", tmp_path, prompt={"shots": 5}))
    assert {question.text for question in everything(splits)} == {f"{n}?" for n in range(30)}
    assert len(splits.shots) == 5
    assert all(question.origin.startswith("dev-") for question in splits.shots)


def test_exams_without_an_option_are_left_out_and_their_first_index_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [exam(n, cop=1 + n % 4) for n in range(200)]
    rows[3]["opd"], rows[4]["opa"], rows[5]["opd"] = "  ", None, None
    path = write(tmp_path / "rows.parquet", rows, "medmcqa")
    with caplog.at_level("INFO"):
        splits = load_questions(ready("medmcqa", path, test_split=None))
    assert splits.removed == {"rows that are no question": 3}
    found = everything(splits)
    assert len(found) == 197
    assert all(q.gold_index == int(q.id.removeprefix("id-")) % 4 for q in found)
    assert "answers in column 'cop' are read as index, counting from 1" in caplog.text


def test_a_published_set_may_have_fewer_options_in_many_rows(tmp_path: Path) -> None:
    rows = [exam(n, cop=n % 3, **({"opd": ""} if n % 10 == 0 else {})) for n in range(200)]
    path = write(tmp_path / "rows.parquet", rows, "medmcqa")
    found = everything(load_questions(ready("medmcqa", path, test_split=None, first_index=0)))
    assert sorted(len(question.options) for question in found) == [3] * 20 + [4] * 180


def test_an_index_that_tells_no_base_is_asked_for(tmp_path: Path) -> None:
    rows = [exam(n, cop=1 + n % 3) for n in range(30)]
    path = write(tmp_path / "rows.parquet", rows, "medmcqa")
    with pytest.raises(UserError, match=r"set dataset\.first_index=0 or dataset\.first_index=1"):
        load_questions(ready("medmcqa", path, test_split=None))
    for base in (0, 1):
        for question in load_questions(
            ready("medmcqa", path, test_split=None, first_index=base)
        ).train:
            assert question.gold_index == 1 + int(question.id.removeprefix("id-")) % 3 - base


def test_rows_without_answers_are_named_as_such(tmp_path: Path) -> None:
    path = write(tmp_path / "test.parquet", [exam(n, cop=-1) for n in range(9)], "medmcqa")
    with pytest.raises(UserError, match=r"test.parquet:1: answer -1 .*; -1 stands for no answer"):
        load_questions(ready("medmcqa", path, test_split=None))


def test_a_wrong_mapping_is_an_error_and_a_few_odd_rows_are_counted(tmp_path: Path) -> None:
    _, schema, make = SETS["mmlu"]
    odd = [{**make(n), "choices": ["", "x"] if n == 7 else WORDS} for n in range(100)]
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pa.Table.from_pylist(odd, pa.schema(schema)), path)
    splits = load_questions(ready("mmlu", path))
    assert len(everything(splits)) == 99
    assert splits.removed["rows that are no question"] == 1
    with pytest.raises(UserError, match=r"rows\.parquet:.* read as letter"):
        load_questions(ready("mmlu", path, answer_form="letter", first_index=None))


@pytest.mark.parametrize(
    ("options", "last", "odd", "asked"),
    [
        (("3", "1", "4", "2"), 4, "see above", "can be read as index and as text"),
        (WORDS, 3, "-1", r"as well from 0 as from 1; set dataset\.first_index=0 or"),
    ],
)
def test_one_odd_row_does_not_settle_how_all_answers_are_read(
    tmp_path: Path, options: tuple[str, ...], last: int, odd: str, asked: str
) -> None:
    _, schema, make = SETS["mmlu"]
    rows = [{**make(n), "choices": options, "answer": str(1 + n % last)} for n in range(100)]
    rows[50]["answer"] = odd
    path = tmp_path / "rows.parquet"
    text = pa.schema(schema).set(3, pa.field("answer", TEXT))
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, text), path)
    with pytest.raises(UserError, match=asked):
        load_questions(HubConfig(name="hub", id="a/b", path=str(path)))


def test_a_split_is_not_drawn_from_a_file_where_another_is_named(tmp_path: Path) -> None:
    files, schema, make = SETS["arc"]
    lay_out(tmp_path, files, pa.schema(schema), make)
    given = ready("arc", tmp_path / files[0])
    line = (r"is one file, and dataset\.validation_split names another; give a folder with both, "
            r"or dataset\.validation_split=null dataset\.test_split=null$")  # fmt: skip
    with pytest.raises(UserError, match=line):
        load_questions(given)
    alone = ready("arc", tmp_path / files[0], validation_split=None, test_split=None)
    assert len(everything(load_questions(alone))) == 30


def test_a_copy_without_all_parts_is_refused(tmp_path: Path) -> None:
    _, schema, make = SETS["mmlu"]
    lay_out(tmp_path, ("all/test-00000-of-00002.parquet",), pa.schema(schema), make)
    with pytest.raises(UserError, match="does not hold all parts of train, only test-00000-of"):
        load_questions(ready("mmlu", tmp_path))


def test_all_parts_of_a_copy_are_read(tmp_path: Path) -> None:
    _, schema, make = SETS["mmlu"]
    lay_out(tmp_path, tuple(f"all/test-{n:05}-of-00003.parquet" for n in range(3)),
            pa.schema(schema), make)  # fmt: skip
    assert len(everything(load_questions(ready("mmlu", tmp_path)))) == 90


def test_several_copies_of_a_split_are_not_called_missing_parts(tmp_path: Path) -> None:
    _, schema, make = SETS["mmlu"]
    names = ("test-00000-of-00001-0123456789abcdef.parquet", "test-00000-of-00001.parquet")
    lay_out(tmp_path, tuple(f"all/{name}" for name in names), pa.schema(schema), make)
    with pytest.raises(UserError, match=f"holds several copies of .*: {', '.join(names)}; remove"):
        load_questions(ready("mmlu", tmp_path))


def test_what_is_not_here_is_named_and_not_fetched(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(NotHereError, match="download allenai/ai2_arc at 210d026f"):
        load_questions(ready("arc", None), fetch=False)
    with pytest.raises(UserError, match=r"dataset\.id is not set"):
        load_questions(HubConfig(name="hub"))
    (tmp_path / "test.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"dataset\.train_split is 'train', but dataset\.path="):
        load_questions(ready("boolq", tmp_path))


def test_snapshots_of_the_hub_are_read_without_asking_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, schema, make = SETS["boolq"]
    config = ready("boolq", None)
    home = tmp_path / "datasets--google--boolq"
    lay_out(home / "snapshots" / config.revision, files, pa.schema(schema), make)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    assert len(everything(load_questions(config, fetch=False))) == 60


BY_SPLIT = ["dev/algebra.csv", "test/algebra.csv", "val/algebra.csv"]


@pytest.mark.parametrize(
    ("names", "split", "subset", "chosen"),
    [
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "README.md"],
         "train", None, [0, 1]),
        (["all/auxiliary_train-00000-of-00001.parquet", "all/test-00000-of-00001.parquet"],
         "train", "all", []),
        (["default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"],
         "train", None, [0, 1]),
        (["gpqa_main.csv", "gpqa_diamond.csv"], "train", "gpqa_main", [0]),
        (["train.jsonl", "train.csv", "test.jsonl"], "train", None, [0]),
        (["a/train.json", "b/train.json"], "train", "b", [1]),
        (["data/train-00000-of-00001-0123456789abcdef.parquet"], "train", None, [0]),
        ([*BY_SPLIT, "test/logic.csv"], "test", "algebra", [1]),
        ([*BY_SPLIT, "test/logic.csv"], "val", "algebra", [2]),
        (BY_SPLIT, "train", "algebra", []),
        (["csv/algebra.csv", "json/algebra.json"], "train", "algebra", [1]),
    ],
)  # fmt: skip
def test_files_of_a_split(
    names: list[str], split: str, subset: str | None, chosen: list[int]
) -> None:
    assert choose_files(names, split, subset) == [names[place] for place in chosen]


def test_each_subset_of_a_refusal_can_be_given() -> None:
    names = ["test.parquet", "data/test.parquet", "old/data/test.parquet"]
    with pytest.raises(UserError, match=r"several: \., data, old/data; give one of them"):
        choose_files(names, "test", None)
    assert choose_files(names, "test", ".") == ["test.parquet"]
    assert choose_files(names, "test", "old/data") == ["old/data/test.parquet"]
    assert choose_files(["test/0.csv", "a/test/0.csv"], "test", ".") == ["test/0.csv"]


def test_several_subsets_are_asked_for_and_missing_parts_are_noticed() -> None:
    with pytest.raises(UserError, match=r"dataset\.subset is not set.*: a, b"):
        choose_files(["a/train.json", "b/train.json"], "train", None)
    with pytest.raises(UserError, match=r"several files of 'train': x/sums\.csv, y/sums\.csv"):
        choose_files(["x/sums.csv", "y/sums.csv"], "train", "sums")
    assert not are_complete(["train-00000-of-00002.parquet"])
    assert are_complete(["train-00000-of-00001.parquet"])
