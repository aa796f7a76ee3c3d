"""Runs on several nodes: of the processes that a launcher started one leads, the others follow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from caft.errors import UserError
from caft.hydra_bridge.running import end_on_signals
from caft.run_config import RunConfig
from caft.signals import INTERRUPTED, USER_MUST_ACT, say
from caft.threads import set_up_threads
from caft.trainers.launched import GUIDE, find_launch


def is_follower() -> bool:
    """Whether this process waits for the work that another one hands out."""
    launch = find_launch(os.environ)
    return launch is not None and launch.rank > 0


def follow(read_config: Callable[[], RunConfig]) -> int:
    """Do the leader's work until it ends the run; the exit status.

    A config that cannot be read is the leader's to report: it has read the same one, or finds that
    this one differs.
    """
    launch = find_launch(os.environ)
    assert launch is not None, "a process that no launcher started"
    set_up_threads()
    from caft.trainers.joined import Node, join, name_cause

    try:
        config: RunConfig | None = read_config()
    except (Exception, SystemExit):  # --version ends here, too
        config = None

    def work(_: object) -> int:
        try:
            return join(launch).follow(Node.here(config, config.trainer if config else None))
        except UserError as error:
            say(str(error))
            return USER_MUST_ACT
        except RuntimeError as error:  # of the connection: those of the work are reported in place
            leader = join(launch).life.name(0)
            say(
                f"{leader}, which led this one ({launch.rank}), or another is gone "
                f"({name_cause(error)}); the same command on every node goes on from here"
            )
            return INTERRUPTED

    return end_on_signals(work)


@contextmanager
def leading() -> Iterator[None]:
    """Followers are let go when the body ends, however it does."""
    launch = find_launch(os.environ)
    try:
        yield
    finally:
        if launch is not None:
            set_up_threads()
            from caft.trainers.joined import join

            with suppress(UserError):  # followers that never came need not be let go
                join(launch).end()


def refuse_sweep_of_launcher() -> None:
    """UserError if a launcher started a sweep, whose jobs would start processes of their own."""
    launch = find_launch(os.environ)
    if launch is not None:
        raise UserError(
            f"-m under {launch.launcher}: a sweep starts its jobs by itself; leave "
            f"{launch.launcher} out, or start one run with it; for jobs on several nodes give "
            f"hydra/launcher=submitit_slurm, see {GUIDE}"
        )
