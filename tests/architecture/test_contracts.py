"""The import contracts bite: each one is broken by a file that breaks it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]

ROGUES = {
    "split/rogue.py": "import omegaconf",
    "data/rogue.py": "def lazily():\n    import pytorch_lightning",
    "evaluate/rogue.py": "from transformers import AutoModel",
    "distill/rogue.py": "import openai",
    "tune/rogue.py": "import jinja2",
    "report/rogue.py": "def lazily():\n    import altair",
    "score/rogue.py": "import pyarrow.parquet",
    "pipeline_rogue.py": "import wandb",
    "text/rogue.py": "from caft.data import config",
}
"""One breach a contract; the last one imports upwards."""


def contracts() -> list[str]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [contract["name"] for contract in config["tool"]["importlinter"]["contracts"]]


def copy_sources(folder: Path) -> None:
    # Other processes write bytecode beside the sources at the same time, and rename it.
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def lint(folder: Path) -> str:
    code = "import sys; from importlinter.cli import lint_imports_command as lint; lint()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder / "src"), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_every_contract_is_broken_by_its_breach(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    for path, text in ROGUES.items():
        (tmp_path / "src/caft" / path).write_text(text + "\n")
    found = lint(tmp_path)
    assert len(contracts()) == len(ROGUES)
    assert [name for name in contracts() if f"{name} BROKEN" not in found] == [], found


def test_a_room_may_not_import_another(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    (tmp_path / "src/caft/score/rogue.py").write_text("from caft.split import config\n")
    assert "caft.score.rogue -> caft.split" in lint(tmp_path)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("caft")
    assert len(graph.modules) > 200
    below = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    TopologicalSorter(below).prepare()  # raises CycleError with the modules of a circle
