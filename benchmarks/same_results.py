"""Whether this tree computes what another commit computed, to the bit, on this machine.

    python benchmarks/same_results.py COMMIT [overrides ...]

Every method and every tiny architecture runs in both trees, each with a store of its own; scores,
predictions, rationales, weights and the figures of summary.json are compared. Differences are
listed, and the exit status is 1 where there is one. Rounding differs between processors, so the
comparison says something only on one machine. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors.numpy import load_file

from processor import describe_processor

HERE = Path(__file__).parents[1]
METHODS = sorted(path.stem for path in (HERE / "conf" / "method").glob("*.yaml"))
ARCHITECTURES = ("llama", "qwen2", "phi3")
SIZES = (
    "dataset.train=40",
    "dataset.validation=8",
    "dataset.test=12",
    "dataset.prompt.shots=4",
    "dataset.max_new_tokens=8",
    "model=tiny",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "report.html=false",
)
NO_FIGURES = {"run", "stages"}
"""Parts of summary.json that name times, versions and fingerprints."""


def main() -> None:
    """Run both trees and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("commit")
    parser.add_argument("overrides", nargs="*")
    asked = parser.parse_args()
    processor = describe_processor()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        other = work / "other"
        git = ["git", "-C", str(HERE), "worktree"]
        subprocess.run([*git, "add", "--detach", str(other), asked.commit], check=True)
        try:
            differences = [
                f"{label}: {difference}"
                for label, words in list_runs(asked.overrides)
                for difference in compare_run(label, words, work, other)
            ]
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], check=True)
    print("\n".join(differences))
    runs = len(list(list_runs(())))
    figures = {"runs": runs, "differences": len(differences)}
    print(json.dumps(figures | {"processor": processor}))
    raise SystemExit(bool(differences))


def list_runs(overrides: tuple[str, ...] | list[str]) -> Iterator[tuple[str, list[str]]]:
    """A label and the words of every run."""
    for method in METHODS:
        yield f"method-{method}", [*SIZES, f"method={method}", *overrides]
    for name in ARCHITECTURES:
        yield f"model-{name}", [*SIZES, f"model.architecture={name}", *overrides]


def compare_run(label: str, words: list[str], work: Path, other: Path) -> Iterator[str]:
    """Run `words` in both trees; yields what is not the same."""
    folders = [run(tree, work / name / label, words) for name, tree in (("a", other), ("b", HERE))]
    for table in ("scores", "predictions", "rationales"):
        if read_rows(folders[0] / f"{table}.parquet") != read_rows(folders[1] / f"{table}.parquet"):
            yield f"{table}.parquet"
    yield from compare_weights(*(folder / "adapter" for folder in folders))
    figures = [read_figures(folder / "summary.json") for folder in folders]
    for path in sorted({*figures[0], *figures[1]}):
        values = [figure.get(path) for figure in figures]
        if values[0] != values[1]:
            yield f"summary.json, {path}: {values[0]!r} before, {values[1]!r} now"


def run(tree: Path, folder: Path, words: list[str]) -> Path:
    """One run with the sources of `tree`; returns its folder."""
    places = [f"hydra.run.dir={folder}", f"store.path={folder.parent / 'store'}"]
    done = subprocess.run(
        [sys.executable, str(tree / "train.py"), *words, *places],
        env={**os.environ, "PYTHONPATH": str(tree / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{tree.name}: {' '.join(words)}\n{done.stdout}{done.stderr}")
    return folder


def read_rows(path: Path) -> list[dict[str, Any]]:
    """A table's rows; seconds are not compared."""
    rows = pq.read_table(path).to_pylist() if path.exists() else []
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def compare_weights(before: Path, now: Path) -> Iterator[str]:
    """Yields the names of tensors that are not equal to the bit."""
    pairs = [
        load_file(folder / "adapter_model.safetensors") if folder.exists() else {}
        for folder in (before, now)
    ]
    for name in sorted({*pairs[0], *pairs[1]}):
        one, two = pairs[0].get(name), pairs[1].get(name)
        if one is None or two is None or one.tobytes() != two.tobytes():
            yield f"adapter, {name}"


def read_figures(path: Path) -> dict[str, Any]:
    """summary.json's values by path, without `NO_FIGURES`."""
    summary = json.loads(path.read_text(encoding="utf-8"))
    parts = {name: value for name, value in summary.items() if name not in NO_FIGURES}
    return dict(_flatten(parts, ""))


def _flatten(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in children:
        if isinstance(child, dict | list):
            yield from _flatten(child, f"{path}{key}/")
        else:
            yield f"{path}{key}", child


if __name__ == "__main__":
    main()
