"""Command lines as people type them: lists with commas, texts of digits, paths with any sign."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from caft.errors import UserError
from caft.hydra_bridge import compose
from caft.hydra_bridge.overrides import dial_types, member_type, show_form, type_overrides

LOCAL = ("dataset=local", "dataset.train_path=mine.csv")
SCALARS = {"classes": "a,b,c", "quantiles": "0.1,0.2", "thresholds": "1.0,2", "modes": "answer"}


def read(word: str) -> Any:
    """The value that Hydra and OmegaConf make of a word."""
    (override,) = OverridesParser.create().parse_overrides(type_overrides([word]))
    assert not override.is_sweep_override(), word
    return OmegaConf.to_container(OmegaConf.create({"value": override.value()}), resolve=True)[
        "value"
    ]


@pytest.mark.parametrize(
    ("value", "columns"),
    [
        ("A,B,C,D", ["A", "B", "C", "D"]),
        ("A, B, C, D", ["A", "B", "C", "D"]),
        ("[A,B,C,D]", ["A", "B", "C", "D"]),
        ("'[A,B,C,D]'", ["A", "B", "C", "D"]),
        ("'A,B,C,D'", ["A", "B", "C", "D"]),
        ('["A","B"]', ["A", "B"]),
        ("['A',\"B\"]", ["A", "B"]),
        ("A", ["A"]),
        ("A,B,", ["A", "B"]),
        ("Correct Answer,Incorrect Answer 1", ["Correct Answer", "Incorrect Answer 1"]),
        ("[Correct Answer,Answer (1),Answer [2]]", ["Correct Answer", "Answer (1)", "Answer [2]"]),
        ("f(a, b),Student's answer", ["f(a, b)", "Student's answer"]),
        ("a (,b)", ["a (,b)"]),
        ("a (,b", ["a (", "b"]),
        ('"a, b",c', ["a, b", "c"]),
        ('["a, b"]', ["a, b"]),
        ("антвет,选项", ["антвет", "选项"]),
        ("a=1,b=2", ["a=1", "b=2"]),
        ("01,1e5,1_000,true,null", ["01", "1e5", "1_000", "true", "null"]),
        ("[]", []),
        ("null", None),
    ],
)
def test_a_list_of_texts_is_what_was_typed(value: str, columns: list[str] | None) -> None:
    assert read(f"dataset.columns.options={value}") == columns


def test_every_dial_that_is_a_list_takes_commas() -> None:
    lists = {key: member_type(key) for key in dial_types() if member_type(key) is not None}
    assert len(lists) == 11
    for key, member in lists.items():
        if key == "method.stages":
            assert read(f"{key}={{epochs:1}},{{epochs:2}}") == [{"epochs": 1}, {"epochs": 2}]
            continue
        words = SCALARS.get(key.rpartition(".")[2], "a b,c")
        given = [member(word) if member is float else word for word in words.split(",")]
        for form in (words, f"[{words}]", f"'{words}'"):
            assert read(f"{key}={form}") == given, (key, form)


def test_other_dials_keep_hydras_grammar() -> None:
    words = ["method=sft,distill", "seed=1,2", "name=a,b", "+foo=[a,b]", "~model", "seed=range(3)"]
    assert type_overrides(words) == words
    lists = ["split.quantiles=[0.1,0.9],[0.2,0.8]", "score.estimators=choice(a,b)"]
    assert type_overrides(lists) == lists


@pytest.mark.parametrize("text", ["007", "1e5", "1_000", "1.50", "true", "NaN", "inf", "-3"])
def test_digits_are_a_text_where_a_text_is_meant(text: str) -> None:
    assert read(f"model.path={text}") == text
    assert compose([f"name={text}"]).name == text


PATHS = [
    "/tmp/a=b/x.csv",
    "/tmp/final (1).csv",
    "/tmp/a,b.csv",
    "/tmp/{a}.csv",
    "/tmp/[x].csv",
    "/tmp/${x}.csv",
    "/tmp/данные/数据.csv",
    '/tmp/it\'s "mine".csv',
    "~/x & y; z!.csv",
    "C:\\a (b)\\",
    '/tmp/a\\"b (c).csv',
    "/tmp/ü#ß.csv",
]


@pytest.mark.parametrize("path", PATHS)
def test_the_form_that_is_shown_sets_exactly_that_path(path: str) -> None:
    with pytest.raises(UserError) as error:
        compose([*LOCAL[:1], f"dataset.train_path={path}"])
    line = str(error.value)
    assert "\n" not in line
    (form,) = re.findall(r"(?:write it|write one text) as (.+)$|, write (.+)$", line)
    (word,) = shlex.split("".join(form))
    assert compose([*LOCAL[:1], word]).dataset.train_path == path  # type: ignore[attr-defined]


def test_any_text_has_a_form() -> None:
    signs = "a ,='\"\\${}[]()~#:;é数"
    for first in signs:
        for second in signs:
            text = f"x{first}{second}{{x"
            (word,) = shlex.split(show_form("name", text))
            assert read(word) == text


def test_the_form_of_a_list_that_is_advised_is_read() -> None:
    for given in ("dataset.columns.options=", "dataset.columns={options:mine}"):
        with pytest.raises(UserError) as error:
            compose([*LOCAL, given])
        (advised,) = re.findall(r"as in (\S+)", str(error.value))
        assert compose([*LOCAL, advised]).dataset.columns.options == ["A", "B"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("word", ["split.quantiles=[0.1", "split.quantiles=", "evaluation.modes="])
def test_an_advised_list_has_members_of_its_type(word: str) -> None:
    with pytest.raises(UserError) as error:
        compose([word])
    (advised,) = re.findall(r"as in (\S+\])", str(error.value))
    compose([advised])


@pytest.mark.parametrize("word", ["method=sft,distill", "seed=1,2", "model=tiny,smollm2"])
def test_only_a_text_is_advised_to_be_quoted(word: str) -> None:
    with pytest.raises(UserError) as error:
        compose([word])
    assert str(error.value).endswith("; add -m to sweep over its values")


@pytest.mark.parametrize(
    ("words", "advised"),
    [
        (("dataset.train_path=my", "own", "q.csv"), "dataset.train_path=my own q.csv"),
        (("dataset.train_path=", "q.csv"), "dataset.train_path=q.csv"),
    ],
)
def test_words_that_a_shell_has_taken_apart_are_put_together(
    words: tuple[str, ...], advised: str
) -> None:
    with pytest.raises(UserError, match=r"quote both: |without spaces") as error:
        compose(["dataset=text", *words])
    (said,) = re.findall(r"(?:quote both: |; write )(.+?)(?:, without spaces)?$", str(error.value))
    (pasted,) = shlex.split(said)
    path = compose(["dataset=text", pasted]).dataset.train_path  # type: ignore[attr-defined]
    assert f"dataset.train_path={path}" == advised


def test_an_advised_list_member_and_a_list_with_references_are_read() -> None:
    with pytest.raises(UserError, match=r"write dataset\.columns\.options\.0=Z$") as error:
        compose([*LOCAL, "dataset.columns.options[0]=Z"])
    advised = str(error.value).rpartition(" ")[2]
    assert compose([*LOCAL, advised]).dataset.columns.options == ["Z"]  # type: ignore[attr-defined]
    reference = "dataset.columns.options=${dataset.columns.answer},d1"
    columns = compose([*LOCAL, reference]).dataset.columns  # type: ignore[attr-defined]
    assert columns.options == ["answer", "d1"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("tuning.lora.rnk=q,v", "there is no setting tuning.lora.rnk"),
        ("dataset.columns=A,B", "set each of them, as in dataset.columns.id="),
        ("method.epochs.first=1,2", "add -m to sweep over its values"),
    ],
)
def test_no_sweep_is_advised_over_what_is_no_setting(word: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        compose([*LOCAL, word])
    assert expected in str(error.value)
    assert ("add -m" in str(error.value)) == ("add -m" in expected)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("seed=" + "9" * 5000, "seed has a number of more than 4,000 digits"),
        ("dataset.train_path=/tmp/\udcff.csv", "holds bytes that are not UTF-8"),
    ],
)
def test_what_no_config_can_hold_is_refused_in_a_short_line(word: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        compose([word])
    assert expected in str(error.value)
    assert len(str(error.value)) < 120
