"""What is trained, by kind of adapter and architecture, through the same door as a real stage."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from caft.errors import UserError
from caft.models.adapters import (
    BaseModel,
    load_adapter,
    prepare_checkpointing,
    refuse_other_base,
    save_tuned,
)
from caft.models.config import Architecture, Dtype
from caft.models.student import Student
from caft.pipeline.delivery import deliver
from caft.records import Question, Target
from caft.store import Store
from caft.text.config import PromptConfig
from caft.trainers.config import TrainerConfig
from caft.trainers.distributed import Ranks
from caft.tune.config import Adapter, LoraConfig, Schedule, TuningConfig
from caft.tune.examples import TrainingPair
from caft.tune.stage import TuneInputs, read_tuned, starting_student
from caft.tune.training import TrainingSpec, _trainable
from numerics import assert_as_exact, chain_of, in_float64

QUIET = TrainerConfig(accelerator="cpu", progress=False)
ARCHITECTURES = ("llama", "qwen2", "phi3")
IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture(scope="module")
def student_of(tiny_student) -> Any:
    def find(architecture: str, **dials: Any) -> Student:
        return tiny_student(architecture=Architecture[architecture], **dials)

    return find


def work(student: Student, **dials: Any) -> TuneInputs:
    questions = [
        Question(id=f"q{n}", text=f"Pick {n}", options=("red", "blue"), gold_index=n % 2)
        for n in range(5)
    ]
    return TuneInputs(
        student,
        [TrainingPair(question, Target.answer, "easy") for question in questions],
        1,
        PromptConfig(),
        TuningConfig(
            **{"batch_size": 2, "learning_rate": 5e-3, "schedule": Schedule.constant, **dials}
        ),
        seed=1,
        trainer=QUIET,
    )


def train(tuning: TuneInputs, store: Path, trainer: TrainerConfig = QUIET) -> Any:
    return Store(store).obtain(replace(tuning, trainer=trainer))


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def spec_of(student: Student, **dials: Any) -> TrainingSpec:
    config = TuningConfig(**{"schedule": Schedule.constant, **dials})
    return TrainingSpec(student, [], None, 1, config, 0, QUIET, Path(), "adapter")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lora_is_on_every_linear_layer_but_the_head(student_of, architecture):
    model = _trainable(spec_of(student_of(architecture)))
    names = {name for name, _ in model.named_parameters() if "lora_A" in name}
    linear = {
        name
        for name, module in student_of(architecture).load().named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    assert names == {f"base_model.model.{name}.lora_A.default.weight" for name in linear}
    kinds = {name.rpartition(".")[2] for name in linear}
    fused = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    apart = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert kinds == (fused if architecture == "phi3" else apart)


def test_an_adapters_files_are_the_same_whoever_writes_them(student_of, tmp_path):
    student = student_of("llama")
    model = _trainable(spec_of(student))
    save_tuned(model, tmp_path, dtype=torch.float32, base=student.base)
    named = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    # In a set their order is that of this process's hashes.
    assert named == sorted(model.peft_config["default"].target_modules)
    assert len(named) > 7


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_qlora_trains_the_adapters_of_lora_on_four_bits(
    student_of, tmp_path, architecture, monkeypatch
):
    """On the CPU kernels of bitsandbytes; the front door asks for CUDA.

    Where a processor multiplies bfloat16, bitsandbytes packs weights again in eval mode, for a
    kernel of inference that has no backward pass. CUDA knows nothing of the kind.
    """
    from bitsandbytes.nn import Linear4bit, modules

    from caft.tune import training

    models: list[Any] = []

    def kept(spec: TrainingSpec) -> Any:
        models.append(_trainable(spec))
        return models[-1]

    monkeypatch.setattr(modules, "has_avx512bf16", lambda: False)
    monkeypatch.setattr(training, "_trainable", kept)
    student = student_of(architecture)
    found = {
        adapter: train(work(student, adapter=adapter), tmp_path)
        for adapter in (Adapter.lora, Adapter.qlora)
    }
    quantised = [module for module in models[1].modules() if isinstance(module, Linear4bit)]
    assert len(quantised) == sum("lora_A" in name for name, _ in models[1].named_parameters())
    lora, qlora = (TuneInputs.read(artifact.folder) for artifact in found.values())
    assert (qlora.parameters, qlora.trainable_parameters) == (
        lora.parameters,
        lora.trainable_parameters,
    )
    # Before the first step both are the base model; four bits of it are a little off.
    assert qlora.curve[0]["loss"] != lora.curve[0]["loss"]
    assert qlora.curve[0]["loss"] == pytest.approx(lora.curve[0]["loss"], rel=0.2)
    # What was trained on four bits answers on the model's own weights.
    tuned = read_tuned(student, found[Adapter.qlora]).load()
    assert not torch.allclose(logits(tuned), logits(student.load()), atol=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["use_dora", "use_rslora"])
@pytest.mark.parametrize("dtype", [Dtype.float32, Dtype.bfloat16])
def test_dora_and_rslora_are_trained_and_load_again(
    student_of, tmp_path, architecture, kind, dtype
):
    student = student_of(architecture, dtype=dtype)
    artifact = train(work(student, lora=LoraConfig(r=4, **{kind: True})), tmp_path)
    settings = json.loads((artifact.folder / "adapter" / "adapter_config.json").read_text())
    assert settings[kind] is True
    tuned = read_tuned(student, artifact).load()
    assert any("magnitude" in name for name, _ in tuned.named_parameters()) is (kind == "use_dora")
    assert not torch.allclose(logits(tuned).float(), logits(student.load()).float(), atol=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("adapter", [Adapter.lora, Adapter.full])
def test_gradient_checkpointing_runs_layers_twice_and_changes_nothing(
    student_of, tmp_path, architecture, adapter, monkeypatch
):
    from caft.tune import training

    runs: list[int] = []
    prepare = training._trainable

    def counted(spec: TrainingSpec) -> Any:
        model = prepare(spec)
        base = model.get_base_model() if adapter is Adapter.lora else model
        base.model.layers[0].self_attn.register_forward_hook(lambda *_: runs.append(1))
        return model

    monkeypatch.setattr(training, "_trainable", counted)
    student = student_of(architecture)
    curves, counts = [], []
    for frugal in (False, True):
        runs.clear()
        tuning = work(student, adapter=adapter, gradient_checkpointing=frugal)
        curves.append(TuneInputs.read(train(tuning, tmp_path).folder).curve)
        counts.append(len(runs))
    # Five rows of one length in steps of two: three passes.
    assert counts == [3, 6]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("lora", [LoraConfig(use_dora=True), LoraConfig(dropout=0.2)])
def test_what_is_not_lean_is_checkpointed_in_bfloat16_too(student_of, tmp_path, lora):
    student = student_of("llama", dtype=Dtype.bfloat16)
    curves = [
        TuneInputs.read(
            train(work(student, lora=lora, gradient_checkpointing=frugal), tmp_path).folder
        ).curve
        for frugal in (False, True)
    ]
    assert curves[0] == curves[1]


def test_full_tuning_of_a_bfloat16_model_keeps_updates_that_bfloat16_would_swallow(
    student_of, tmp_path
):
    student = student_of("llama", dtype=Dtype.bfloat16)
    model = _trainable(spec_of(student, adapter=Adapter.full))
    assert model.dtype is torch.float32
    # Of lr 1e-5, three AdamW steps move a weight by at most 3e-5: far below half a unit in the
    # last place of a bfloat16 weight of 0.2 (4.9e-4), so that no such weight would move at all.
    import dataclasses

    from caft.tune.stage import encode_rows
    from caft.tune.training import train as train_spec

    tuning = work(student, adapter=Adapter.full, learning_rate=1e-5)
    start = {name: weight.clone() for name, weight in model.named_parameters()}
    kept: dict[str, torch.Tensor] = {}
    spec = dataclasses.replace(
        spec_of(student),
        examples=encode_rows(tuning).examples,
        config=tuning.config,
        folder=tmp_path,
    )
    from caft.tune import training

    save = training.save_tuned

    def look(trained: Any, folder: Path, **rest: Any) -> None:
        kept.update({name: w.detach().clone() for name, w in trained.named_parameters()})
        save(trained, folder, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "save_tuned", look)
        train_spec(Ranks(), lambda _: None, spec)
    name = "model.layers.0.mlp.up_proj.weight"
    moved = (kept[name] - start[name]).abs()
    assert 1e-5 < float(moved.max()) < 4e-5
    assert float((moved > 5e-6).float().mean()) > 0.9
    # Delivered in the model's own dtype.
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "adapter" / "model.safetensors")
    assert weights[name].dtype is torch.bfloat16


@pytest.mark.numerics
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_delivered_adapter_and_merged_model_give_the_tuned_logits(
    student_of, tmp_path, architecture
):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    student = student_of(architecture)
    trained = train(work(student), tmp_path / "store")
    tuned = read_tuned(student, trained)
    card = "# {0.name}\n".format
    deliver(tuned, trained, tmp_path, card, merge=True, chat=True)
    ours = tuned.load()
    output = logits(ours)
    assert float((output - logits(student.load())).abs().max()) > 1e-2
    base = AutoModelForCausalLM.from_pretrained(student.folder, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    exact = logits(in_float64(adapted))
    assert_as_exact(output, logits(adapted), exact, chain_of(adapted))
    for layer in ours.modules():
        vars(layer).pop("forward", None)  # computed by peft and transformers, too
    assert torch.equal(logits(adapted), logits(ours))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert_as_exact(logits(merged.eval()), logits(adapted), exact, chain_of(adapted))
    assert len(AutoTokenizer.from_pretrained(tmp_path / "merged")) == len(student.tokenizer)
    cards = {name: (tmp_path / name / "README.md").read_text() for name in ("adapter", "merged")}
    assert cards == {"adapter": "# adapter\n", "merged": "# merged\n"}
    texts = [path.read_text() for path in (tmp_path / "adapter").glob("*.json")]
    assert not any(str(student.folder) in text for text in texts)


def test_an_adapter_of_another_base_model_is_refused(student_of, tmp_path):
    student, other = student_of("llama"), student_of("llama", hidden_size=32)
    tuned = read_tuned(student, train(work(student), tmp_path))
    config = TuningConfig(start_from=str(tuned.tuned))
    assert starting_student(student, config).tuned == tuned.tuned
    with pytest.raises(UserError, match="was trained on tiny, and the model is tiny"):
        starting_student(other, config)
    # One that peft saved says nothing of its base model but the name: its shapes show it.
    with pytest.raises(UserError, match=r"another base model: .* in_features=128, .* has 64"):
        load_adapter(other.load(), tuned.tuned)
    with pytest.raises(UserError, match=r"start_from is .* holds no adapter_config\.json"):
        starting_student(student, TuningConfig(start_from=str(tmp_path)))


@pytest.mark.parametrize("path", ["/model", "./model", "../m", "~/m", "/data/model"])
def test_the_path_of_a_folder_is_no_name_of_a_model(tmp_path, path):
    """What peft saves of a model that was read from a folder, which may have moved since."""
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")

    def trained_on(name):
        settings = {"base_model_name_or_path": name}
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))

    trained_on(path)
    refuse_other_base(tmp_path, BaseModel(id="/mine", revision=None, fingerprint="f"))
    trained_on("org/model")
    with pytest.raises(UserError, match="was trained on org/model, and the model is /mine"):
        refuse_other_base(tmp_path, BaseModel(id="/mine", revision=None, fingerprint="f"))


def test_an_adapter_whose_disk_is_gone_is_not_looked_for_on_the_hub(
    student_of, tmp_path, monkeypatch
):
    student = student_of("llama")
    folder = read_tuned(student, train(work(student), tmp_path)).tuned

    def vanish(*_):
        shutil.rmtree(folder)

    monkeypatch.setattr("caft.models.adapters._refuse_other_shapes", vanish)
    with pytest.raises(FileNotFoundError) as gone:
        load_adapter(student.load(), folder)
    assert gone.value.filename == str(folder / "adapter_config.json")


def test_a_named_adapter_is_gone_on_from(student_of, tmp_path):
    student = student_of("llama")
    first = read_tuned(student, train(work(student), tmp_path))
    start = starting_student(student, TuningConfig(start_from=str(first.tuned)))
    onward = train(replace(work(student), student=start), tmp_path)
    anew = train(work(student), tmp_path)
    assert onward.fingerprint != anew.fingerprint
    losses = [TuneInputs.read(artifact.folder).curve[0]["loss"] for artifact in (anew, onward)]
    assert losses[1] < losses[0]


def test_four_bits_without_their_library_are_refused_in_one_line(student_of):
    with pytest.raises(UserError, match=r"bitsandbytes|CUDA") as caught:
        starting_student(student_of("llama"), TuningConfig(adapter=Adapter.qlora))
    assert "tuning.adapter=lora" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_architecture_without_checkpointing_is_named() -> None:
    from transformers import AutoModelForCausalLM, CTRLConfig

    config = CTRLConfig(vocab_size=50, n_embd=16, dff=16, n_layer=1, n_head=2, n_positions=32)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UserError, match=r"^tuning\.gradient_checkpointing: .* of ctrl again"):
        prepare_checkpointing(model)
