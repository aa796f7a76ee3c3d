"""What a launcher writes into the environment, and which settings fit it."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import termios
from typing import Any

import pytest

from caft.errors import UserError
from caft.trainers.build import environment_of
from caft.trainers.config import TrainerConfig
from caft.trainers.launched import Launch, find_launch, find_meeting, refuse_other_launch

TORCHRUN = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none",
}  # fmt: skip
# Recorded with Slurm 22.05.8: a batch script with --nodes=2 --ntasks-per-node=2, ...
BATCH = {
    "SLURM_JOB_ID": "4", "SLURM_JOB_NAME": "b.sh", "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_JOB_NUM_NODES": "2", "SLURM_LOCALID": "0", "SLURM_NNODES": "2", "SLURM_NODEID": "0",
    "SLURM_NODELIST": "node[1-2]", "SLURM_NPROCS": "4", "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "0", "SLURM_TASKS_PER_NODE": "2(x2)",
}  # fmt: skip
# ... the first task of `srun` in it, ...
SRUN = {
    **BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}  # fmt: skip
# ... of `srun -N1 -n2 -w node2`, and of `srun -N1 -n1`.
PART = {
    **SRUN, "SLURM_NNODES": "1", "SLURM_NPROCS": "2", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "1",
    "SLURM_STEP_NODELIST": "node2", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "2",
}  # fmt: skip
ONE = {
    **SRUN, "SLURM_NNODES": "1", "SLURM_NPROCS": "1", "SLURM_NTASKS": "1", "SLURM_STEP_ID": "3",
    "SLURM_STEP_NODELIST": "node1", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "1",
}  # fmt: skip
# `salloc -N2 --ntasks-per-node=1`, and the second task of `srun -N2 -n2` from a login node.
SALLOC = {
    "SLURM_JOB_ID": "5", "SLURM_JOB_NAME": "interactive", "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_JOB_NUM_NODES": "2", "SLURM_NNODES": "2", "SLURM_NODELIST": "node[1-2]",
    "SLURM_NPROCS": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1",
}  # fmt: skip
LOGIN = {
    "SLURM_JOB_ID": "3", "SLURM_JOB_NAME": "bash", "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_JOB_NUM_NODES": "2", "SLURM_LOCALID": "0", "SLURM_NNODES": "2", "SLURM_NODEID": "1",
    "SLURM_NODELIST": "node[1-2]", "SLURM_NPROCS": "2", "SLURM_NTASKS": "2", "SLURM_PROCID": "1",
    "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
}  # fmt: skip


def test_each_launcher_is_read_by_its_own_names() -> None:
    assert find_launch(TORCHRUN) == Launch("torchrun", 3, 4, nodes=2, on_node=2, local_rank=1)
    assert find_launch(SRUN) == Launch("srun", 0, 4, nodes=2, on_node=2, local_rank=0)
    assert find_launch(PART) == Launch("srun", 0, 2, nodes=1, on_node=2, local_rank=0)
    assert find_launch(LOGIN) == Launch("srun", 1, 2, nodes=2, on_node=1, local_rank=0)


def in_terminal(environment: dict[str, str], told: Any) -> None:
    """As a command typed into a shell: that terminal is the process's own."""
    _, end = os.openpty()
    os.setsid()
    fcntl.ioctl(end, termios.TIOCSCTTY, 0)
    own = {**environment, "SLURM_TASK_PID": str(os.getpid())}
    told.put([find_launch(environment) is None, find_launch(own) is None])


def without_terminal(environment: dict[str, str], told: Any) -> None:
    os.setsid()
    told.put([find_launch(environment) is None])


@pytest.mark.parametrize(
    ("process", "alone"), [(in_terminal, [True, False]), (without_terminal, [False])]
)
def test_a_command_typed_into_a_task_belongs_to_no_group(process: Any, alone: list[bool]) -> None:
    """In the shell of `srun -N2 -n2 --pty bash` it would wait for a second one; srun is none."""
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    typed = {**SRUN, "SLURM_PTY_PORT": "36843", "SLURM_TASK_PID": "1"}
    started = context.Process(target=process, args=(typed, told))
    started.start()
    assert told.get(timeout=60) == alone
    started.join()


@pytest.mark.parametrize(
    ("environment", "host", "port"),
    [
        (SRUN, "node1", 15004),
        # The job's first node has none of this step's tasks, and the job's number names two steps.
        (PART, "node2", 15101),
        ({**SRUN, "SLURM_STEP_NODELIST": "rack[1-2]n[07-09,11],login"}, "rack1n07", 15004),
        ({**SRUN, "SLURM_STEP_NODELIST": "n[3,5]-ib", "SLURM_JOB_ID": "64711"}, "n3-ib", 19711),
        ({**SRUN, "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "29500"}, "10.0.0.7", 29500),
    ],
)
def test_the_tasks_of_a_step_meet_at_its_first_node(
    environment: dict[str, str], host: str, port: int
) -> None:
    assert find_meeting(environment) == (host, port)


@pytest.mark.parametrize("environment", [SRUN, PART, LOGIN])
def test_lightning_takes_what_srun_has_set(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It demands SLURM_NTASKS_PER_NODE, which is the job's own, and missing without the option."""
    for name in [*os.environ]:
        if name.startswith(("SLURM_", "MASTER_")):
            monkeypatch.delenv(name)
    set_by_us = dict.fromkeys(("SLURM_NTASKS_PER_NODE", "MASTER_ADDR", "MASTER_PORT"), "")
    for name, value in {**set_by_us, **environment}.items():
        monkeypatch.setenv(name, value)  # so that all is as before in the end
    for name in set_by_us.keys() - environment.keys():
        monkeypatch.delenv(name)
    launch = find_launch(environment)
    assert launch is not None
    found = environment_of(launch)
    assert found.world_size() == launch.count
    assert found.global_rank() == launch.rank
    assert (found.main_address, found.main_port) == find_meeting(environment)
    found.validate_settings(launch.on_node, launch.nodes)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"},
        # Without srun the job's numbers are there, no step's.
        BATCH,
        SALLOC,
        # One task, as a launcher of sweeps starts it.
        ONE,
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
