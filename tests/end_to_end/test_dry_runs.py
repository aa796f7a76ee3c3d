"""A dry run writes nothing, opens no connection and needs no key: watched by the interpreter."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ENDPOINT = (
    "teacher.base_url=https://api.example.com/v1",
    "teacher.model=m",
    "teacher.budget_usd=20",
    "teacher.usd_per_million_prompt_tokens=1",
    "teacher.usd_per_million_completion_tokens=1",
)
HEAVY = (
    "score.estimators=[judge_steps,cot_mean_entropy,answer_frequency,fallback_entropy,"
    "rationale_length]"
)
JUDGE = ("score.judge.base_url=https://api.example.com/v1", "score.judge.model=j")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate",
    "os.utime", "os.chmod", "tempfile.mkstemp", "tempfile.mkdtemp", "shutil.copyfile",
}  # fmt: skip
CALLS = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"}

_seen: list[str] | None = None


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    # A hook can never be taken off; outside of a test it does nothing.
    if _seen is None:
        return
    if event == "open":
        path, _, flags = arguments
        own = "__pycache__" in str(path) or str(path) == os.devnull
        if isinstance(path, str | bytes) and flags & WRITING and not own:
            _seen.append(f"open {path!r}")
    elif event in CHANGES | CALLS and "__pycache__" not in str(arguments):
        _seen.append(f"{event} {arguments}")


sys.addaudithook(_listen)


@pytest.fixture
def seen() -> Iterator[list[str]]:
    """What is written or connected to while the test runs; to be cleared before it counts."""
    global _seen  # noqa: PLW0603
    _seen = []
    yield _seen
    _seen = None


def snapshot(*roots: Path) -> dict[Path, tuple[int, int]]:
    found = (path for root in roots for path in [root, *root.rglob("*")] if path.exists())
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def published(folder: Path) -> tuple[str, ...]:
    """Words for a file of questions that come with scores and solutions."""
    import json

    rows = [
        {
            "question": f"What is {number} and 0?",
            "options": [str(number), str(number + 1)],
            "answer": "A" if number % 2 else "B",
            "rationale": f"It is {number}.",
            "published_entropy_nats": number / 10,
            "published_correct": number % 2 == 0,
        }
        for number in range(20)
    ]
    file = folder / "published.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (
        "dataset=local",
        f"dataset.train_path={file}",
        "dataset.columns.rationale=rationale",
        "dataset.prompt.shots=0",
        "score=published",
    )


DRY = {
    "worked": (),
    "answers only": ("method=sft",),
    "no tuning": ("method=base",),
    "paid": ("teacher=openai", *ENDPOINT),
    "all paid": ("method=distill", "teacher=openrouter", "teacher.model=m"),
    "judged": ("teacher=openai", *ENDPOINT, HEAVY, *JUDGE),
    "matched": ("split=random", "split.match=tokens"),
    "a hub model": ("model=phi3",),
    "the embedded model": ("model=smollm2",),
    "a hub dataset": ("dataset=mmlu_pro", "method=sft"),
    "a tracker": ("logger=wandb",),
    "stops early": ("until=score",),
    "a sweep": ("-m", "seed=1,2"),
    "a search": ("-m", "multirun_sweeps=tune_lr"),
    "several nodes": ("trainer.num_nodes=2", "trainer.devices=8"),
}
"""None of the models and datasets is on this machine, as far as these runs can see."""


@pytest.mark.parametrize("words", DRY.values(), ids=list(DRY))
def test_nothing_is_written_nobody_is_called(
    workshop: Any, small: Any, seen: list[str], empty_machine: Path, words: tuple[str, ...]
) -> None:
    before = snapshot(empty_machine)
    seen.clear()
    dry = workshop.run(*small.words[2:], "model=tiny", *words, "dry_run=true")
    assert dry.status == 0, dry.err
    assert "Nothing was run" in " ".join(dry.out.split())
    assert not seen
    assert snapshot(empty_machine) == before
    assert not workshop.store.exists()
    assert not dry.folder.exists()


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without caches or keys."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "CAFT_CACHE", "WANDB_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(home))
    for name in ("OPENAI_API_KEY", "OPENROUTER_API_KEY", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    return home


def test_what_is_known_already_changes_nothing_either(
    shared: Any, whole_run: Any, small: Any, seen: list[str], tmp_path: Path
) -> None:
    kept = (shared.store, Path(os.environ["CAFT_CACHE"]), whole_run.folder)
    before = snapshot(*kept)
    seen.clear()
    dry = shared.run(*small.words, small.two_stages, "dry_run=true")
    assert dry.status == 0, dry.err
    assert dry.out.count(" cached ") > 4
    assert not seen
    assert snapshot(*kept) == before


def test_published_scores_are_split_and_no_more(
    workshop: Any, small: Any, seen: list[str], empty_machine: Path, tmp_path: Path
) -> None:
    """Their classes are known at once, whether the model that would be tuned is here or not."""
    words = published(tmp_path)
    assert workshop.run(*small.tiny, *words, "until=score", "score=model").status == 0
    for model in ("phi3", "tiny"):
        before = snapshot(tmp_path)
        seen.clear()
        dry = workshop.run(f"model={model}", *words, "dry_run=true")
        assert dry.status == 0, dry.err
        assert "published scores" in dry.out
        assert ("download" in dry.out) == (model == "phi3")
        assert not seen
        assert snapshot(tmp_path) == before
    assert not (workshop.store / "distill").exists()


def test_replies_in_the_ledger_are_counted_and_the_ledger_stays_as_it_is(
    workshop: Any, small: Any, server: Any, seen: list[str]
) -> None:
    words = (
        *small.words,
        small.two_stages,
        "teacher=openai",
        f"teacher.base_url={server.base_url}",
        "teacher.model=m",
        "teacher.keep=all",
    )
    assert workshop.run(*words, "until=distill").status == 0
    before = snapshot(workshop.store)
    asked = len(server.log)
    seen.clear()
    dry = workshop.run(*words, "dry_run=true")
    assert dry.status == 0, dry.err
    assert "10 replies in the" in " ".join(dry.out.split())
    assert not seen
    assert snapshot(workshop.store) == before
    assert len(server.log) == asked


def test_a_dry_sweep_ends_with_the_smallest_difference_that_it_could_see(
    workshop: Any, small: Any
) -> None:
    methods = ("-m", "method=sft,base", "seed=1,2,3")
    dry = workshop.run(*small.words, *methods, "dry_run=true")
    said = " ".join(dry.out.split())
    assert "With 12 test questions and 3 seeds a setting, the smallest difference seen" in said
    assert said.endswith("(docs/calibration.md).")
