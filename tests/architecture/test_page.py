"""docs/architecture.md is what its command writes, and the documents name files that exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
# Those of docs/reference/ are made when the site is built.
PAGES = [path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "reference"]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *PAGES])
# Commands and paths such as `conf/method/`, `tests/conf` and `data/config.py`.
NAMED = re.compile(r"`((?:[\w.-]+/)+[\w.-]*\.(?:py|md|yaml)|(?:src|tests|conf|docs)/[\w./-]*)`")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return read_script("architecture")


def read_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_its_command_writes(script: ModuleType) -> None:
    written = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert written == script.write_page(), "run `make architecture`"


def test_the_page_of_models_is_what_its_command_writes() -> None:
    written = (ROOT / "docs/how-to/models.md").read_text(encoding="utf-8")
    assert written == read_script("models").write_page(), "run `python docs/models.py`"


def test_every_room_is_on_one_floor_of_the_page(script: ModuleType) -> None:
    rooms = [room for floor in script.read_floors() for room in floor]
    folders = [path for path in script.SOURCES.iterdir() if path.suffix in ("", ".py")]
    names = {path.stem for path in folders} - {"__init__", "__pycache__"}
    assert sorted(rooms) == sorted(names)


def test_contributing_lists_the_floors(script: ModuleType) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    listed = [set(line.split("  ")[0].split(" | ")) - {"train.py"} for line in lines]
    assert listed == [set(floor) for floor in script.read_floors()]


def test_a_name_that_is_gone_ends_the_command_and_names_it(script: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"score\.gone is defined in no file"):
        script.locate("score.gone", script.find_definitions())


def test_drawn_imports_follow_from_one_another(script: ModuleType) -> None:
    drawn = script.draw_rooms(script.read_floors(), script.grimp.build_graph("caft"))
    assert "  sweeps --> run_config" in drawn
    assert "  pipeline --> errors" not in drawn  # it imports it, and rooms below do, too


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_a_document_names_exist(document: Path) -> None:
    named = set(NAMED.findall(document.read_text(encoding="utf-8")))
    roots = (ROOT, ROOT / "src" / "caft", document.parent)
    gone = [name for name in named if not any((root / name).exists() for root in roots)]
    gone = [name for name in gone if "NAME" not in name]  # as in conf/model/NAME.yaml
    gone = [name for name in gone if not name.startswith("docs/_build")]  # made by make docs
    assert not gone


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
def test_links_outside_the_site_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
    assert not [link for link in links if not (ROOT / link).exists()]
