"""The causal LM under Lightning: one optimizer step a batch, correct to the token."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial

import torch

from caft.errors import UserError
from caft.kernels.chunked_loss import (
    has_plain_head,
    summed_cross_entropy,
    summed_head_loss,
    without_head,
)
from caft.kernels.lora import has_fused_lora
from caft.kernels.memory import is_out_of_memory, memory_may_end, release_memory
from caft.kernels.packed_attention import packed_attention
from caft.kernels.packing import packed_logits
from caft.models.adapters import compute_in_weights_dtype, keep_activations
from caft.protocols import CausalLM
from caft.signals import take_signals_back
from caft.trainers.distributed import Ranks
from caft.trainers.sharding import copy_aside, is_sharded, read_norm
from caft.trainers.watching import StayingModule
from caft.tune.batches import Step, TrainingPack, idle_pack
from caft.tune.config import WHOLE, Part, Select, TuningConfig
from caft.tune.error_text import explain_copy_memory, explain_memory, explain_validation_memory
from caft.tune.learning_curve import Row, accuracies, best_epoch, is_out_of_patience
from caft.tune.padding import pad_step
from caft.tune.replay import FEWEST_STEPS, GraphRecorder, Replays, why_launched
from caft.tune.token_weights import TOKEN_WEIGHTS

log = logging.getLogger(__name__)

# A forward pass, and a backward pass of twice its work.
_PASSES = 3
VALIDATING = "validating"


class TuningModule(StayingModule):
    """Wraps the student for `Trainer.fit`.

    Lightning averages micro-batches, and DDP averages devices; both are wrong where parts hold
    different numbers of trained tokens. The optimization is therefore manual, and gradients of
    several devices are summed here.

    `record` gets every row of the curve. `validate` gives the accuracy and the number of
    questions asked; `keep`, set after the model's state is restored, is called at each point where
    the stage may be interrupted, with whether it must end. `moved` is told what share of the
    present step is done, and a note for the bar.
    """

    def __init__(
        self,
        model: CausalLM,
        config: TuningConfig,
        *,
        steps: int,
        record: Callable[[Row], None],
        steps_an_epoch: int | None = None,
        compute_dtype: torch.dtype | None = None,
        ranks: Ranks | None = None,
        validate: Callable[[], tuple[float, int]] | None = None,
        part: Part = WHOLE,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.plain_head = has_plain_head(model)
        self.sharded = is_sharded(model)
        self.config = config
        self.steps = steps
        self.steps_an_epoch = steps_an_epoch or steps
        self.record = record
        self.compute_dtype = compute_dtype
        self.ranks = ranks or Ranks()
        self.validate = validate
        self.part = part
        self.keep: Callable[[bool], None] = lambda _must_stop: None
        self.moved: Callable[..., None] = lambda _share, _note="": None
        self._in_work = (0.0, 0.0)
        self.steps_done = 0
        self.curve: list[Row] = []
        self.best: dict[str, torch.Tensor] | None = None
        self.optimizer_state: dict[str, object] | None = None
        self.random_state: torch.Tensor | None = None
        self.replays: Replays | None = None

    @property
    def keeps_best(self) -> bool:
        """Whether the best epoch's weights are kept here: undivided ones are written by one."""
        return self.config.select is Select.best and (self.sharded or self.ranks.rank == 0)

    @cached_property
    def trained(self) -> dict[str, torch.nn.Parameter]:
        """The weights that are trained, by name."""
        return {name: w for name, w in self.model.named_parameters() if w.requires_grad}

    def on_fit_start(self) -> None:
        """Lightning's hook. `from_pretrained` returns eval mode and Lightning keeps it."""
        self.model.train()
        self.replays = self._plan_replays()
        # Interrupted between an epoch's last step and its validation, or just after it.
        epochs, rest = divmod(self.steps_done, self.steps_an_epoch)
        if rest == 0 and epochs > len(accuracies(self.curve)):
            self._validate_epoch(epochs)
        elif is_out_of_patience(self.curve, self.config.patience):
            self.trainer.should_stop = True

    def on_train_start(self) -> None:
        """Lightning's hook: the optimizer exists, and nothing has been drawn at random.

        Lightning has just installed its own handler of SIGTERM. It ends the training after any
        batch, whether there is a checkpoint or not, and with several processes it sends a message
        into their exchanges; here `keep` ends it, after writing one.
        """
        take_signals_back()
        if self.optimizer_state is not None:
            self.optimizers().optimizer.load_state_dict(self.optimizer_state)
            self.optimizer_state = None
        if self.random_state is not None:
            restore_random_state(self.random_state)
            self.random_state = None

    def on_train_epoch_end(self) -> None:
        """Lightning's hook. Rows of many lengths leave gaps in memory that only grow."""
        self._validate_epoch(self.steps_done // self.steps_an_epoch)
        release_memory()
        (stop,) = self.ranks.add(self._asked_to_stop())
        if stop:
            self.keep(True)

    def on_train_end(self) -> None:
        """Lightning's hook: it would move the moments to the CPU, where nobody reads them."""
        self.optimizers().optimizer.state.clear()

    def _validate_epoch(self, epoch: int) -> None:
        if self.validate is None:
            return
        if self.replays is not None:
            self.replays.make_room()
        self.model.eval()
        self._in_work = (0.0, 0.0)
        self.moved(0.0, VALIDATING)
        try:
            with (
                memory_may_end(partial(explain_validation_memory, epoch)),
                compute_in_weights_dtype(self.model, self.compute_dtype, kept=not self.sharded),
            ):
                accuracy, questions = self.validate()
        except SystemExit:
            # Asked to end between two tokens: no weight has moved since the epoch's last step.
            self.keep(True)
            raise
        self.model.train()
        self._note(epoch, validation_accuracy=accuracy, validation_questions=questions)
        if self.keeps_best and best_epoch(self.curve) == epoch:
            with memory_may_end(partial(explain_copy_memory, epoch)):
                self.best = copy_aside(self.trained)
        if is_out_of_patience(self.curve, self.config.patience):
            self.trainer.should_stop = True

    def _note(self, epoch: int, **numbers: float) -> None:
        row: Row = {"step": self.steps_done, "epoch": epoch, **numbers}
        self.curve.append(row)
        self.record(row)

    def configure_model(self) -> None:
        """Lightning's hook, where a model would be divided: it is since it was read."""

    def transfer_batch_to_device(
        self, batch: Step, device: torch.device, dataloader_idx: int
    ) -> Step:
        """Lightning's hook: a step moves its own tensors."""
        if self.replays is not None:
            batch = pad_step(batch, self.config.batch_size, self.replays.choose)
        return batch.to(device)

    def _plan_replays(self) -> Replays | None:
        if self.device.type != "cuda" or self.steps < FEWEST_STEPS:
            return None
        dtype = self.compute_dtype or self.model.dtype
        reason = why_launched(self.model, self.config, dtype, self.ranks.count)
        if reason is not None:
            log.info("passes are launched kernel by kernel, because %s", reason)
            return None
        recorder = GraphRecorder(self.config.tokens_a_pass(self.device.type))
        weights = list(self.trained.values())
        return Replays(self._run, self.model, weights, recorder)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over what is trainable."""
        return torch.optim.AdamW(
            self.trained.values(),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            # One launch rather than a dozen, for hundreds of adapters.
            fused=self._is_fused,
        )

    @property
    def _is_fused(self) -> bool:
        return bool(self.device.type == "cuda")

    def training_step(self, batch: Step, batch_idx: int) -> None:
        """Forward and backward over every pack of the step, then one update."""
        optimizer = self.optimizers()
        if self.replays is not None and not self.replays.is_on:
            self.replays = None  # with its gradients, and passes are no longer padded
        if self.replays is None:
            optimizer.zero_grad()
        config = self.config
        done, warmup = self.steps_done, config.warmup_steps
        factor = self.part.factor(config.schedule, done, self.steps, warmup)
        rate = config.learning_rate * factor
        for group in optimizer.param_groups:
            group["lr"] = rate
        with self._explained_memory(batch), self._unaveraged():
            total = self._accumulate(batch)
        early = self._is_fused and self.ranks.count == 1
        loss, norm, stop = (self._step_early if early else self._step)(total, rate, batch)
        self.steps_done += 1
        epoch = (self.steps_done - 1) // self.steps_an_epoch + 1
        self._note(epoch, loss=loss, gradient_norm=norm, learning_rate=rate)
        self.keep(stop > 0)

    def _step(self, total: torch.Tensor, rate: float, batch: Step) -> tuple[float, float, float]:
        """Loss, norm of the gradient, and whether to stop."""
        loss, stop = self.ranks.add(float(total), self._asked_to_stop())
        self._refuse_no_number("loss", loss, rate, batch)
        trained = list(self.trained.values())
        self.ranks.add_gradients(trained)
        norm = read_norm(torch.nn.utils.clip_grad_norm_(trained, self.config.clip))
        self._refuse_no_number("gradient", norm, rate, batch)
        self._update(batch)
        return loss, norm, stop

    def _step_early(
        self, total: torch.Tensor, rate: float, batch: Step
    ) -> tuple[float, float, float]:
        """The same, launched while the device still computes the gradients.

        It takes no step where `found_inf` is 1; what that depends on is read afterwards.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), self.config.clip)
        numbers = torch.stack([total.float(), norm.float()])
        optimizer = self.optimizers().optimizer
        optimizer.found_inf = 1 - numbers.isfinite().all().float()
        self._update(batch)
        if self.replays is not None:
            self.replays.refresh()
        loss, norm_read = numbers.tolist()
        self._refuse_no_number("loss", loss, rate, batch)
        self._refuse_no_number("gradient", norm_read, rate, batch)
        return loss, norm_read, self._asked_to_stop()

    def _update(self, batch: Step) -> None:
        with self._explained_memory(batch):
            # AdamW allocates its state in the first step.
            self.optimizers().step()
        for weight in self.trained.values():
            # The fused optimizer does not, and what is computed from weights is cached by version.
            torch.autograd.graph.increment_version(weight)

    def _asked_to_stop(self) -> float:
        # Summed over the processes, so that all stop after the same step.
        return float(self.ranks.asked_to_stop())

    def _refuse_no_number(self, what: str, value: float, rate: float, batch: Step) -> None:
        if not math.isfinite(value):
            raise UserError(
                f"the {what} is {value} at step {self.steps_done + 1} of {self.steps} (questions "
                f"{', '.join(batch.question_ids)}; learning rate {rate:g}), and the step was not "
                "taken; the last checkpoint is kept; lower tuning.learning_rate or tuning.clip, "
                "raise tuning.warmup_steps or use model.dtype=float32"
            )

    def _unaveraged(self) -> AbstractContextManager[None]:
        # DDP would average the gradients of every pass; they are summed once, after the last.
        ddp = self.trainer.strategy.model
        return nullcontext() if self.ranks.count == 1 or self.sharded else ddp.no_sync()

    def _explained_memory(self, batch: Step) -> AbstractContextManager[None]:
        def explain() -> str:
            # One of several devices may have no row of a step.
            longest = max((item.tokens for item in batch.packs), default=0)
            return explain_memory(
                self.config, longest, self.steps_done + 1, self.steps, device=self.device.type
            )

        return memory_may_end(explain)

    def _accumulate(self, batch: Step) -> torch.Tensor:
        try:
            return self._run_passes(batch)
        except RuntimeError as error:
            if self.replays is None or not self.replays.is_on or not is_out_of_memory(error):
                raise
        self.replays.give_up("memory ran out")
        return self._run_passes(batch)

    def _run_passes(self, batch: Step) -> torch.Tensor:
        total = torch.zeros((), device=self.device)
        done = 0
        passes = self._passes(batch)
        run = self.replays or partial(self._run, whole=batch.weight)
        if self.replays is not None:
            self.replays.start_step()
        tokens = sum(item.pack.input_ids.numel() for item in passes)
        kept = nullcontext() if self._has_fused_lora else keep_activations(self.model)
        with packed_attention(self.model), kept:
            for item in passes:
                count = item.pack.input_ids.numel()
                self._in_work = (done / tokens, count / tokens)
                done += count
                # Read once a step, because reading waits for the accelerator.
                total = total + run(item)
        return total

    def _run(self, item: TrainingPack, whole: float = 1.0) -> torch.Tensor:
        with self._weights_dtype():
            loss = self._summed_loss(item)
            if item.shares is None:
                loss = loss * item.weight / whole
        self.manual_backward(loss)
        return loss.detach()

    def _passes(self, batch: Step) -> Sequence[TrainingPack]:
        if not self.sharded:
            return batch.packs
        # A layer is gathered from all devices, so all of them run as many passes.
        missing = self.ranks.most(len(batch.packs)) - len(batch.packs)
        return batch.packs + Step((idle_pack(),) * missing, (), 0.0).to(self.device).packs

    def pass_layers(self, share: float) -> None:
        """So much of a forward pass is behind it; the backward pass takes about twice as long."""
        before, part = self._in_work
        if part:
            self.moved(before + part * share / _PASSES)

    @cached_property
    def _has_fused_lora(self) -> bool:
        return has_fused_lora(self.model)

    def _weights_dtype(self) -> AbstractContextManager[None]:
        if self._has_fused_lora:
            return nullcontext()
        return compute_in_weights_dtype(self.model, self.compute_dtype, kept=not self.sharded)

    def _summed_loss(self, item: TrainingPack) -> torch.Tensor:
        weigh = TOKEN_WEIGHTS[self.config.loss]
        if not self.plain_head:
            logits = packed_logits(self.model, item.pack, item.positions)
            return summed_cross_entropy(logits, item.labels, weigh, item.shares)
        with without_head(self.model):
            hidden = packed_logits(self.model, item.pack, item.positions)
        return summed_head_loss(self.model, hidden, item.labels, weigh, item.shares)


def random_state() -> torch.Tensor:
    """The state of the generators that dropout draws on: the CPU's and this device's."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state())
    return torch.cat(states)


def restore_random_state(state: torch.Tensor) -> None:
    """Undo every draw since `random_state` was taken."""
    size = torch.get_rng_state().numel()
    torch.set_rng_state(state[:size])
    if torch.cuda.is_available() and state.numel() > size:
        torch.cuda.set_rng_state(state[size:])
