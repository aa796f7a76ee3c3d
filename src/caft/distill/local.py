"""`teacher=local_model`: a causal LM in this process, whose replies the ledger keeps as well."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from caft.distill.accept import judge_reply
from caft.distill.inputs import DistillInputs, from_reply
from caft.errors import UserError
from caft.models.config import HubModelConfig, LocalTeacherModelConfig
from caft.models.fingerprint import model_fingerprint
from caft.models.loading import load_tokenizer
from caft.models.sampling import Sampling
from caft.models.sources.folder import refuse_unloadable_folder
from caft.models.sources.locate import find_model, locate_model
from caft.protocols import Written
from caft.records import Rationale, Target
from caft.teachers.config import LocalModelTeacherConfig
from caft.teachers.ledger import Ledger
from caft.teachers.prices import Caps
from caft.teachers.progress import AskProgress
from caft.teachers.replies import LedgerEntry, TeacherReply, digest
from caft.text.prompts import Prompt
from caft.text.thinking import find_thinking


class _Row(NamedTuple):
    """One request: its keys in the ledger, whose it is, and what is asked.

    `old_key` is that of earlier ledgers, which had a folder's path as it was typed.
    """

    key: str
    old_key: str
    question_id: str
    prompt: Prompt


_ENGINES_BATCH = 512
"""Prompts that an engine gets together; it batches them itself."""
_COMMIT = re.compile("[0-9a-f]{40}")


def name_model(teacher: LocalModelTeacherConfig) -> HubModelConfig:
    """The teacher as a model that can be located and loaded."""
    return LocalTeacherModelConfig(
        name="teacher", id=teacher.id or "local", revision=teacher.revision, path=teacher.path
    )


def check_local(teacher: LocalModelTeacherConfig, *, fetch: bool) -> None:
    """UserError if no model is named, or it cannot teach; `fetch` downloads it if missing.

    Called before hours are spent on scores.
    """
    if not teacher.id and not teacher.path:
        raise UserError(
            "teacher=local_model needs a model; give a hub id (teacher.id=) or a folder "
            "(teacher.path=)"
        )
    if teacher.path:
        if not Path(teacher.path).expanduser().is_dir():
            raise UserError(f"teacher.path={teacher.path} is not a folder; give one with a model")
        refuse_unloadable_folder(Path(teacher.path).expanduser(), f"teacher.path={teacher.path}")
    model = name_model(teacher)
    folder = locate_model(model) if fetch and not teacher.path else find_model(model)
    if folder is not None:
        _refuse_without_template(folder, teacher)


def _refuse_without_template(folder: Path, teacher: LocalModelTeacherConfig) -> None:
    if not load_tokenizer(folder, name_model(teacher)).chat_template:
        named = f"teacher.path={teacher.path}" if teacher.path else f"teacher.id={teacher.id}"
        raise UserError(
            f"{named} has no chat template, and a teacher is asked in turns; give an "
            "instruction-tuned model, or save a chat_template.jinja in its folder"
        )


def write_locally(inputs: DistillInputs, teacher: LocalModelTeacherConfig) -> list[Rationale]:
    """Batch by batch into the ledger, so that an interrupted run resumes where it stopped.

    Attempt by attempt; only what was refused is asked again.
    """
    name, weights = _local_name(teacher), _weights(teacher)
    prompts = inputs.prompts
    by_question: list[list[Rationale]] = [[] for _ in prompts]
    asked = list(range(len(prompts)))
    with Ledger(inputs.ledger_path, name) as ledger:
        for attempt in range(teacher.attempts):
            rows = {
                place: _make_row(
                    inputs, teacher, place, prompts[place], weights=weights, attempt=attempt
                )
                for place in asked
            }
            replies = _write_missing(ledger, list(rows.values()), attempt, inputs, teacher)
            for place, row in rows.items():
                question = inputs.questions[place]
                reply = from_reply(question, replies[row.key], name, attempt)
                by_question[place].append(judge_reply(question, reply, inputs.rules))
            asked = [place for place in asked if not by_question[place][-1].accepted]
    return [row for rows in by_question for row in rows]


def _write_missing(
    ledger: Ledger,
    rows: Sequence[_Row],
    attempt: int,
    inputs: DistillInputs,
    teacher: LocalModelTeacherConfig,
) -> dict[str, TeacherReply]:
    """Every row's reply by key; those that the ledger does not have are written now."""
    replies = ledger.replies(row.key for row in rows)
    older = {row.old_key: row.key for row in rows if row.key not in replies}
    replies |= {older[key]: reply for key, reply in ledger.replies(older).items()}
    missing = list({row.key: row for row in rows if row.key not in replies}.values())
    size = _ENGINES_BATCH if inputs.engine else teacher.batch_size
    for start in range(0, len(missing), size):
        batch = missing[start : start + size]
        ledger.claim([(row.key, 0.0) for row in batch], Caps())
        entries = _generate_batch(batch, attempt, inputs, teacher)
        ledger.commit(entries)
        replies |= {entry.reply.key: entry.reply for entry in entries}
        if inputs.progress:
            done, kept = len(replies), len(rows) - len(missing)
            inputs.progress(AskProgress(done=done, total=len(rows), from_ledger=kept))
    return replies


def _sampling(teacher: LocalModelTeacherConfig, attempt: int) -> Sampling:
    return Sampling(
        temperature=teacher.temperature_of(attempt),
        top_p=teacher.top_p,
        top_k=teacher.top_k,
        min_p=teacher.min_p,
        seed=teacher.seed,
    )


def _weights(teacher: LocalModelTeacherConfig) -> str:
    """The model's identity: its files, or its commit. Empty if the commit is already named."""
    if not teacher.path and _COMMIT.fullmatch(teacher.revision):
        return ""
    named = name_model(teacher)
    folder = find_model(named)
    return model_fingerprint(folder, named) if folder is not None else ""


def _generate_batch(
    batch: Sequence[_Row],
    attempt: int,
    inputs: DistillInputs,
    teacher: LocalModelTeacherConfig,
) -> list[LedgerEntry]:
    assert inputs.generate is not None, "a local_model teacher needs its loaded model's generate"
    written = inputs.generate(
        [row.prompt for row in batch],
        names=[row.question_id for row in batch],
        sampling=_sampling(teacher, attempt),
        attempt=attempt,
    )
    return [
        LedgerEntry(
            reply=TeacherReply(
                key=row.key,
                text=reply.text,
                finish_reason=_local_finish(reply, teacher.max_tokens),
                completion_tokens=reply.tokens,
                reasoning=find_thinking(reply.text),
            ),
            attempt=attempt,
            request=json.dumps(row.prompt.turns),
            endpoint="in process",
            usage_estimated=True,
        )
        for row, reply in zip(batch, written, strict=True)
    ]


def _local_finish(reply: Written, max_tokens: int) -> str:
    # A reply of full length that closes its marker with the very last token is complete.
    ended = reply.tokens < max_tokens or reply.text.rstrip().endswith("]]")
    return "stop" if ended else "length"


def _local_name(teacher: LocalModelTeacherConfig) -> str:
    return f"local:{teacher.path or f'{teacher.id}@{teacher.revision}'}"


def _make_row(
    inputs: DistillInputs,
    teacher: LocalModelTeacherConfig,
    place: int,
    prompt: Prompt,
    *,
    weights: str,
    attempt: int,
) -> _Row:
    # Replies of old ledgers, whose keys did not depend on the weights, are written again: they may
    # be of another model, and a local model costs nothing but time.
    known: dict[str, object] = {"weights": weights} if weights else {}
    known |= {"thinking": True} if inputs.target is Target.thinking else {}
    # Another engine rounds otherwise.
    known |= {"engine": dict(inputs.engine)} if inputs.engine else {}
    body = known | {
        "model": _local_name(teacher),
        "messages": prompt.turns,
        "max_tokens": teacher.max_tokens,
    }
    sampling = _sampling(teacher, attempt)
    # Greedy replies keep the keys that they had before there were others.
    body |= {"sampling": asdict(sampling)} if sampling.draws else {}
    # The same files reply alike wherever they are, and however their path is spelt.
    named = body | {"model": "local"} if teacher.path and weights else body
    return _Row(
        key=digest([named, attempt]),
        old_key=digest([body, attempt]),
        question_id=inputs.questions[place].id,
        prompt=prompt,
    )
