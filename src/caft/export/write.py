"""Writes a run's rows and a tool's configs into a folder: all of it, or nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from caft.errors import UserError
from caft.export.configs import Plan, StagePlan, name_schedule
from caft.export.finished_run import FinishedRun
from caft.export.rows import Row, begins_with_bos
from caft.export.tools import Tool, keeps_tokens, write_row, write_tokens
from caft.models.config import Dtype, HubModelConfig
from caft.models.encoding import uses_chat_template
from caft.store import disk_may_be_full, plain


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written of one stage. `other_tokens` counts rows that the tool tokenises otherwise.

    Token counts are of one pass over the rows; `weighed` rows count otherwise in the loss.
    """

    file: str
    rows: int
    by_class: Mapping[str, int]
    by_teacher: Mapping[str, int]
    prompt_tokens: int
    completion_tokens: int
    other_tokens: int
    weighed: int
    draws: Mapping[str, int]


def refuse_filled(out: Path) -> None:
    """UserError if something is there already."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} is there already and not empty; give another folder with --out")


def write_export(run: FinishedRun, name: str, tool: Tool, out: Path) -> list[Exported]:
    """Write the folder `out`; UserError if it cannot be written or a reply is no message."""
    plan = make_plan(run)
    if not tool.command and not plan.chat:
        raise UserError(
            f"the prompts of the run in {run.folder} are completions, not chats (the model has no "
            "chat template, or dataset.prompt.style=completion); give --to trl or another tool"
        )
    aside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with disk_may_be_full(out.parent, "make room there, or give another folder with --out"):
            aside.mkdir(parents=True)
            parts = _fill(aside, run, plan, name, tool)
            # Over an empty folder, too.
            aside.replace(out)
    except OSError as error:
        raise UserError(
            f"{out} cannot be written: {error.strerror}; give another folder with --out"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return parts


def make_plan(run: FinishedRun) -> Plan:
    """What the tools' configs need of the run."""
    config, student = run.config, run.student
    epochs = [stage.epochs for stage in config.method.stages]
    from_hub = isinstance(config.model, HubModelConfig) and config.model.path is None
    # The tools run inside the folder of the export.
    given = config.tuning.start_from
    start = str(Path(given).expanduser().absolute()) if given else None
    tuning = replace(config.tuning, start_from=start)
    stages: list[StagePlan] = []
    for number, count in enumerate(epochs, start=1):
        before = stages[-1].output if stages else start
        stages.append(StagePlan(number, count, before))
    rows = [row for stage in run.stages for row in stage]
    return Plan(
        model=config.model.id if from_hub else str(student.folder),
        revision=student.revision,
        trust_remote_code=config.model.trust_remote_code,
        end_token=rows[0].end,
        chat=uses_chat_template(config.dataset.prompt.style, student.tokenizer),
        longest=max(row.example.length for row in rows),
        bf16=config.model.dtype is not Dtype.float32,
        tuning=tuning,
        seed=config.seed,
        stages=stages,
    )


def _fill(folder: Path, run: FinishedRun, plan: Plan, name: str, tool: Tool) -> list[Exported]:
    parts = [
        _write_stage(folder, run, stage, rows, tool)
        for stage, rows in zip(plan.stages, run.stages, strict=True)
    ]
    for file, text in {
        **tool.files(plan),
        "export.json": _describe(run, plan, name, parts),
    }.items():
        (folder / file).write_text(text, encoding="utf-8")
    return parts


def _write_stage(
    folder: Path, run: FinishedRun, stage: StagePlan, rows: Sequence[Row], tool: Tool
) -> Exported:
    tokenizer = run.student.tokenizer
    # TRL's tokenizer writes the BOS itself; ms-swift's template, too.
    bos = tool.adds_nothing or not begins_with_bos(tokenizer)
    told = [_describe_row(row, run, stage) for row in rows]
    asked = [write_row(row, tokenizer, as_messages=tool.as_messages, bos=bos) for row in rows]
    lines = ({**made, **more} for made, more in zip(asked, told, strict=True))
    _write_lines(folder / f"{stage.name}.jsonl", lines)
    if tool.writes_tokens:
        _write_lines(folder / f"{stage.name}.tokens.jsonl", map(write_tokens, rows))
    return Exported(
        file=f"{stage.name}.jsonl",
        rows=len(rows),
        by_class=_count_classes(rows, run.config.split.classes),
        by_teacher=Counter(row.teacher for row in rows if row.teacher),
        prompt_tokens=sum(len(row.example.prompt_ids) for row in rows),
        completion_tokens=sum(len(row.example.completion_ids) for row in rows),
        other_tokens=sum(not keeps_tokens(tool, row, tokenizer) for row in rows),
        weighed=count_weighed([row.example.weight for row in rows]),
        draws=dict(run.config.method.stages[stage.number - 1].draw),
    )


def count_weighed(weights: Sequence[float]) -> int:
    """How many are not 1; equal ones change nothing in the mean that the loss is."""
    return sum(weight != 1 for weight in weights) if len(set(weights)) > 1 else 0


def _count_classes(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, int]:
    """How many rows each class has that any has, in the order of `classes`."""
    counts = Counter(row.example.complexity for row in rows)
    return {name: counts[name] for name in classes if name in counts}


def _describe_row(row: Row, run: FinishedRun, stage: StagePlan) -> dict[str, object]:
    """What every row says of itself, whichever tool it is for."""
    example = row.example
    return {
        "id": f"{stage.name}/{example.question_id}/{example.target.name}",
        "question_id": example.question_id,
        "class": example.complexity,
        "target": example.target.name,
        "teacher": row.teacher,
        "prompt_tokens": len(example.prompt_ids),
        "completion_tokens": len(example.completion_ids),
        "weight": example.weight,
        "run_id": run.run_id,
        "commit": run.commit,
        "ledger_key": row.ledger_key,
    }


def _describe(run: FinishedRun, plan: Plan, name: str, parts: Sequence[Exported]) -> str:
    """export.json: where the rows are from, and all that TRL's script reads."""
    stages = [
        {"epochs": stage.epochs, "output": stage.output, **plain(part)}
        for stage, part in zip(plan.stages, parts, strict=True)
    ]
    told = {
        "tool": name,
        "run": {
            "id": run.run_id,
            "name": run.config.name,
            "commit": run.commit,
            "versions": run.summary["run"]["versions"],
        },
        "model": {
            "id": plan.model,
            "revision": plan.revision,
            "trust_remote_code": plan.trust_remote_code,
            "end_token": plan.end_token,
            "dtype": "auto" if plan.bf16 else "float32",
        },
        "dataset": run.summary["dataset"],
        "seed": plan.seed,
        "tuning": plain(plan.tuning),
        "scheduler": name_schedule(plan.tuning),
        "stages": stages,
    }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
