"""The notebooks run on what runs leave behind, and both files of each pair say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

jupytext = pytest.importorskip("jupytext", reason="the extra notebooks is missing")
nbclient = pytest.importorskip("nbclient", reason="the extra notebooks is missing")

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PUBLISHED = Path(__file__).parents[2].parent / "shared" / "data" / "mmlu_pro_qwen_test.jsonl"


def execute(name: str, monkeypatch: pytest.MonkeyPatch, **environment: object) -> str:
    """Everything that the notebook shows, as text and HTML; a cell that fails fails the test."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, str(value))
    notebook = jupytext.read(NOTEBOOKS / f"{name}.py")
    # As Jupyter starts it: the samples are named from the notebook's own folder.
    here = {"metadata": {"path": str(NOTEBOOKS)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=here).execute()
    return "\n".join(text for texts in outputs(notebook).values() for text in texts)


def outputs(notebook: Any) -> dict[str, list[str]]:
    """What a notebook shows, by kind."""
    shown: dict[str, list[str]] = {"text/html": [], "text/plain": [], "text": [], "error": []}
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        data = output.get("data", {})
        shown["text/html"].append(data.get("text/html", ""))
        shown["text/plain"].append(data.get("text/plain", ""))
        shown["text"].append(output.get("text", ""))
        shown["error"].append(output.get("evalue", ""))
    return shown


def test_each_pair_says_the_same_and_comes_with_tables_and_figures() -> None:
    scripts = sorted(NOTEBOOKS.glob("*.py"))
    assert len(scripts) == 4
    for script in scripts:
        notebook = jupytext.read(script.with_suffix(".ipynb"))
        pairs = zip(jupytext.read(script).cells, notebook.cells, strict=True)
        assert all(one.source == two.source for one, two in pairs), script.name
        shown = outputs(notebook)
        html = "".join(shown["text/html"])
        assert "<table" in html, script.name
        assert "<svg" in html, script.name
        notes = re.findall(r"""^note = "(.+)"$""", script.read_text("utf-8"), re.MULTILINE)
        assert all(note in html for note in notes), script.name
        assert not any(shown["error"] + shown["text"]), script.name
        # Objects are shown as tables, never as Python prints them.
        raw = [text for text in shown["text/plain"] if not text.startswith(("<", "Shown"))]
        assert not any(raw), script.name
        assert "/home/" not in html, script.name


def test_samples_name_no_folder_of_the_machine_that_made_them() -> None:
    files = list((NOTEBOOKS / "sample").rglob("*.json"))
    assert len(files) > 10
    for file in files:
        assert not re.search(r"\"host\": \"\w|[\"=]/\w+/", file.read_text("utf-8")), file


def test_notebooks_have_no_logic_of_their_own() -> None:
    for script in NOTEBOOKS.glob("*.py"):
        code = script.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(def|class|lambda|while|try)\b", code, flags=re.MULTILINE)


def test_entropy_and_mistakes(whole_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = execute("01_entropy_and_mistakes", monkeypatch, CAFT_RUN=whole_run.folder)
    assert "Correct and incorrect answers by answer entropy in nats" in shown
    assert "Expected calibration error" in shown
    areas = whole_run.summary["score"]["roc_auc"]
    assert all(f"<td>{name}</td>" in shown for name in areas)


def test_accuracy_per_token(
    shared: Any, whole_run: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = shared.run("-m", *small.words, small.one_stage, "method=sft", "split=entropy,random",
                       "evaluation.modes=[answer]")  # fmt: skip
    assert sweep.status == 0, sweep.err
    shown = execute("02_accuracy_per_token", monkeypatch, CAFT_SWEEP=sweep.folder)
    assert "Does entropy routing beat random routing at an equal budget?" in shown
    assert "Undefined. No evaluated job" in shown or "Undefined. No random arm" in shown
    assert "trained tokens, prompts included" in shown


def test_published_scores_of_our_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "published.jsonl"
    rows = [
        {"question_id": number % 8, "category": "law", "published_split": place,
         "published_entropy_nats": number / 10, "published_correct": number < 6}
        for number, place in enumerate(["middle"] * 8 + ["hard"] * 2)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shown = execute("03_published_scores", monkeypatch, CAFT_PUBLISHED=file)
    assert "<td>1</td>" in shown
    assert "<td>hard</td><td>middle</td><td>2</td>" in shown


def test_published_scores_of_the_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    if not PUBLISHED.exists():
        pytest.skip(f"no published entropies here ({PUBLISHED})")
    shown = execute("03_published_scores", monkeypatch, CAFT_PUBLISHED=PUBLISHED)
    assert "<td>0.7105</td>" in shown


def test_bring_your_own_data(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.csv"
    lines = []
    for n in range(3, 43):
        options = [2 * n, n, 3 * n, n * n + 1]
        turned = [str(option) for option in options[n % 4 :] + options[: n % 4]]
        gold = "ABCD"[turned.index(str(2 * n))]
        lines.append(f"What is {n} and {n}?,{','.join(turned)},{gold}")
    file.write_text("\n".join(["question,A,B,C,D,answer", *lines]) + "\n", encoding="utf-8")
    words = " ".join([*small.tiny, "method=sft", f"store.path={tmp_path / 'store'}",
                      f"hydra.run.dir={tmp_path / 'run'}"])  # fmt: skip
    shown = execute("04_bring_your_own_data", monkeypatch, CAFT_CSV=file, CAFT_WORDS=words)
    assert "<td>question</td><td>What is 3 and 3?</td>" in shown
    assert "<td>score</td>" in shown
    # The words of the reader come last: the last method named is the one that is planned.
    assert "Tokens that a teacher would read and write" in shown
