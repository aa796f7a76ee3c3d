"""The causal LM under Lightning: one optimizer step a batch, correct to the token."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule

from caft.errors import UserError
from caft.models.adapters import compute_in_weights_dtype
from caft.models.loading import release_memory
from caft.models.packing import packed_attention, packed_logits
from caft.tune.batches import Step
from caft.tune.config import TuningConfig
from caft.tune.loss import summed_cross_entropy
from caft.tune.schedule import learning_rate_factor


class TuningModule(LightningModule):  # type: ignore[misc]
    """Wraps the student for `Trainer.fit`.

    Lightning averages micro-batches, which is wrong where they hold different numbers of trained
    tokens; the optimization is therefore manual.
    """

    def __init__(
        self,
        model: Any,
        config: TuningConfig,
        *,
        steps: int,
        record: Callable[[dict[str, float]], None],
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.config = config
        self.steps = steps
        self.record = record
        self.steps_done = 0

    def on_fit_start(self) -> None:
        """Lightning's hook. `from_pretrained` returns eval mode and Lightning keeps it."""
        self.model.train()

    def on_train_epoch_end(self) -> None:
        """Lightning's hook. Rows of many lengths leave gaps in memory that only grow."""
        release_memory()

    def transfer_batch_to_device(
        self, batch: Step, device: torch.device, dataloader_idx: int
    ) -> Step:
        """Lightning's hook: a step knows its own tensors."""
        return batch.to(device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over what is trainable."""
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        return torch.optim.AdamW(
            trained, lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )

    def training_step(self, batch: Step, batch_idx: int) -> None:
        """Forward and backward over every pack of the step, then one update."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        loss = self._accumulate(batch)
        self._refuse_bad_loss(loss, batch)
        norm = torch.nn.utils.clip_grad_norm_(
            [weight for weight in self.model.parameters() if weight.requires_grad],
            self.config.clip,
        )
        rate = self._set_learning_rate(optimizer)
        optimizer.step()
        self.steps_done += 1
        metrics = {"loss": loss, "gradient_norm": float(norm), "learning_rate": rate}
        self.record({"step": self.steps_done, "epoch": self.current_epoch + 1, **metrics})
        self.log_dict({f"train/{name}": value for name, value in metrics.items()})

    def _accumulate(self, batch: Step) -> float:
        total = 0.0
        with packed_attention(self.model):
            for item in batch.packs:
                with compute_in_weights_dtype(self.model):
                    logits = packed_logits(self.model, item.pack, item.positions)
                loss = summed_cross_entropy(logits, item.labels) / batch.trained_tokens
                self.manual_backward(loss)
                total += float(loss.detach())
        return total

    def _refuse_bad_loss(self, loss: float, batch: Step) -> None:
        if not math.isfinite(loss):
            more = ", ..." if len(batch.question_ids) > 5 else ""
            raise UserError(
                f"the loss is {loss} at step {self.steps_done + 1} of {self.steps} (questions "
                f"{', '.join(batch.question_ids[:5])}{more}; learning rate "
                f"{self.config.learning_rate}); lower tuning.learning_rate or use "
                "model.dtype=float32"
            )

    def _set_learning_rate(self, optimizer: Any) -> float:
        factor = learning_rate_factor(
            self.steps_done, self.steps, self.config.schedule, self.config.warmup_steps
        )
        rate = self.config.learning_rate * factor
        for group in optimizer.param_groups:
            group["lr"] = rate
        return rate
