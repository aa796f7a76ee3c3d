"""Whatever only decorates a result fails, and the result is there all the same."""

from __future__ import annotations

from typing import Any

import pytest

DECORATIONS = {
    "caft.pipeline.outputs._git_commit": "the commit",
    "caft.pipeline.outputs._versions": "the versions of packages",
    "caft.pipeline.outputs._device_name": "the device's name",
    "caft.pipeline.outputs.describe_template": "the chat template's date",
    "caft.pipeline.outputs.describe_recipe": "the model card",
    "caft.pipeline.outputs.track_run": "what the logger shows",
    "caft.pipeline.outputs._print": "the summary on the terminal",
    "caft.models.student._count_weights": "the model's size",
    "caft.store.measure._peak_bytes": "the peak of memory",
    "caft.trainers.csv_logger.CsvRunLogger.log_step": "the rest of the logger's record",
    "caft.trainers.csv_logger.CsvRunLogger.finish": "the end of the logger's record",
}


def test_no_decoration_costs_the_summary(
    shared: Any, whole_run: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_given: Any, **_named: Any) -> None:
        raise RuntimeError("worn out")

    for place in DECORATIONS:
        monkeypatch.setattr(place, fail)
    # Another seed: the tuning is made anew, and its memory is measured.
    run = shared.run(*small.words, small.two_stages, "seed=7")
    assert run.status == 0, run.out
    for what in DECORATIONS.values():
        assert f"{what} is left out: RuntimeError: worn out" in run.out
    assert run.out.count("the rest of the logger's record") == 1
    assert run.summary["accuracy"]
    assert run.summary["run"]["git_commit"] is None
    assert (run.folder / "adapter" / "adapter_model.safetensors").exists()
    assert not (run.folder / "adapter" / "README.md").exists()
    assert (run.folder / "report.html").exists()


def test_a_machine_without_git_has_a_summary(
    shared: Any, whole_run: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    run = shared.run(*small.words, small.two_stages)
    assert run.status == 0, run.err
    assert run.summary["run"]["git_commit"] is None
    assert "the commit is left out: FileNotFoundError" in run.out
