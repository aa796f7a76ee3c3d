"""Whether torchrun or srun started this process as one of several; known without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from caft.errors import UserError, count_of
from caft.trainers.config import TrainerConfig

GUIDE = "docs/how-to/cluster.md"


@dataclass(frozen=True, slots=True)
class Launch:
    """A process that `launcher` started: number `rank` of `count` on `nodes` machines.

    `on_node` counts the processes of its own machine. The one of rank 0 leads: it does what the
    command says, and hands work that devices share to the others, which follow.
    """

    launcher: str
    rank: int
    count: int
    nodes: int
    on_node: int
    local_rank: int


def find_launch(environment: Mapping[str, str]) -> Launch | None:
    """What the launcher wrote into the environment; None if it started this process alone."""
    for launcher, names in _NAMES.items():
        values = [environment.get(name, "") for name in names]
        if all(value.isdecimal() for value in values):
            count, rank, local_rank, nodes = map(int, values)
            if count > 1 and not _is_typed_in_task(environment):
                return Launch(launcher, rank, count, nodes, count // nodes, local_rank)
    return None


_NAMES = {
    "torchrun": ("WORLD_SIZE", "RANK", "LOCAL_RANK", "GROUP_WORLD_SIZE"),
    # Of the step: a batch script has the job's own, and is no process of a group.
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_NODES"),
}


def _is_typed_in_task(environment: Mapping[str, str]) -> bool:
    """Whether `srun --pty` opened the shell, as the first of several tasks, that this was typed in.

    What it starts has its variables, too, and is no task: it has the shell's terminal. A task has
    one only if it is the command of `srun --pty` itself.
    """
    if "SLURM_PTY_PORT" not in environment or environment.get("SLURM_TASK_PID") == str(os.getpid()):
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def find_meeting(environment: Mapping[str, str]) -> tuple[str, int]:
    """Where the tasks of a step of srun meet: host and port, MASTER_ADDR and MASTER_PORT if given.

    The step's own: it may have other nodes than the job, and several steps share a job's number.
    """
    # Of "rack[1-2]n[07-9],login" it is "rack1n07".
    nodes = re.sub(r"\[([^],-]*)[^]]*\]", r"\1", environment["SLURM_STEP_NODELIST"])
    number = int(environment["SLURM_JOB_ID"]) + 97 * int(environment["SLURM_STEP_ID"])
    host = environment.get("MASTER_ADDR") or nodes.split(",")[0]
    return host, int(environment.get("MASTER_PORT") or 15000 + number % 10000)


def refuse_other_launch(config: TrainerConfig, launch: Launch | None) -> None:
    """UserError if `trainer.num_nodes` and `trainer.devices` are not what was started."""
    wanted = f"trainer.num_nodes={config.num_nodes} trainer.devices={config.devices}"
    if launch is None:
        if config.num_nodes > 1:
            raise UserError(
                f"trainer.num_nodes is {config.num_nodes}, and no launcher started this process; "
                "start the command on every node with torchrun or srun, or a sweep's jobs with "
                f"hydra/launcher=submitit_slurm, see {GUIDE}"
            )
        return
    if launch.on_node * launch.nodes != launch.count:
        raise UserError(
            f"{launch.launcher} started {count_of(launch.count, 'process')} on "
            f"{count_of(launch.nodes, 'node')}; give every node as many"
        )
    if (config.num_nodes, config.devices) != (launch.nodes, launch.on_node):
        raise UserError(
            f"{launch.launcher} started {count_of(launch.on_node, 'process')} on "
            f"each of {count_of(launch.nodes, 'node')}, and this run has {wanted}; give "
            f"trainer.num_nodes={launch.nodes} trainer.devices={launch.on_node}"
        )
