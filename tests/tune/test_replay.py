"""Passes that are padded and replayed train what passes that are neither train.

There is no CUDA device in these tests. In place of a graph stands a pass that runs again on the
tensors that were given when it was recorded, and refuses to where a graph would be wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
from torch.distributed.fsdp import FSDPModule

from caft.kernels import packed_attention as attention_file
from caft.kernels.lora import fused_adapters
from caft.kernels.varlen import Sequences
from caft.models.adapters import add_lora
from caft.records import Example, Target
from caft.trainers.build import build_trainer
from caft.trainers.config import TrainerConfig
from caft.tune.batches import EpochLoader, Shape, Step, TrainingPack, make_step
from caft.tune.config import Adapter, Loss, TuningConfig
from caft.tune.module import TuningModule
from caft.tune.padding import pad_step, shape_of
from caft.tune.replay import Recorded, Replays, Run, why_launched


def make_model(*, full: bool = False, **settings: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        **{"model_type": "llama", "num_key_value_heads": 1, **settings},
        vocab_size=31,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    if full:
        return model.double().train()
    model = add_lora(model, r=4, alpha=8, dropout=0.0, modules=(), use_dora=False, use_rslora=False)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return model.double().train()


def make_rows(count: int = 24) -> list[Example]:
    draw = Random(3)

    def ids(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw.randrange(1, 31) for _ in range(draw.randint(least, most)))

    return [
        Example(
            question_id=str(number),
            target=Target.answer,
            complexity="easy",
            prompt_ids=ids(2, 12),
            completion_ids=ids(1, 5),
            weight=1.0 if number % 3 else 0.5,
        )
        for number in range(count)
    ]


def run_step(model: Any, step: Step, loss: Loss) -> tuple[float, dict[str, torch.Tensor]]:
    module = TuningModule(model, TuningConfig(loss=loss), steps=1, record=lambda _row: None)
    module.manual_backward = lambda value: value.backward()
    model.zero_grad()
    value = float(module._run_passes(step))
    return value, {name: weight.grad.clone() for name, weight in module.trained.items()}


@pytest.mark.parametrize("loss", Loss)
@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"model_type": "gemma2", "head_dim": 16, "attn_logit_softcapping": None}],
    ids=["plain head", "capped logits"],
)
def test_padding_changes_neither_loss_nor_gradients(
    settings: dict[str, Any], full: bool, loss: Loss
) -> None:
    model = make_model(full=full, **settings)
    step = make_step(make_rows(9), 60)
    padded = pad_step(step, 9, lambda shape: shape)
    assert len(step.packs) > 2
    assert all(item.pack.input_ids.shape[1] == 64 for item in padded.packs)
    assert [item.tokens for item in padded.packs] == [item.tokens for item in step.packs]
    for ours, own in zip(padded.packs, step.packs, strict=True):
        assert ours.pack.position_ids.max() == own.pack.position_ids.max()
    expected, gradients = run_step(model, step, loss)
    found, padded_gradients = run_step(model, padded, loss)
    # The loss is summed in float32, and its shares are float32.
    assert found == pytest.approx(expected, rel=2e-6)
    for name, gradient in gradients.items():
        scale = gradient.abs().max()
        assert scale > 0
        assert (padded_gradients[name] - gradient).abs().max() < 2e-6 * scale, name


@pytest.mark.parametrize("tokens", [1, 63, 64, 500, 511, 1030, 2500, 4095, 4096, 30_000])
def test_shapes_are_few_and_waste_little(tokens: int) -> None:
    rows = [
        Example(
            question_id="",
            target=Target.answer,
            complexity="easy",
            prompt_ids=(1,) * (tokens - 1),
            completion_ids=(1, 1),
        )
    ]
    shape = shape_of(make_step(rows, 10).packs[0], 16)
    assert tokens < shape.tokens <= max(tokens + 64, 1.125 * tokens + 1)
    assert (shape.trained, shape.rows) == (32, 2)
    assert shape.longest >= max(tokens, shape.tokens - tokens)
    # No more than eight between a number and its double.
    sizes = {_tokens_of(count) for count in range(max(512, tokens), 2 * max(512, tokens))}
    assert len(sizes) <= 9


def _tokens_of(count: int) -> int:
    from caft.tune.padding import _LEAST_TOKENS, _SIZES_OF_TOKENS, _round_up

    return _round_up(count + 1, _LEAST_TOKENS, _SIZES_OF_TOKENS)


# --- Replays ------------------------------------------------------------------------------------


def attend_by_starts(
    heads: tuple[torch.Tensor, ...],
    sequences: tuple[Sequences, ...],
    *,
    scaling: float,
    window: Any,
) -> torch.Tensor:
    """`attend_at_once`, which reads where rows start as the kernel does: from a tensor."""
    query, key, value = heads
    places = torch.arange(query.shape[1])
    row = torch.searchsorted(sequences[0].queries, places, right=True)
    seen = (row[:, None] == row[None]) & (places[:, None] >= places[None])
    key, value = (part.repeat_interleave(len(query) // len(part), 0) for part in (key, value))
    scores = (query @ key.transpose(1, 2) * scaling).masked_fill(~seen, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(0, 1)


class Recorder:
    """Stands for CUDA's: what it "records" runs again on the same tensors."""

    def __init__(self, model: Any) -> None:
        self.adapters = fused_adapters(model)
        self.recorded = self.replayed = 0

    def __call__(self, run: Run, static: TrainingPack, _is_first: bool) -> Recorded:
        self.recorded += 1
        loss = torch.zeros((), dtype=torch.float64)
        places = self._places()

        def replay() -> None:
            # A graph reads and writes where it did, and casts nothing.
            assert self._places() == places
            assert not any(each._cast.is_stale for each in self.adapters if each._cast)
            self.replayed += 1
            loss.copy_(run(static))

        return Recorded(static, replay, loss)

    def _places(self) -> list[int]:
        casts = [each._cast for each in self.adapters if each._cast]
        tensors = [tensor for cast in casts for tensor in (cast.a, *cast.b)]
        tensors += [
            tensor
            for each in self.adapters
            for weight in each.adapter[:2]
            for tensor in (weight, weight.grad)
        ]
        return [tensor.data_ptr() for tensor in tensors]


@pytest.fixture
def attends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_file, "can_attend_at_once", lambda _query: True)
    monkeypatch.setattr(attention_file, "attend_at_once", attend_by_starts)


def train(
    folder: Any, make_recorder: Callable[[Any], Any] | None, epochs: int = 3
) -> tuple[list[float], TuningModule]:
    """Losses by step and the module; steps of two packs."""
    model = make_model()
    config = TuningConfig(batch_size=8, batch_tokens=60, learning_rate=1e-2)
    loader = EpochLoader(make_rows(), config.batch_size, 60, seed=0)
    losses: list[float] = []
    steps = epochs * len(loader)
    module = TuningModule(model, config, steps=steps, record=lambda row: losses.append(row["loss"]))
    if make_recorder is not None:
        replays = Replays(module._run, model, list(module.trained.values()), make_recorder(model))
        module._plan_replays = lambda: replays
    trainer = build_trainer(
        TrainerConfig(accelerator="cpu", progress=False), folder=folder, epochs=epochs
    )
    trainer.fit(module, loader)
    return losses, module


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], TuningModule]:
    """Without padding, and with the attention of every day."""
    return train(tmp_path_factory.mktemp("launched"), None)


def assert_same(found: tuple[list[float], TuningModule], expected: Any) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    for name, weight in expected[1].trained.items():
        # Adam divides by the gradient's size, so that one near zero moves by its rounding.
        assert (found[1].trained[name] - weight).abs().max() < 1e-4, name


@pytest.mark.usefixtures("attends_at_once")
def test_replays_train_what_launched_passes_train(tmp_path: Any, launched: Any) -> None:
    recorders: list[Recorder] = []

    def make(model: Any) -> Recorder:
        recorders.append(Recorder(model))
        return recorders[-1]

    found = train(tmp_path, make)
    assert_same(found, launched)
    assert found[1].replays is not None
    assert found[1].replays.is_proven
    (recorder,) = recorders
    # 9 steps of several packs, nearly all of which have one shape.
    assert recorder.recorded <= 3
    assert recorder.replayed > 12


@pytest.mark.parametrize("reached", [1, 2])
def test_nothing_is_recorded_where_a_pass_does_not_reach_a_weight(reached: int) -> None:
    """As the experts of a mixture: no gradient is not one of 0, by which AdamW moves a weight."""
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    twins = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    launched, replayed = (
        torch.optim.AdamW(each, lr=0.1, weight_decay=0.5) for each in (twins, weights)
    )
    item = pad_step(make_step(make_rows(2), 60), 2, lambda shape: shape).packs[0]

    def run_over(parameters: list[torch.nn.Parameter]) -> Run:
        def run(_item: TrainingPack) -> torch.Tensor:
            loss = torch.stack([weight.square().sum() for weight in parameters[:reached]]).sum()
            loss.backward()
            return loss.detach()

        return run

    recorder = Recorder(make_model(full=True))
    replays = Replays(run_over(weights), torch.nn.Module(), weights, recorder)  # type: ignore[arg-type]
    for _ in range(2):
        launched.zero_grad()
        replays.start_step()
        for _ in range(2):
            run_over(twins)(item)
            replays(item)
        launched.step()
        replayed.step()
        assert torch.equal(torch.stack([*weights]), torch.stack([*twins]))
    assert replays.is_on == bool(recorder.recorded) == (reached == 2)
    assert (weights[1].grad is None) == (reached == 1)


def test_a_larger_graph_serves_until_another_is_worth_recording() -> None:
    model = make_model()
    replays = Replays(
        lambda item: item.labels.sum(), model, list(model.parameters()), Recorder(model)
    )
    small, middle, large = (Shape(tokens, 32, 17, 1024) for tokens in (1600, 2048, 2560))
    assert replays.choose(middle) == middle
    for shape in (middle, large):
        replays._recorded[shape] = Recorded(None, lambda: None, torch.zeros(()))  # type: ignore[arg-type]
    assert replays.choose(middle) == middle
    assert replays.choose(replace(middle, trained=64)) == replace(middle, trained=64)
    # More than a quarter would be wasted in either.
    assert replays.choose(small) == small
    between = replace(middle, tokens=1792)
    # 256 tokens are wasted each time, and recording costs about 2 x 1792.
    assert [replays.choose(between) for _ in range(16)] == [middle] * 15 + [between]


@pytest.mark.usefixtures("attends_at_once")
def test_what_cannot_be_recorded_is_launched(
    tmp_path: Any,
    launched: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, padded = TuningModule._run, list[bool]()

    def note(module: TuningModule, item: TrainingPack, whole: float = 1.0) -> torch.Tensor:
        padded.append(item.shape is not None)
        return run(module, item, whole)

    monkeypatch.setattr(TuningModule, "_run", note)

    def refuse(_run: Run, _static: TrainingPack, _is_first: bool) -> Recorded:
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    with caplog.at_level(logging.INFO, logger="caft"):
        found = train(tmp_path, lambda _model: refuse)
    assert_same(found, launched)
    assert found[1].replays is None
    # No pass is padded for long; one may have been when the first was not recorded.
    assert padded[0]
    assert not any(padded[-6:])
    (line,) = [each.message for each in caplog.records if "launched" in each.message]
    assert line.endswith("(operation not permitted when stream is capturing)")


@pytest.mark.usefixtures("attends_at_once")
def test_a_replay_that_is_wrong_is_found_and_not_used(
    tmp_path: Any, launched: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def make(_model: Any) -> Any:
        def record(run: Run, static: TrainingPack, is_first: bool) -> Recorded:
            loss = torch.zeros((), dtype=torch.float64)
            # Labels as they were when it was recorded.
            labels = static.labels.clone()

            def replay() -> None:
                static.labels.copy_(labels)
                loss.copy_(run(static))

            return Recorded(static, replay, loss)

        return record

    with caplog.at_level(logging.INFO, logger="caft"):
        found = train(tmp_path, make)
    assert_same(found, launched)
    assert found[1].replays is None
    assert any("a replay's loss" in each.message for each in caplog.records)


@pytest.mark.usefixtures("attends_at_once")
def test_memory_that_ends_beside_graphs_is_theirs(tmp_path: Any, launched: Any) -> None:
    def make(model: Any) -> Any:
        inner = Recorder(model)

        def record(run: Run, static: TrainingPack, is_first: bool) -> Recorded:
            recorded = inner(run, static, is_first)

            def replay() -> None:
                recorded.replay()  # and has added its gradients
                if inner.replayed == 6:
                    raise torch.OutOfMemoryError("CUDA out of memory")

            return Recorded(static, replay, recorded.loss)

        return record

    found = train(tmp_path, make)
    assert_same(found, launched)
    assert found[1].replays is None


@pytest.mark.parametrize(
    ("dials", "dropout", "reason"),
    [
        ({"adapter": Adapter.qlora}, 0.0, "4 bits"),
        ({"gradient_checkpointing": True}, 0.0, "tuning.gradient_checkpointing"),
        ({}, 0.1, "dropout"),
        ({}, 0.0, "one call"),
    ],
)
def test_why_passes_are_launched(dials: dict[str, Any], dropout: float, reason: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(dropout))
    model.device = torch.device("cpu")
    said = why_launched(model, TuningConfig(**dials), torch.bfloat16, 1)  # type: ignore[arg-type]
    assert said is not None
    assert reason in said


def test_divided_weights_are_launched() -> None:
    """On one device, too: a graph was tried there, and its error was shown."""
    model = torch.nn.Linear(2, 2)
    model.device = torch.device("cpu")
    model.__class__ = type("Divided", (FSDPModule, torch.nn.Linear), {})
    said = why_launched(model, TuningConfig(), torch.bfloat16, 1)  # type: ignore[arg-type]
    assert said == "trainer.strategy=fsdp divides the weights"
