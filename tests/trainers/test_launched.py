"""What a launcher writes into the environment, and which settings fit it."""

from __future__ import annotations

import pytest

from caft.errors import UserError
from caft.trainers.config import TrainerConfig
from caft.trainers.launched import Launch, find_launch, refuse_other_launch

TORCHRUN = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none",
}  # fmt: skip
# As `srun env` writes it inside a job of two nodes with two tasks each.
SRUN = {
    "SLURM_JOB_ID": "4711", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_NODEID": "0",
}  # fmt: skip


def test_each_launcher_is_read_by_its_own_names() -> None:
    assert find_launch(TORCHRUN) == Launch("torchrun", 3, 4, nodes=2, on_node=2, local_rank=1)
    assert find_launch(SRUN) == Launch("srun", 0, 4, nodes=2, on_node=2, local_rank=0)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"},
        # A batch script without srun: the job's numbers are there, no step's.
        {name: value for name, value in SRUN.items() if "STEP" not in name},
        # One task a job, as a launcher of sweeps starts it.
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_a_process_on_its_own_belongs_to_no_group(environment: dict[str, str]) -> None:
    assert find_launch(environment) is None


def test_settings_that_do_not_fit_what_was_started_are_refused_with_those_that_do() -> None:
    launch = find_launch(TORCHRUN)
    refuse_other_launch(TrainerConfig(num_nodes=2, devices=2), launch)
    advice = r"2 processes on each of 2 nodes.*give trainer.num_nodes=2 trainer.devices=2"
    with pytest.raises(UserError, match=advice):
        refuse_other_launch(TrainerConfig(devices=4), launch)


def test_several_nodes_need_a_launcher() -> None:
    refuse_other_launch(TrainerConfig(devices=2), None)
    with pytest.raises(UserError, match="no launcher started this process; start the command on"):
        refuse_other_launch(TrainerConfig(num_nodes=2), None)


def test_nodes_with_unequal_numbers_of_processes_are_refused() -> None:
    uneven = find_launch({**TORCHRUN, "WORLD_SIZE": "3", "RANK": "0"})
    with pytest.raises(UserError, match="3 processes on 2 nodes; give every node as many"):
        refuse_other_launch(TrainerConfig(num_nodes=2, devices=2), uneven)
