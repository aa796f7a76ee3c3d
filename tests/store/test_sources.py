"""What a stage's key knows of its code: all that its result depends on, and nothing else."""

from __future__ import annotations

import ast
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import caft
from caft.store import source_digest
from caft.store.fingerprint import source_files

ROOT = Path(caft.__file__).parent
# What a stage imports and no result depends on. Room by room or file by file, with the reason.
WITHOUT_EFFECT = {
    "__init__.py": "the package's name",
    "console.py": "what is printed",
    "decoration.py": "what may be left out",
    "dials.py": "words of a refusal, which leaves no result",
    "errors.py": "words of a refusal, which leaves no result",
    "protocols.py": "types, which nothing reads when it runs",
    "mounts.py": "words of a refusal, which leaves no result",
    "program.py": "words of a refusal, which leaves no result",
    "sums.py": "compares what was kept",
    "signals.py": "when a stage is left, not what it makes",
    "threads.py": "how many threads compute, which moves rounding (decision 33)",
    "estimators.py": "names and titles of estimates; the rooms compute them",
    "store/__init__.py": "a door",
    "store/artifacts.py": "keeps files as they are",
    "store/attempts.py": "keeps files as they are",
    "store/checksums.py": "compares what was kept",
    "store/disk.py": "keeps files as they are, and words of a refusal",
    "store/locks.py": "who waits for whom",
    "store/manifest.py": "describes what was kept",
    "store/stage.py": "what a stage has, and its folder",
    "store/measure.py": "seconds and memory, which are of one attempt",
    "store/fingerprint.py": "makes keys: what it makes otherwise has another key",
    "engines": "one that writes adds sources of its own to the key, and ours are without",
    "teachers": "a judge's replies are keyed by what they say; a server is an engine's",
    "trainers/config.py": "dials; those with an effect are read by the hashed files",
    "trainers/progress.py": "what is shown",
    "trainers/sources.py": "is this list",
    "trainers/watching.py": "what is shown",
    "trainers/tracker.py": "who gets a copy of the numbers",
}


def stages() -> list[str]:
    """Every module that asks for a digest of sources: `score/stage.py`."""
    files = (file.relative_to(ROOT) for file in ROOT.rglob("*.py"))
    return sorted(
        file.as_posix()
        for file in files
        if file.parts[0] != "store" and "source_digest(" in (ROOT / file).read_text("utf-8")
    )


def sources_of(stage: str) -> tuple[str, ...]:
    name = ".".join(("caft", *Path(stage).with_suffix("").parts))
    return tuple(importlib.import_module(name).SOURCES)


def imported_by(file: Path) -> Iterator[Path]:
    """Files of the package that a file imports when it runs, here or in a function."""
    todo: list[ast.AST] = [ast.parse(file.read_text("utf-8"))]
    while todo:
        for node in ast.iter_child_nodes(todo.pop()):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            todo.append(node)
            if isinstance(node, ast.Import):
                yield from (found for each in node.names for found in files_of(each.name))
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file} imports relatively"
                yield from (
                    found for each in node.names for found in files_of(str(node.module), each.name)
                )


def files_of(module: str, name: str = "") -> Iterator[Path]:
    """The file of a module, and that of a name in it which is a module or which a door passes on.

    What else a door opens is not asked for: who keeps a table has no part in checkpoints.
    """
    file = file_of(module)
    if file is None:
        return
    yield file
    if (inner := file_of(f"{module}.{name}")) is not None:
        yield inner
    elif file.name == "__init__.py":
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom) and name in {each.name for each in node.names}:
                yield from files_of(str(node.module), name)


def file_of(module: str) -> Path | None:
    first, *rest = module.split(".")
    path = ROOT.joinpath(*rest)
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((each for each in candidates if first == "caft" and each.is_file()), None)


def reached_from(stage: str) -> set[str]:
    reached: set[Path] = set()
    todo = [ROOT / stage]
    while todo:
        file = todo.pop()
        if file not in reached:
            reached.add(file)
            todo += imported_by(file) if file.name != "__init__.py" else ()
    return {file.relative_to(ROOT).as_posix() for file in reached}


def test_names_are_followed_through_doors() -> None:
    found = {file.relative_to(ROOT).as_posix() for file in files_of("caft.store", "Journal")}
    assert found == {"store/__init__.py", "store/journal.py"}
    assert list(files_of("caft.kernels", "packing")) == [
        ROOT / "kernels/__init__.py",
        ROOT / "kernels/packing.py",
    ]
    assert list(files_of("torch", "nn")) == []


def test_the_stages_are_found() -> None:
    assert stages() == ["evaluate/stage.py", "score/stage.py", "tune/stage.py"]


@pytest.mark.parametrize("stage", stages())
def test_all_that_a_stage_imports_is_hashed_or_known_to_change_nothing(stage: str) -> None:
    reached = reached_from(stage)
    assert {"records.py", "trainers/distributed.py", "kernels/packing.py"} <= reached
    hashed = {
        file.relative_to(ROOT).as_posix() for file in source_files(*sources_of(stage), root=ROOT)
    }
    excused = {
        file.relative_to(ROOT).as_posix() for file in source_files(*WITHOUT_EFFECT, root=ROOT)
    }
    assert reached - hashed - excused == set()
    assert hashed & excused == set()


def test_every_excuse_is_needed() -> None:
    reached = set().union(*map(reached_from, stages()))
    assert [
        name
        for name in WITHOUT_EFFECT
        if not any(file == name or file.startswith(f"{name}/") for file in reached)
    ] == []


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(ROOT, tmp_path / "caft", ignore=shutil.ignore_patterns("__pycache__"))
    )


def change(package: Path, file: str, old: str, new: str) -> None:
    text = (package / file).read_text("utf-8")
    assert old in text
    (package / file).write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("trainers/distributed.py", "all_reduce(weight.grad)", "all_reduce(weight.grad.div_(2))"),
        ("records.py", "frozen=True", "frozen=False"),
        ("kernels/attention.py", "softmax(-1)", "softmax(-2)"),
        ("trainers/build.py", "max_epochs=epochs", "max_epochs=1"),
        # Which layer's hidden states are kept.
        ("kernels/layers.py", "next(stacks, ())", "[*next(stacks, ())][::-1]"),
    ],
)
@pytest.mark.parametrize("stage", stages())
def test_code_that_computes_otherwise_has_another_digest(
    package: Path, stage: str, file: str, old: str, new: str
) -> None:
    before = source_digest(*sources_of(stage), root=package)
    assert before == source_digest(*sources_of(stage))
    change(package, file, old, new)
    assert source_digest(*sources_of(stage), root=package) != before


@pytest.mark.parametrize("stage", stages())
def test_words_and_layout_change_no_digest(package: Path, stage: str) -> None:
    before = source_digest(*sources_of(stage), root=package)
    for file in source_files(*sources_of(stage), root=package):
        text = file.read_text("utf-8")
        # Written again without comments and layout, under another first line.
        file.write_text(f'"""Other words."""\n# A remark.\n\n\n{ast.unparse(ast.parse(text))}\n')
    assert source_digest(*sources_of(stage), root=package) == before


@pytest.mark.parametrize(
    ("text", "other", "same"),
    [
        ("x = 1", "x = 1  # one", True),
        ("x = 1\n'''What x is.'''", "x = 1", True),
        ("def f():\n    'Say.'\n    return 1", "def f():\n    return 1", True),
        ("class A:\n    'Words.'\n    x = 'a'", "class A:\n    x = 'a'", True),
        ("f(1,\n  2)", "f(1, 2)", True),
        ("x = 'a'", 'x = "a"', True),
        ("x = 'a'", "x = 'b'", False),
        ("x = 1", "x = 1.0", False),
        ("x = 1", "x = True", False),
        ("x = None", "x = ...", False),
        ("f(*a)", "f(**a)", False),
        ("f'{x}'", "f'{x!r}'", False),
        ("a = -1", "a = +1", False),
        ("{**a, 1: b}", "{1: b, **a}", False),
        ("if a: b()\nc()", "if a:\n    b()\n    c()", False),
        ("async def f(): ...", "def f(): ...", False),
        ("import a as b", "import a, b", False),
        ("x: int = 1", "x: float = 1", False),
    ],
)
def test_by_hand(tmp_path: Path, text: str, other: str, same: bool) -> None:
    digests = []
    for content in (text, other):
        (tmp_path / "room.py").write_text(content)
        digests.append(source_digest("room.py", root=tmp_path))
    assert (digests[0] == digests[1]) is same


def test_a_file_that_moves_has_another_digest(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one/a.py").write_text("x = 1")
    (tmp_path / "two/b.py").write_text("x = 1")
    assert source_digest("one", root=tmp_path) != source_digest("two", root=tmp_path)
    assert source_digest("one", "one/a.py", root=tmp_path) == source_digest("one", root=tmp_path)
