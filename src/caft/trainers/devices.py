"""Which device a run computes on, and whether there are as many; known without Lightning."""

from __future__ import annotations

import os

import psutil
import torch

from caft.errors import UserError, count_of
from caft.threads import allowed_cores
from caft.trainers.config import TrainerConfig
from caft.trainers.launched import find_launch


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
        launch = find_launch(os.environ)
        if launch is not None and launch.on_node == config.devices:
            raise UserError(
                f"trainer.devices is {config.devices}, and {launch.launcher} lets this process see "
                f"{counts[device]} {device}; let every process see all of its node (under srun by "
                "--gpus-per-node)"
            )
        raise UserError(
            f"trainer.devices is {config.devices}, and this machine has "
            f"{count_of(counts[device], f'{device} device')}; give at most that, or "
            "trainer.accelerator=cpu"
        )
    return device


def memory_of(device: str) -> int:
    """Bytes that the smallest device of that kind, cpu or cuda, has for all processes together."""
    if device == "cpu":
        return int(psutil.virtual_memory().total)
    return min(
        torch.cuda.get_device_properties(number).total_memory
        for number in range(torch.cuda.device_count())
    )


def refuse_too_many_devices(config: TrainerConfig) -> None:
    """UserError if a run would start more processes than it has devices or cores."""
    cores = allowed_cores()
    if pick_device(config) == "cpu" and config.devices > cores:
        raise UserError(
            f"trainer.devices is {config.devices}; on a CPU every device is a process, and this "
            f"run may use {count_of(cores, 'processor core')}; give at most {cores}"
        )
