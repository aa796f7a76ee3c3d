"""Time by the store's finished stages, memory by the model's shape, downloads by its size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from caft.hydra_bridge import compose, find_conf
from caft.pipeline.dry_run import plan_run
from caft.pipeline.footprint import KNOWN, Shape, download_size, estimate_memory, shape_of
from caft.pipeline.needs import describe_downloads, tell_needs
from caft.pipeline.workload import Load, measure_rates, seconds_of
from caft.pipeline.workspace import Workspace
from caft.store import StageKind, Store, Tokens

Open = Callable[..., Workspace]

# As the model cards and the indices of their safetensors have them.
PUBLISHED = {
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
}


def test_shapes_have_the_published_numbers_of_weights() -> None:
    assert KNOWN.keys() == PUBLISHED.keys()
    for name, shape in KNOWN.items():
        # Without biases, which Qwen2.5 has a few of.
        assert shape.parameters == pytest.approx(PUBLISHED[name], rel=1e-4)
    assert download_size("Qwen/Qwen3-4B") == pytest.approx(8.04e9, rel=1e-2)
    assert download_size("someone/else") is None


def test_every_hub_model_of_conf_is_known() -> None:
    files = [yaml.safe_load(file.read_text()) for file in (find_conf() / "model").glob("*.yaml")]
    hub = {each["id"] for each in files if each["kind"] == "hub"}
    assert len(hub) == 5
    assert hub <= KNOWN.keys()


def test_a_shape_is_read_from_a_models_own_config(open_small: Open) -> None:
    student = open_small().student
    shape = shape_of("tiny", student.folder)
    assert shape is not None
    assert shape.parameters == student.parameters


def test_memory_grows_with_what_is_trained_and_kept() -> None:
    shape = Shape(hidden=100, inner=300, layers=10, heads=100, kv=50, vocabulary=1000)
    words = ["tuning.batch_size=40", "tuning.lora.r=16", "until=tune"]

    def peak(*more: str, device: str = "cuda") -> float:
        return estimate_memory(compose([*words, *more]), shape, device, "bfloat16", 50).peak

    # 40 rows of 50 tokens keep 10 * 100 + 4 * 300 numbers a layer, of 2 bytes each.
    kept = 2000 * 10 * 2200 * 2
    trained = 10 * 16 * (2 * 200 + 2 * 150 + 3 * 400)
    lora = 2 * shape.parameters + 16 * trained + kept + 0.2e9
    assert peak() == pytest.approx(lora)
    assert peak("tuning=full") == pytest.approx(18 * shape.parameters + kept + 0.2e9)
    assert peak("tuning.gradient_checkpointing=true") < peak() < peak("tuning.lora.r=64")
    assert peak(device="cpu") - peak() == pytest.approx(0.8e9)


@dataclass
class Finished:
    """A stage of so many tokens that a model has read."""

    name: str
    tokens: Tokens
    kind: StageKind = StageKind.score
    resumable: bool = False
    scratch: tuple[str, ...] = ()
    student: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> dict[str, object]:
        return {"name": self.name, "student": self.student}

    def produce(self, folder: Path) -> Tokens:
        (folder / "made").write_text(self.name)
        return self.tokens

    @staticmethod
    def read(folder: Path) -> str:
        return (folder / "made").read_text()


def test_pace_is_that_of_the_same_model_and_kind(open_small: Open, tmp_path: Path) -> None:
    student, store = open_small().student, Store(tmp_path / "paces")
    made = [
        store.obtain(Finished(str(count), Tokens(read=count), student=student.key))
        for count in (100, 200)
    ]
    store.obtain(Finished("other", Tokens(read=10**9), student={"model": "another"}))
    rates = measure_rates(store)
    load = Load("read", 3e9, student)
    seconds = sum(artifact.seconds for artifact in made)
    assert seconds_of(load, rates) == pytest.approx(3e9 / 300 * seconds)
    # A model has to be loaded for a single token, too.
    assert seconds_of(Load("read", 1, student), rates) == min(each.seconds for each in made)
    assert seconds_of(Load("written", 1, student), rates) is None
    assert seconds_of(None, rates) is None


def test_what_no_stage_has_told_is_not_known(open_small: Open) -> None:
    workspace = open_small("dry_run=true")
    plan = plan_run(workspace)
    times, needs = tell_needs(workspace, plan)
    assert times["score"] == "not known"
    assert times["split"] == ""
    assert dict(needs)["Time"].startswith("not known: the store has no finished stage")
    assert dict(needs)["Memory"].startswith("not known")  # the tiny model is not made yet
    assert dict(needs)["Download"] == "nothing"


def test_a_made_model_has_loads_for_all_that_is_not_paid(open_small: Open) -> None:
    student = open_small().student  # it is made here
    # A class with several targets is read as the others are.
    workspace = open_small("dry_run=true", "method=answer_and_rationale")
    plan = plan_run(workspace)
    loads = {stage.name: stage.load for stage in plan if stage.kind and stage.name != "distill"}
    assert None not in loads.values()
    score = workspace.base_scoring
    assert loads["score"].tokens == sum(len(row.prompt_ids) for row in score.rows)
    assert {load.pace[1] for load in loads.values()} == {student.fingerprint}


def test_a_missing_hub_model_is_a_download_of_its_size(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("caft.pipeline.needs.find_model", lambda _model: None)
    known = describe_downloads(compose(["model=phi3"]))
    assert known == "microsoft/Phi-3-mini-4k-instruct, 7.6 GB"
    words = ["model=phi3", "model.id=a/b", "teacher=local_model", "teacher.id=c/d"]
    other = describe_downloads(compose(words))
    assert other.startswith("a/b, size not known (a dry run asks no hub); c/d, size not known")
