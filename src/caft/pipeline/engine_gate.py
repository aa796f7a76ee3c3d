"""An engine other than ours: compared before its replies count, and described in summary.json."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from caft.engines.config import OwnEngineConfig, ServerEngineConfig
from caft.engines.server import name_tuned
from caft.errors import UserError
from caft.evaluate.gate import refuse_disagreement
from caft.models.student import Student
from caft.pipeline.results import Tuned, obtain, record_stage
from caft.pipeline.stage_inputs import gate, gate_of
from caft.pipeline.steps import Step, steps_of
from caft.pipeline.workspace import Workspace
from caft.report.schema import EnginePart, GatePart, StageRecordPart
from caft.run_config import RunConfig, Until
from caft.store import StageKind, plain

log = logging.getLogger(__name__)


def pass_gate(
    workspace: Workspace, step: Step, student: Student
) -> tuple[GatePart, StageRecordPart]:
    """Compare the engine's replies of one model with ours; UserError below the bound."""
    config, work = workspace.config, gate(workspace, step, student)
    rows, artifact = obtain(workspace.store, step, work)
    bound, model = gate_of(config).agreement, "tuned" if step.tuned else "base"
    refuse_disagreement(rows, bound, engine=config.engine.kind, whose=model)
    engine = workspace.engine_of(student)
    assert engine is not None
    part: GatePart = {
        "model": model,
        "served": str(engine.key["model"]) if "model" in engine.key else None,
        "version": rows[0].version,
        "n": len(rows),
        "same_answers": sum(row.same_answer for row in rows),
        "same_replies": sum(row.same_reply for row in rows),
        "bound": bound,
    }
    return part, record_stage(step, artifact)


def refuse_untrained(workspace: Workspace) -> None:
    """UserError where a server is to evaluate a model that this run would only now train."""
    config = workspace.config
    tuned = [step for step in steps_of(config, Until.evaluate) if step.tuned]
    gated = any(step.kind is StageKind.gate for step in tuned)
    if gated and isinstance(config.engine, ServerEngineConfig):
        raise UserError(
            "engine=server: the tuned model must be on the server before it is evaluated, and it "
            "is not trained yet; run the same command with until=tune, serve what it writes as it "
            "says, and run this command again"
        )


def tell_how_to_serve(workspace: Workspace, tuned: Tuned) -> None:
    """Log the name under which a server must have the tuned weights."""
    engine = workspace.config.engine
    if isinstance(engine, ServerEngineConfig) and tuned.student.tuned_fingerprint:
        log.info(
            "to evaluate these weights with engine=server, serve %s (or merged, with "
            "tuning.merge=true) under the name %s",
            workspace.context.folder / "adapter",
            engine.tuned_model or name_tuned(tuned.student.tuned_fingerprint),
        )


def describe_engine(config: RunConfig, gates: Sequence[GatePart]) -> EnginePart:
    """The `engine` part of summary.json."""
    engine = config.engine
    # Where it is compared, it has told its version.
    versions = {gate["version"] for gate in gates}
    settings: dict[str, object] = {}
    if isinstance(engine, ServerEngineConfig):
        settings = {"base_url": engine.base_url}
    elif not isinstance(engine, OwnEngineConfig):
        settings = {"extra": plain(getattr(engine, "extra", {}))}
    return {
        "name": engine.kind,
        "version": versions.pop() if len(versions) == 1 else None,
        "settings": settings,
        "gates": list(gates),
    }
