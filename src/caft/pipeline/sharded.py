"""What `trainer.strategy=fsdp` cannot do with a run's model, known before its weights are read."""

from __future__ import annotations

import logging

from caft.errors import UserError
from caft.models.loading import build_empty
from caft.pipeline.footprint import BYTES
from caft.pipeline.planned import RUNS
from caft.pipeline.planner import Planner
from caft.pipeline.steps import tunes
from caft.pipeline.workspace import Workspace
from caft.report.wording import memory
from caft.store import StageKind
from caft.trainers.config import Strategy, TrainerConfig

log = logging.getLogger(__name__)

_NEVER_WHOLE = (StageKind.tune, StageKind.distill, StageKind.judge, StageKind.teacher)
"""Stages that divide the student, or leave it alone. An engine's gate has it whole, too."""


def check_strategy(config: TrainerConfig) -> None:
    """Warn of fsdp where nothing is divided. UserError if this torch cannot do it."""
    if config.shards:
        from caft.trainers.sharding import refuse_old_torch

        refuse_old_torch()
    elif config.strategy is Strategy.fsdp:
        log.warning(
            "trainer.strategy=fsdp has no effect with one device; set trainer.devices=2 or more"
        )


def refuse_undivided(workspace: Workspace) -> None:
    """UserError for a model without layers, or one that a device must, and cannot, have whole."""
    if not (workspace.config.trainer.shards and tunes(workspace.config)):
        return
    from caft.kernels.layers import layers_of

    student = workspace.student
    empty = build_empty(student.folder, student.config)
    if not layers_of(empty):
        raise UserError(
            f"trainer.strategy=fsdp divides a model by its layers, and {student.base['id']} "
            f"({type(empty).__name__}) has no list of them; leave trainer.strategy=ddp"
        )
    _refuse_whole_copies(workspace)


def _refuse_whole_copies(workspace: Workspace) -> None:
    from caft.trainers.devices import memory_of

    config, student = workspace.config, workspace.student
    if config.dry_run and config.trainer.num_nodes > 1:
        return  # what several nodes will do may be asked on any machine
    weights, room = student.parameters * BYTES[student.dtype], memory_of(student.device)
    if weights <= room:
        return
    plan = Planner(workspace, student).plan()
    whole = [
        stage.name
        for stage in plan
        if stage.state == RUNS and stage.kind and stage.kind not in _NEVER_WHOLE
    ]
    if whole:
        raise UserError(
            f"{student.base['id']} has {memory(weights)} of weights in {student.dtype}, and a "
            f"{student.device} device here {memory(room)}; trainer.strategy=fsdp divides them for "
            f"tuning only, and {', '.join(whole[:3])} would need all on one: set until=tune, and "
            "either score=published or run until=score before, on larger devices with this store"
        )
