"""A Lightning Trainer that does what the config says and nothing else."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from pytorch_lightning.strategies import ModelParallelStrategy, Strategy

from caft.trainers.config import TrainerConfig
from caft.trainers.devices import pick_device
from caft.trainers.launched import Launch, find_launch, find_meeting


def build_trainer(
    config: TrainerConfig,
    *,
    folder: Path,
    epochs: int = 1,
    callbacks: Sequence[Callback] = (),
    ranks: int = 1,
    sharded: bool = False,
) -> Trainer:
    """A quiet Trainer: no sanity run, no checkpoint, no logger and no bar.

    With `ranks` above 1 this process is one of them, and they have been started: by us
    (distributed.py), or by a launcher (joined.py). `sharded` is said of the model's weights.
    """
    # Lightning's hints are about its own loaders and loggers; ours are chosen on purpose.
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    device = pick_device(config)
    launch = find_launch(os.environ) if ranks > 1 else None
    return Trainer(
        accelerator="gpu" if device == "cuda" else device,
        devices=config.devices if launch else ranks,
        num_nodes=launch.nodes if launch else 1,
        strategy=_strategy(ranks, sharded=sharded),
        # Under Slurm, too, we start the processes of a run that it started as one.
        plugins=[environment_of(launch) if launch else LightningEnvironment()],
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


def _strategy(ranks: int, *, sharded: bool) -> Strategy | str:
    if sharded:
        return ModelParallelStrategy(data_parallel_size=ranks, tensor_parallel_size=1)
    return "ddp" if ranks > 1 else "auto"


def environment_of(launch: Launch) -> ClusterEnvironment:
    """Lightning's reading of a launcher: where its processes meet, and which one this is."""
    if launch.launcher == "torchrun":
        return TorchElasticEnvironment()
    # Lightning reads the job's variables and demands some that srun need not set.
    host, port = find_meeting(os.environ)
    os.environ.update(MASTER_ADDR=host, MASTER_PORT=str(port))
    os.environ["SLURM_NTASKS_PER_NODE"] = str(launch.on_node)
    with warnings.catch_warnings():
        # In a job that is named bash or interactive it says that srun was not used.
        warnings.simplefilter("ignore")
        return SLURMEnvironment(auto_requeue=False)
