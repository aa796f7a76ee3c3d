"""Whether torchrun or srun started this process as one of several; known without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from caft.errors import UserError
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
            if count > 1:
                return Launch(launcher, rank, count, nodes, count // nodes, local_rank)
    return None


_NAMES = {
    "torchrun": ("WORLD_SIZE", "RANK", "LOCAL_RANK", "GROUP_WORLD_SIZE"),
    # Of the step: a batch script has the job's own, and is no process of a group.
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_NODES"),
}


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
            f"{launch.launcher} started {launch.count} processes on {launch.nodes} nodes; give "
            "every node as many"
        )
    if (config.num_nodes, config.devices) != (launch.nodes, launch.on_node):
        raise UserError(
            f"{launch.launcher} started {launch.on_node} process{'es' * (launch.on_node > 1)} on "
            f"each of {launch.nodes} nodes, and this run has {wanted}; give "
            f"trainer.num_nodes={launch.nodes} trainer.devices={launch.on_node}"
        )
