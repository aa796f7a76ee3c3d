"""An engine other than ours: compared before its replies count, and described in summary.json."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from caft.engines.config import (
    VLLM_RANKS,
    InProcessEngineConfig,
    OwnEngineConfig,
    ServerEngineConfig,
    VllmEngineConfig,
)
from caft.engines.replies import Engine
from caft.engines.server import name_tuned
from caft.errors import UserError
from caft.evaluate.gate import GateInputs, GateRow, refuse_disagreement
from caft.evaluate.stage import ReplyInputs
from caft.models.adapters import uses_dora
from caft.models.student import Student
from caft.pipeline.footprint import rank_of
from caft.pipeline.results import Tuned, obtain, record_stage
from caft.pipeline.stage_inputs import gate, gate_of
from caft.pipeline.steps import Step, evaluates_with_engine, steps_of, teaches_with_engine
from caft.pipeline.workspace import Workspace
from caft.report.engine_part import EnginePart, GatePart
from caft.report.schema import StageRecordPart
from caft.run_config import RunConfig, Until
from caft.store import StageKind, plain
from caft.teachers.config import LocalModelTeacherConfig
from caft.text.config import PromptStyle
from caft.text.prompts import Wanted
from caft.tune.config import Adapter, AnswerTarget

log = logging.getLogger(__name__)


def pass_gate(workspace: Workspace, step: Step, student: Student) -> StageRecordPart:
    """Compare the engine's replies of one model with ours; UserError below the bound."""
    work, engine = gate(workspace, step, student), workspace.engine_of(student)
    assert engine is not None
    rows, artifact = obtain(workspace.store, step, work)
    _judge(workspace, engine, rows, "tuned" if step.tuned else "base")
    return record_stage(step, artifact)


def pass_teachers_gate(workspace: Workspace, teacher: Student, engine: Engine) -> None:
    """The same for a local teacher, once a run; UserError below the bound."""
    if any(part["model"] == "teacher" for part in workspace.gates):
        return
    config = workspace.config
    assert isinstance(config.teacher, LocalModelTeacherConfig)
    replies = ReplyInputs(
        student=teacher,
        questions=workspace.questions.train,
        shots=workspace.questions.shots,
        # A teacher is asked in turns.
        prompt=replace(config.dataset.prompt, style=PromptStyle.chat),
        wanted=Wanted.rationale,
        max_new_tokens=config.teacher.max_tokens,
        batch_size=config.teacher.batch_size,
        trainer=config.trainer,
        title="local teacher",
        engine=engine,
    )
    work = GateInputs(replies=replies, questions=gate_of(config).questions)
    rows = work.read(workspace.store.obtain(work).folder)
    _judge(workspace, engine, rows, "teacher")


def _judge(workspace: Workspace, engine: Engine, rows: Sequence[GateRow], model: str) -> None:
    config = workspace.config
    bound = gate_of(config).agreement
    refuse_disagreement(rows, bound, engine=config.engine.kind, whose=model)
    part: GatePart = {
        "model": model,
        "served": str(engine.key["model"]) if "model" in engine.key else None,
        "version": rows[0].version,
        "n": len(rows),
        "same_answers": sum(row.same_answer for row in rows),
        "same_replies": sum(row.same_reply for row in rows),
        "bound": bound,
    }
    workspace.gates.append(part)


def refuse_beyond_engines(config: RunConfig) -> None:
    """UserError for what only our own generator does; replies of an engine are greedy."""
    asked: list[tuple[str, object, object]] = []
    if evaluates_with_engine(config):
        evaluation = config.evaluation
        asked += [
            ("evaluation.sampling.temperature", evaluation.sampling.temperature, 0),
            ("evaluation.max_thinking_tokens", evaluation.max_thinking_tokens, None),
        ]
    if teaches_with_engine(config) and isinstance(config.teacher, LocalModelTeacherConfig):
        # Later attempts are drawn.
        asked += [
            ("teacher.temperature", config.teacher.temperature, 0),
            ("teacher.attempts", config.teacher.attempts, 1),
        ]
    for name, value, plainly in asked:
        if value != plainly:
            raise UserError(
                f"{name}={json.dumps(value)} needs engine=own, and engine is {config.engine.kind}; "
                f"other engines draw with numbers of their own and close no thinking span; use "
                f"engine=own, or {name}={json.dumps(plainly)}"
            )
    _refuse_adapter(config)


def _refuse_adapter(config: RunConfig) -> None:
    engine, tuning = config.engine, config.tuning
    in_process = isinstance(engine, InProcessEngineConfig)
    if not in_process or tuning.adapter is Adapter.full or not _gates_tuned(config):
        return
    start, rank, most = tuning.start_from, rank_of(tuning), VLLM_RANKS[-1]
    if uses_dora(Path(start).expanduser()) if start else tuning.lora.use_dora:
        given, kind, other = "use_dora=true", "DoRA adapter", "use_dora=false"
        reason = "vLLM and SGLang apply no such adapters"
    elif isinstance(engine, VllmEngineConfig) and rank > most:
        given, kind, other = f"r={rank}", f"adapter of rank {rank}", f"r={most}"
        reason = f"vLLM applies adapters up to rank {most}"
    else:
        return
    raise UserError(
        f"{f'the {kind} of tuning.start_from={start}' if start else f'tuning.lora.{given}'} needs "
        f"engine=own, and engine is {engine.kind}; {reason}; use engine=own, or "
        f"{'another adapter' if start else f'tuning.lora.{other}'}"
    )


def _gates_tuned(config: RunConfig) -> bool:
    steps = steps_of(config, Until.evaluate)
    return any(step.tuned and step.kind is StageKind.gate for step in steps)


def refuse_untrained(workspace: Workspace) -> None:
    """UserError where a server is to evaluate a model that this run would only now train."""
    config = workspace.config
    if isinstance(config.engine, ServerEngineConfig) and _gates_tuned(config):
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


def engine_part(workspace: Workspace) -> EnginePart:
    """The `engine` part of summary.json."""
    engine, gates = workspace.config.engine, workspace.gates
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
        "writes_answers": workspace.config.tuning.answer_target is AnswerTarget.bracketed,
        "gates": list(gates),
    }
