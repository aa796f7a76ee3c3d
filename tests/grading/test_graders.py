"""Which grader decides, and graders of the user's own."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from caft.errors import UserError
from caft.grading import choose as choose_module
from caft.grading import choose_grader, grade_by, is_right, rules_differ, set_grader
from caft.grading.judge import agreement_of
from caft.hydra_bridge import compose
from caft.pipeline.data_table import print_data
from caft.records import Question, describe_content
from caft.store import digest
from caft.text.config import OptionIds

FREE = Question(id="q1", text="Which?", gold_text="[0,1]")
WORDS = Question(id="q2", text="Who?", gold_text="the tower")
CHOSEN = Question(id="q3", text="Which?", options=("x", "y"), gold_index=1)
LETTERS = OptionIds.letters

GRADERS = """
import functools

def first_letter(answer, gold, question):
    assert question.id.startswith("q")
    return answer[:1] == gold[:1]

def two(answer, gold):
    return True

def never(answer, gold, question):
    return False

def vague(answer, gold, question):
    return 1

def broken(answer, gold, question):
    return answer.nothing

def leaves(answer, gold, question):
    raise SystemExit(3)

class Letters:
    def __call__(self, answer, gold, question):
        return answer == gold

letters = Letters()
few = functools.partial(first_letter)
number = 5
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_graders", raising=False)
    file = tmp_path / "my_graders.py"
    file.write_text(GRADERS, encoding="utf-8")
    (tmp_path / "my_exit.py").write_text("raise SystemExit(4)", encoding="utf-8")
    return file


def test_auto_takes_the_library_where_it_is_installed_and_names_its_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert choose_grader("rules") == ""
    name, *versions = choose_grader("auto").split()
    assert (name, len(versions)) == ("math_verify", 2)
    assert choose_grader("math_verify") == choose_grader("auto")
    # Both packages are needed, and their metadata: an editable copy may have none.
    with monkeypatch.context() as patch:
        patch.setattr(choose_module, "version", {
            "math-verify": "1.0", "latex2sympy2_extended": "2.0"
        }.__getitem__)  # fmt: skip
        assert choose_grader("auto") == "math_verify 1.0 2.0"
        for lacks in ("math_verify", "latex2sympy2_extended"):
            patch.setattr(
                choose_module, "find_spec", lambda name, lacks=lacks: name != lacks or None
            )
            assert choose_grader("auto") == ""

    def find_none(name: str) -> str:
        raise PackageNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr(choose_module, "version", find_none)
        assert choose_grader("auto") == ""
    monkeypatch.setattr(choose_module, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"not installed; run pip install 'math-verify\["):
        choose_grader("math_verify")


def test_only_free_answers_have_a_grader_and_only_they_have_another_key(own: Path) -> None:
    library, mine = choose_grader("auto"), choose_grader("my_graders:first_letter")
    by_library = [set_grader(item, library) for item in (FREE, WORDS, CHOSEN)]
    assert [bool(item.grader) for item in by_library] == [True, False, False]
    by_mine = [set_grader(item, mine) for item in (FREE, WORDS, CHOSEN)]
    assert [bool(item.grader) for item in by_mine] == [True, True, False]
    assert all(set_grader(item, "") is item for item in (FREE, WORDS, CHOSEN))
    keys = {digest(item) for item in (FREE, by_library[0], by_mine[0])}
    contents = {describe_content(item) for item in (FREE, by_library[0], by_mine[0])}
    assert (len(keys), len(contents)) == (3, 3)
    assert "grader" not in describe_content(FREE)
    assert len(describe_content(FREE)) == len(describe_content(by_mine[0])) - len(mine) - 4


def test_a_verdict_is_that_of_the_grader_and_rules_are_compared_with_it(own: Path) -> None:
    free = replace(FREE, gold_text="[a,1]")
    by_library = set_grader(free, choose_grader("auto"))
    by_mine = set_grader(free, choose_grader("my_graders:first_letter"))
    asked = [
        ("[a, 2/2]", True, True, False),
        ("`[a,1]`", True, False, True),
        ("(a,1)", False, False, False),
        (None, False, False, False),
    ]
    for answer, library, mine, rules in asked:
        assert is_right(answer, free, LETTERS) is rules
        assert is_right(answer, by_library, LETTERS) is library
        assert is_right(answer, by_mine, LETTERS) is mine
        assert rules_differ(answer, library, by_library, LETTERS) is (library is not rules)
        assert rules_differ(answer, mine, by_mine, LETTERS) is (mine is not rules)
        assert not rules_differ(answer, rules, free, LETTERS)
    assert is_right("B", CHOSEN, LETTERS)


def test_replies_to_one_question_are_compared_as_it_is_graded(own: Path) -> None:
    by_library = set_grader(FREE, "math_verify 1.0 2.0")
    by_mine = set_grader(FREE, choose_grader("my_graders:first_letter"))
    # For our rules a term that is worked out is another one.
    for question, same in ((by_library, True), (by_mine, False), (FREE, False)):
        assert agreement_of(question)("[2/2,2]", "[1,2]") == same
        assert not agreement_of(question)("[1,2]", "(1,2)")


def test_our_rules_may_differ_from_a_grader_on_a_chosen_option_too() -> None:
    graded = replace(CHOSEN, grader="my_graders:first_letter 1")
    assert rules_differ("B", False, graded, LETTERS)
    assert not rules_differ("B", True, graded, LETTERS)
    assert not rules_differ("B", False, CHOSEN, LETTERS)


def test_a_file_of_the_current_folder_goes_before_an_installed_one(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed := own.parent / "installed").mkdir()
    (installed / "my_graders.py").write_text("number = 5", encoding="utf-8")
    monkeypatch.syspath_prepend(installed)
    assert choose_grader("my_graders:never").startswith("my_graders:never ")


def test_an_edited_grader_has_another_version(own: Path) -> None:
    before = choose_grader("my_graders:never")
    assert before.split()[-1] == hashlib.sha256(own.read_bytes()).hexdigest()[:12]
    own.write_text(f"{GRADERS}\n# another one\n", encoding="utf-8")
    assert choose_grader("my_graders:never") != before


def test_whatever_can_be_called_grades_with_the_version_of_its_file(own: Path) -> None:
    file, nothing = (hashlib.sha256(each).hexdigest()[:12] for each in (own.read_bytes(), b""))
    for name, version in (
        ("my_graders:letters", file), ("my_graders:few", file), ("builtins:max", nothing),
    ):  # fmt: skip
        assert choose_grader(name) == f"{name} {version}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("math-verify", "'math-verify'; give auto, rules, math_verify, or module:function of your"),
        ("math_verfy", "did you mean math_verify"),
        ("nowhere:f", r"nowhere cannot be imported \(ModuleNotFoundError: No module named"),
        ("my_graders:f", "my_graders has no function f"),
        ("my_graders:number", "my_graders has no function number"),
        ("my_exit:f", r"my_exit cannot be imported \(SystemExit: 4\)"),
        ("my_graders:two", r"write def two\(answer, gold, question\)"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line(own: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        choose_grader(name)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("never", r"says that the gold answer '\[0,1\]' of question q1 is wrong"),
        ("vague", "returned 1 for the answer"),
        ("leaves", "raised SystemExit: 3 for the answer"),
        ("broken", "raised AttributeError: 'str' object has no attribute 'nothing' for the answer"),
    ],
)
def test_a_grader_that_cannot_grade_is_refused_before_anything_runs(
    own: Path, name: str, message: str
) -> None:
    asked = f"my_graders:{name}"
    with pytest.raises(UserError, match=message):
        grade_by(asked, {"train": [CHOSEN], "test": [CHOSEN, FREE]})


def test_who_grades_is_said_and_a_grader_without_answers_too(
    caplog: pytest.LogCaptureFixture, own: Path
) -> None:
    caplog.set_level("INFO")
    grade_by("auto", {"test": [FREE]})
    grade_by("my_graders:never", {"test": [CHOSEN]})
    grade_by("auto", {"test": [WORDS]})
    grade_by("auto", {"test": [CHOSEN, FREE]}, where="evaluation.also, mine: ")
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("free answers are graded by math_verify ")
    assert said[0].endswith(" (dataset.grader=auto)")
    assert said[1] == "dataset.grader=my_graders:never has no effect: it decides no answer here"
    assert said[2:] == [f"evaluation.also, mine: {said[0]}"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_graders:nevr", "my_graders has no function nevr"),
        ("my_graders:never", "my_graders:never says that the gold answer"),
    ],
)
def test_a_look_at_the_data_finds_a_grader_that_cannot_grade(
    own: Path, name: str, message: str
) -> None:
    rows = [{"question": f"What is {n} + 0?", "answer": str(n)} for n in range(9)]
    own.with_name("mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    mine = ["dataset=text", "dataset.train_path=mine.jsonl", f"dataset.grader={name}"]
    with pytest.raises(UserError, match=message):
        print_data(compose(["model=tiny", "until=data", *mine]))
