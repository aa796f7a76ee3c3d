"""What training does to a tiny Llama: learns, moves adapters only, stops loudly, repeats itself."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from caft.errors import UserError
from caft.kernels.chunked_loss import has_plain_head
from caft.models.adapters import add_lora
from caft.records import Example, Target
from caft.trainers.build import build_trainer
from caft.trainers.config import TrainerConfig
from caft.trainers.distributed import Ranks
from caft.tune import module as module_module
from caft.tune.batches import EpochLoader, epoch_order, idle_pack, make_step
from caft.tune.config import Loss, Schedule, Select, TuningConfig
from caft.tune.module import TuningModule, random_state, restore_random_state


def make_model(seed: int = 0, dropout: float = 0.0) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "llama",
        vocab_size=31,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(config).eval()
    torch.manual_seed(seed)
    return add_lora(
        base, r=4, alpha=8, dropout=dropout, modules=(), use_dora=False, use_rslora=False
    )


def rows(count: int = 10) -> list[Example]:
    """Rows whose answer follows from their only varying prompt token."""
    return [
        Example(
            question_id=f"q{number}",
            target=Target.answer,
            complexity="easy",
            prompt_ids=(3, 4 + number, 5),
            completion_ids=(15 + number % 4, 2),
        )
        for number in range(count)
    ]


def train(
    model: Any,
    folder: Any,
    *,
    epochs: int = 1,
    record: Any = None,
    validate: Any = None,
    **dials: Any,
) -> Any:
    """The curve and the module after `epochs` over ten rows, four a step."""
    config = TuningConfig(
        **{
            "batch_size": 4,
            "batch_tokens": 8,
            "learning_rate": 1e-2,
            "schedule": Schedule.constant,
            **dials,
        }
    )
    loader = EpochLoader(rows(), config.batch_size, config.batch_tokens, seed=0)
    curve: list[dict[str, float]] = []

    def note(numbers: dict[str, float]) -> None:
        curve.append(numbers)
        if record:
            record(numbers)

    steps = len(loader) * epochs
    module = TuningModule(
        model, config, steps=steps, steps_an_epoch=len(loader), record=note, validate=validate
    )
    trainer = build_trainer(
        TrainerConfig(accelerator="cpu", progress=False), folder=folder, epochs=epochs
    )
    trainer.fit(module, loader)
    return curve, module


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_training_learns_and_moves_the_adapters_only(tmp_path):
    model = make_model()
    before = weights_of(model)
    curve, module = train(model, tmp_path, epochs=20)
    assert curve[0]["loss"] > 2.0
    assert curve[-1]["loss"] < 0.2
    # Ten rows, four a step: the last, smaller step of every epoch is taken too.
    assert [row["step"] for row in curve] == list(range(1, 61))
    assert [row["epoch"] for row in curve[:7]] == [1, 1, 1, 2, 2, 2, 3]
    moved = {name for name, weight in weights_of(model).items() if not weight.equal(before[name])}
    trainable = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert moved == trainable
    assert all("lora_" in name for name in trainable)
    assert module.steps_done == 60


def test_nothing_is_moved_to_the_cpu_when_training_ends(tmp_path, monkeypatch):
    moved: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "cpu", lambda self: moved.append(self) or self)
    _curve, module = train(make_model(), tmp_path)
    assert moved == []
    assert not module.optimizers().optimizer.state


@pytest.fixture
def fused(monkeypatch):
    """As on CUDA: a step is launched before it is known whether it may be taken."""
    monkeypatch.setattr(TuningModule, "_is_fused", True)


def test_a_step_that_is_launched_early_is_the_same(tmp_path, monkeypatch):
    expected, module = train(make_model(), tmp_path, epochs=3)
    monkeypatch.setattr(TuningModule, "_is_fused", True)
    found, early = train(make_model(), tmp_path, epochs=3)
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    for name, weight in module.trained.items():
        assert torch.allclose(early.trained[name], weight, atol=1e-4)


@pytest.mark.usefixtures("fused")
def test_no_step_is_taken_early_that_may_not_be_taken(tmp_path):
    model, before = make_model(), {}

    def overflow(numbers: dict[str, float]) -> None:
        before.update(weights_of(model))
        if numbers["step"] == 2:
            weight = next(each for each in model.parameters() if each.requires_grad)
            weight.register_hook(lambda gradient: gradient * float("nan"))

    with pytest.raises(UserError) as caught:
        train(model, tmp_path, epochs=2, record=overflow)
    assert "the gradient is nan at step 3 of 6" in str(caught.value)
    assert all(weight.equal(before[name]) for name, weight in weights_of(model).items())


def test_every_epoch_has_an_order_of_its_own_under_lightning(tmp_path):
    model = make_model()
    seen: list[tuple[str, ...]] = []

    class Watched(TuningModule):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            seen.append(batch.question_ids)
            assert all(part.training for part in self.model.modules())
            super().training_step(batch, batch_idx)

    config = TuningConfig(batch_size=4, schedule=Schedule.constant)
    loader = EpochLoader(rows(), 4, 100, seed=7)
    module = Watched(model, config, steps=9, record=lambda _: None)
    trainer = build_trainer(
        TrainerConfig(accelerator="cpu", progress=False), folder=tmp_path, epochs=3
    )
    trainer.fit(module, loader)
    orders = [epoch_order(len(rows()), seed=7, epoch=epoch) for epoch in range(3)]
    names = [[rows()[row].question_id for row in order] for order in orders]
    assert seen == [tuple(own[start : start + 4]) for own in names for start in (0, 4, 8)]
    assert len({tuple(seen[start : start + 3]) for start in (0, 3, 6)}) == 3


def test_a_loss_that_is_no_number_stops_before_the_step_and_names_it(tmp_path):
    model = make_model()
    kept: dict[str, torch.Tensor] = {}

    def poison(numbers: dict[str, float]) -> None:
        if numbers["step"] == 2:
            with torch.no_grad():
                model.get_base_model().lm_head.weight.fill_(float("nan"))
            kept.update(weights_of(model))

    with pytest.raises(UserError) as caught:
        train(model, tmp_path, epochs=2, record=poison)
    message = str(caught.value)
    order = [step.question_ids for step in EpochLoader(rows(), 4, 8, seed=0)]
    assert "the loss is nan at step 3 of 6" in message
    assert f"(questions {', '.join(order[2])}; learning rate 0.01)" in message
    assert "\n" not in message
    for name, weight in weights_of(model).items():
        assert weight.equal(kept[name]) or "lm_head" in name


def test_a_gradient_that_is_no_number_stops_at_its_own_step_with_the_scheduled_rate(tmp_path):
    model = make_model()

    def overflow(numbers: dict[str, float]) -> None:
        if numbers["step"] == 1:
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.register_hook(lambda gradient: gradient * float("inf"))

    before = {}

    def note(numbers: dict[str, float]) -> None:
        overflow(numbers)
        before.update(weights_of(model))

    with pytest.raises(UserError) as caught:
        train(model, tmp_path, record=note, schedule=Schedule.linear, warmup_steps=2)
    # Ten rows are three steps; the second of two warm-up steps has the full rate.
    assert "the gradient is nan at step 2 of 3" in str(caught.value)
    assert "learning rate 0.01)" in str(caught.value)
    assert all(weight.equal(before[name]) for name, weight in weights_of(model).items())


def test_running_out_of_memory_says_what_to_lower(tmp_path):
    model = make_model()

    def refuse(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    has_plain_head(model)  # a short pass, which a stage makes where it reads the model
    model.get_base_model().model.layers[1].register_forward_hook(refuse)
    with pytest.raises(UserError, match=r"out of memory at step 1 of 3.*tuning\.batch_tokens"):
        train(model, tmp_path, batch_tokens=64)


def test_running_out_of_memory_for_the_optimizers_state_says_so_too(tmp_path, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12.00 GiB")

    monkeypatch.setattr(torch.optim.AdamW, "step", refuse)
    with pytest.raises(UserError, match=r"out of memory at step 1 of 3"):
        train(make_model(), tmp_path)


def test_running_out_of_memory_between_epochs_says_so(tmp_path):
    def refuse() -> tuple[float, int]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    expected = r"in the validation after epoch 1; lower tuning\.batch_tokens"
    with pytest.raises(UserError, match=expected):
        train(make_model(), tmp_path, validate=refuse)


@pytest.mark.parametrize("clip", [1e-3, 1e6])
def test_gradients_are_clipped_and_the_norm_before_is_recorded(tmp_path, clip):
    model = make_model()
    curve, _ = train(model, tmp_path, batch_size=10, clip=clip)
    (step,) = curve
    left = torch.cat([w.grad.flatten() for w in model.parameters() if w.requires_grad]).norm()
    assert step["gradient_norm"] > 1e-2
    assert float(left) == pytest.approx(min(clip, step["gradient_norm"]), rel=1e-3)


def test_learning_rate_follows_the_schedule(tmp_path):
    dials = {"schedule": Schedule.linear, "warmup_steps": 2}
    model, moves = make_model(), []
    before = weights_of(model)

    def note(numbers: dict[str, float]) -> None:
        after = weights_of(model)
        moves.append(max(float((after[name] - before[name]).abs().max()) for name in after))

    curve, _ = train(model, tmp_path, epochs=2, record=note, **dials)
    rates = [row["learning_rate"] for row in curve]
    assert rates == pytest.approx([5e-3, 1e-2, 1e-2, 7.5e-3, 5e-3, 2.5e-3])
    # Adam's first step moves a weight that was 0 by the rate itself, whatever the gradient.
    assert moves[0] == pytest.approx(5e-3, rel=1e-2)
    assert [(row["step"], row["epoch"]) for row in curve] == [
        (1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2),
    ]  # fmt: skip


def test_same_seed_same_weights_and_another_seed_others(tmp_path):
    runs = []
    for seed in (1, 1, 2):
        model = make_model(seed, dropout=0.2)
        train(model, tmp_path, epochs=2)
        runs.append(weights_of(model))
    first, again, other = runs
    assert all(first[name].equal(again[name]) for name in first)
    assert any(not first[name].equal(other[name]) for name in first)


def test_adapters_are_read_anew_behind_the_fused_optimizer_of_accelerators(tmp_path, monkeypatch):
    # It changes weights without telling, and adapters are cast when they have changed.
    usual, _ = train(make_model(), tmp_path / "usual", epochs=3)
    plain = torch.optim.AdamW
    monkeypatch.setattr(
        torch.optim, "AdamW", lambda w, **dials: plain(w, **{**dials, "fused": True})
    )
    fused, _ = train(make_model(), tmp_path / "fused", epochs=3)
    # 3e-7 was seen in nine steps; adapters that are not read anew learn nothing.
    assert [row["loss"] for row in fused] == pytest.approx([row["loss"] for row in usual], rel=1e-4)
    assert fused[-1]["loss"] < 0.9 * fused[0]["loss"]


# Hooks, without a trainer


def bare(model: Any = None, *, steps: int = 6, **given: Any) -> Any:
    """A module of three steps an epoch; its curve, and what it told of keeping, are its own."""
    dials = {name: given.pop(name) for name in ("patience", "select", "loss") if name in given}
    config = TuningConfig(batch_size=4, learning_rate=1e-2, weight_decay=0.125, **dials)
    module: Any = TuningModule(
        model or make_model(), config, steps=steps, steps_an_epoch=3, record=lambda row: None,
        **given,
    )  # fmt: skip
    module.trainer = SimpleNamespace(should_stop=False)
    module.kept, module.bar = [], []
    module.keep = module.kept.append
    module.moved = lambda *words: module.bar.append(words)
    return module


def test_each_epoch_is_validated_the_best_is_kept_and_patience_ends_it():
    told, modes = iter([(0.25, 8), (0.75, 8), (0.5, 8), (0.75, 8)]), []

    def validate() -> tuple[float, int]:
        modes.append(model.training)
        return next(told)

    model = make_model()
    module = bare(model, validate=validate, patience=2, select=Select.best)
    rows, names = [], set(module.trained)
    module.record = rows.append
    assert names == {name for name, w in model.named_parameters() if w.requires_grad}
    for epoch in (1, 2, 3, 4):
        with torch.no_grad():
            for weight in module.trained.values():
                weight.fill_(epoch)
        module.steps_done = 3 * epoch
        model.train()
        module._validate_epoch(epoch)
        assert model.training
        assert module.trainer.should_stop == (epoch == 4)
        assert {float(weight.mean()) for weight in module.best.values()} == {min(epoch, 2)}
    assert set(module.best) == names
    assert not any(weight.requires_grad for weight in module.best.values())
    assert modes == [False] * 4
    assert module.bar == [(0.0, "validating")] * 4
    assert rows[1] == {
        "step": 6, "epoch": 2, "validation_accuracy": 0.75, "validation_questions": 8,
    }  # fmt: skip
    assert rows == module.curve
    last = bare(model, validate=lambda: (1.0, 8), select=Select.final)
    last._validate_epoch(1)
    assert last.best is None


def test_the_best_weights_are_copied_into_the_hosts_memory():
    module = bare(validate=lambda: (1.0, 8), select=Select.best)
    with FakeTensorMode():
        module.trained = {"w": torch.nn.Parameter(torch.empty(3, device="cuda"))}
    module._validate_epoch(1)
    assert module.best["w"].device.type == "cpu"


def test_of_several_processes_with_whole_weights_only_the_first_keeps_the_best():
    first, second = (
        bare(validate=lambda: (1.0, 8), select=Select.best, ranks=Ranks(rank, 2)) for rank in (0, 1)
    )
    for module in (first, second):
        module._validate_epoch(1)
    assert all(weight.equal(first.trained[name]) for name, weight in first.best.items())
    assert second.best is None


def test_memory_that_ends_in_the_copy_of_the_best_weights_is_one_line():
    module = bare(validate=lambda: (1.0, 8), select=Select.best)
    module.trained = {"w": torch.zeros(1).expand(2**50)}  # more than there are addresses
    with pytest.raises(UserError, match=r"weights of epoch 1 that tuning\.select=best keeps"):
        module._validate_epoch(1)


def test_a_stop_that_is_asked_for_during_validation_keeps_the_state():
    def end() -> tuple[float, int]:
        raise SystemExit

    module = bare(validate=end)
    module._in_work = (0.5, 0.5)
    with pytest.raises(SystemExit):
        module._validate_epoch(1)
    assert (module.kept, module.curve, module._in_work) == ([True], [], (0.0, 0.0))


@pytest.mark.parametrize(
    ("steps_done", "accuracies", "validated", "stops"),
    [
        (0, [], [], False), (2, [], [], False), (3, [], [1], False), (3, [0.5], [], False),
        (6, [0.5], [2], True), (6, [0.5, 0.5], [], True), (4, [0.5], [], False),
        (7, [0.5, 0.75], [], False), (5, [0.5, 0.5], [], True),
    ],
)  # fmt: skip
def test_a_resumed_stage_validates_what_it_had_not_and_knows_when_it_was_over(
    monkeypatch, steps_done, accuracies, validated, stops
):
    taken = []
    monkeypatch.setattr(module_module, "take_signals_back", lambda: taken.append(True))
    module = bare(validate=lambda: (0.25, 8), patience=1)
    module.model.eval()
    module.steps_done = steps_done
    before = [
        {"step": 1, "epoch": 1, "loss": 1.0},
        *({"validation_accuracy": a} for a in accuracies),
    ]
    module.curve = list(before)
    module.on_fit_start()
    assert [row["epoch"] for row in module.curve[len(before) :]] == validated
    assert module.trainer.should_stop == stops
    assert module.model.training
    module.optimizer_state = module.random_state = None
    assert not taken  # Lightning has yet to take them
    module.on_train_start()
    assert taken == [True]


@pytest.mark.parametrize("asked", [False, True])
def test_an_epochs_end_frees_memory_and_heeds_a_stop(monkeypatch, asked):
    freed = []
    monkeypatch.setattr(module_module, "release_memory", lambda: freed.append(True))
    module = bare(validate=lambda: (0.25, 8), ranks=Ranks(asked_to_stop=lambda: asked))
    module.steps_done = 6
    module.on_train_epoch_end()
    assert [row["epoch"] for row in module.curve] == [2]
    assert (module.kept, freed) == ([True] * asked, [True])


@pytest.mark.parametrize("asked", [False, True])
def test_a_step_may_be_interrupted_behind_its_row(tmp_path, asked):
    summed, kept = [], []

    class Watched(Ranks):
        def add_gradients(self, weights: Any) -> None:
            summed.append([id(weight) for weight in weights])

    config = TuningConfig(batch_size=4, schedule=Schedule.constant)
    module = TuningModule(
        make_model(), config, steps=3, record=lambda row: None,
        ranks=Watched(asked_to_stop=lambda: asked),
    )  # fmt: skip
    module.keep = lambda stop: kept.append((stop, module.steps_done, len(module.curve)))
    build_trainer(TrainerConfig(accelerator="cpu", progress=False), folder=tmp_path, epochs=1).fit(
        module, EpochLoader(rows(), 4, 100, seed=0)
    )
    assert kept == [(asked, step, step) for step in (1, 2, 3)] + [(True, 3, 3)] * asked
    assert summed == [[id(weight) for weight in module.trained.values()]] * 3


def test_the_optimizers_and_the_generators_states_are_given_back_once():
    module = bare()
    optimizer = module.configure_optimizers()
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["fused"]) == (1e-2, 0.125, False)
    assert [id(w) for w in group["params"]] == [id(w) for w in module.trained.values()]
    module.optimizers = lambda: SimpleNamespace(optimizer=optimizer)
    module.on_train_start()  # nothing to give back
    for weight in module.trained.values():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    module.optimizer_state = optimizer.state_dict()
    module.random_state, drawn = random_state(), torch.rand(3)
    optimizer = module.configure_optimizers()
    module.on_train_start()
    assert torch.rand(3).equal(drawn)
    assert len(optimizer.state) == len(module.trained)
    assert (module.optimizer_state, module.random_state) == (None, None)


def test_a_devices_generator_is_kept_and_restored_behind_the_cpus(monkeypatch):
    alone = random_state()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: torch.tensor([7, 8]).byte())
    given = []
    monkeypatch.setattr(torch.cuda, "set_rng_state", given.append)
    both = random_state()
    assert both.tolist() == [*alone.tolist(), 7, 8]
    drawn = torch.rand(3)
    restore_random_state(both)
    assert torch.rand(3).equal(drawn)
    assert [state.tolist() for state in given] == [[7, 8]]
    restore_random_state(alone)  # of a machine without one
    assert len(given) == 1


def step_of(module: Any, most_tokens: int = 8) -> Any:
    module.manual_backward = lambda loss: loss.backward()
    return make_step([*rows(3), replace(rows(4)[3], weight=3.0)], most_tokens)


def test_a_steps_loss_is_the_weighted_mean_of_its_tokens_over_all_passes():
    module = bare()
    model, batch = module.model, step_of(module)
    sums, seen = [], []
    for item, weight in zip([*rows(3), rows(4)[3]], (1, 1, 1, 3), strict=True):
        ids = torch.tensor([(*item.prompt_ids, *item.completion_ids)])
        told = model(input_ids=ids).logits[0, 2:4].log_softmax(-1).detach()
        sums.append(-weight * float(told[[0, 1], ids[0, 3:]].sum()))
    expected = sum(sums) / (2 * (1 + 1 + 1 + 3))
    layer = model.get_base_model().model.layers[0]
    layer.register_forward_hook(lambda *_: seen.append(module._in_work))
    assert module._accumulate(batch) == pytest.approx(expected, rel=1e-4)
    # Which part of the step each pass is, by its tokens: four a row.
    assert seen == [(0.0, 0.5), (0.5, 0.25), (0.75, 0.25)]


@pytest.mark.parametrize("loss", list(Loss))
def test_the_models_own_logits_give_every_loss_that_the_chunked_head_gives(monkeypatch, loss):
    module, heads, kept = bare(loss=loss), [], []
    without_head, keep_activations = module_module.without_head, module_module.keep_activations
    monkeypatch.setattr(
        module_module, "without_head", lambda model: heads.append(plain) or without_head(model)
    )
    monkeypatch.setattr(
        module_module,
        "keep_activations",
        lambda model: kept.append(model) or keep_activations(model),
    )
    results = []
    for plain in (True, False):
        module.plain_head = plain
        module.__dict__["_has_fused_lora"] = not plain  # which keeps what it needs by itself
        for weight in module.trained.values():
            weight.grad = None
        value = module._accumulate(step_of(module, 100))
        results.append([torch.tensor(value), *(w.grad for w in module.trained.values())])
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-6)
    assert heads == [True] * 2  # a pass for each of two weights
    assert kept == [module.model]


def test_the_bar_moves_by_a_third_of_a_pass_at_most_and_not_between_steps():
    module = bare()
    module.pass_layers(0.5)
    module._in_work = (0.25, 0.5)
    for share in (0.0, 0.5, 1.0):
        module.pass_layers(share)
    assert module.bar == [(0.25,), (0.25 + 0.25 / 3,), (pytest.approx(0.25 + 0.5 / 3),)]


def test_devices_that_share_a_model_run_as_many_passes_as_the_busiest():
    module = bare()
    batch = step_of(module)
    assert module._passes(batch) is batch.packs
    module.sharded = True
    module.ranks = SimpleNamespace(most=lambda count: count + 2)
    *own, first, second = module._passes(batch)
    assert [id(item) for item in own] == [id(item) for item in batch.packs]
    assert first.weight == second.weight == 0.0
    assert first.pack.input_ids.equal(idle_pack().pack.input_ids)
    moved = module.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert {item.labels.device.type for item in moved.packs} == {"meta"}


@pytest.mark.parametrize(("count", "sharded"), [(1, False), (2, False), (2, True)])
def test_gradients_are_not_averaged_where_they_are_summed_here(count, sharded):
    module, apart = bare(), nullcontext()
    module.trainer.strategy = SimpleNamespace(model=SimpleNamespace(no_sync=lambda: apart))
    module.ranks, module.sharded = Ranks(count=count), sharded
    assert (module._unaveraged() is apart) == ((count, sharded) == (2, False))


def test_weights_are_cast_as_was_asked_and_kept_so_where_they_are_whole(monkeypatch):
    given = []

    def note(model: Any, dtype: Any, *, kept: bool) -> Any:
        given.append((model, dtype, kept))
        return nullcontext()

    monkeypatch.setattr(module_module, "compute_in_weights_dtype", note)
    module = bare(validate=lambda: (0.5, 8), compute_dtype=torch.bfloat16)
    for sharded in (False, True):
        module.sharded = sharded
        module._validate_epoch(1)
        module.__dict__["_has_fused_lora"] = False
        module._weights_dtype()
    # A fused adapter casts by itself.
    module.__dict__["_has_fused_lora"] = True
    module._weights_dtype()
    assert given == [(module.model, torch.bfloat16, kept) for kept in (True, True, False, False)]


def test_a_device_without_a_row_may_run_out_of_memory_too():
    expected = (
        r"at step 1 of 6, in a pass of at most 0 tokens; lower tuning.batch_tokens \(now 2048\)"
    )
    step = replace(step_of(bare()), packs=())
    with pytest.raises(UserError, match=expected), bare()._explained_memory(step):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
