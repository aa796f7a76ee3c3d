"""Work that devices share: in this process, in processes of ours, or in those of a launcher."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from caft.signals import asked_to_end
from caft.trainers.config import TrainerConfig
from caft.trainers.distributed import Ranks, run_ranks
from caft.trainers.launched import find_launch

Progress = TypeVar("Progress")
Result = TypeVar("Result")
Spec = TypeVar("Spec")


def count_shares(config: TrainerConfig, items: int) -> int:
    """The processes for so many items: at most one each. A launcher's take part all or not."""
    if find_launch(os.environ) is None:
        return min(config.processes, items)
    return config.processes if items >= config.processes else 1


def share(
    work: Callable[[Ranks, Callable[[Progress], None], Spec], Result],
    spec: Spec,
    count: int,
    receive: Callable[[Progress], None],
    device: str,
) -> Result:
    """`work(ranks, receive, spec)` in `count` processes; the result of the first of them.

    Where it is one, that is this process. The first error of any of them is raised here.
    """
    if count == 1:
        return work(Ranks(asked_to_stop=asked_to_end), receive, spec)
    launch = find_launch(os.environ)
    if launch is None:
        return run_ranks(work, (spec,), count, receive, device)
    from caft.trainers.joined import join

    return join(launch).run(work, (spec,), receive, device)
