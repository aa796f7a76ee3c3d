"""A Lightning Trainer that does what the config says and nothing else."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment

from caft.trainers.config import TrainerConfig
from caft.trainers.devices import pick_device


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
