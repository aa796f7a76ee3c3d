"""A Lightning Trainer that does what the config says and nothing else."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment

from caft.errors import UserError
from caft.threads import allowed_cores
from caft.trainers.config import TrainerConfig


def pick_device(config: TrainerConfig) -> str:
    """The name in torch of what `trainer.accelerator` means; UserError if absent or too few."""
    counts = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    present = [name for name, count in counts.items() if count]
    device = {"auto": present[0], "gpu": "cuda"}.get(config.accelerator, config.accelerator)
    if device not in present:
        raise UserError(
            f"trainer.accelerator is {config.accelerator!r}, which this machine lacks; "
            f"there is {', '.join(sorted(present))}"
        )
    if device != "cpu" and config.devices > counts[device]:
        raise UserError(
            f"trainer.devices is {config.devices}, and this machine has {counts[device]} {device} "
            f"device{'s' * (counts[device] > 1)}; give at most that, or trainer.accelerator=cpu"
        )
    return device


def refuse_too_many_devices(config: TrainerConfig) -> None:
    """UserError if a run would start more processes than it has devices or cores."""
    cores = allowed_cores()
    if pick_device(config) == "cpu" and config.devices > cores:
        raise UserError(
            f"trainer.devices is {config.devices}; on a CPU every device is a process, and this "
            f"run may use {cores} processor cores; give at most {cores}"
        )


def build_trainer(
    config: TrainerConfig,
    *,
    folder: Path,
    epochs: int = 1,
    callbacks: Sequence[Callback] = (),
    ranks: int = 1,
) -> Trainer:
    """A quiet Trainer: no sanity run, no checkpoint, no logger and no bar.

    With `ranks` above 1 this process is one of them, and they have been started: distributed.py.
    """
    # Lightning's hints are about its own loaders and loggers; ours are chosen on purpose.
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    device = pick_device(config)
    return Trainer(
        accelerator="gpu" if device == "cuda" else device,
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        # Under Slurm, too, we start the processes of a run.
        plugins=[LightningEnvironment()],
        default_root_dir=folder,
        max_epochs=epochs,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        inference_mode=True,
        # By default Lightning logs every fifty steps, and a stage may have fewer.
        log_every_n_steps=1,
    )
