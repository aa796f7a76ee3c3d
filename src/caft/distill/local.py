"""`teacher=local_model`: a causal LM in this process, whose replies the ledger keeps as well."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from caft.distill.accept import judge_reply
from caft.distill.inputs import DistillInputs, from_reply
from caft.errors import UserError
from caft.models.config import HubModelConfig
from caft.models.fingerprint import model_fingerprint
from caft.models.loading import load_tokenizer
from caft.models.sources.folder import refuse_unloadable_folder
from caft.models.sources.locate import find_model, locate_model
from caft.protocols import Written
from caft.records import Rationale
from caft.teachers.config import LocalModelTeacherConfig
from caft.teachers.ledger import Ledger
from caft.teachers.prices import Caps
from caft.teachers.progress import AskProgress
from caft.teachers.replies import LedgerEntry, TeacherReply, digest
from caft.text.prompts import Prompt

_ENGINES_BATCH = 512
"""Prompts that an engine gets together; it batches them itself."""
_COMMIT = re.compile("[0-9a-f]{40}")


def name_model(teacher: LocalModelTeacherConfig) -> HubModelConfig:
    """The teacher as a model that can be located and loaded."""
    return HubModelConfig(
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
    """Batch by batch into the ledger, so that an interrupted run resumes where it stopped."""
    name, weights = _local_name(teacher), _weights(teacher)
    prompts = inputs.prompts
    keys = [_local_key(prompt, teacher, weights, inputs.engine) for prompt in prompts]
    size = _ENGINES_BATCH if inputs.engine else teacher.batch_size
    with Ledger(inputs.ledger_path, name) as ledger:
        replies = ledger.replies(keys)
        by_key = dict(zip(keys, prompts, strict=True))
        missing = [(key, prompt) for key, prompt in by_key.items() if key not in replies]
        for start in range(0, len(missing), size):
            batch = missing[start : start + size]
            ledger.claim([(key, 0.0) for key, _ in batch], Caps())
            entries = _generate_batch(batch, inputs, teacher)
            ledger.commit(entries)
            replies |= {entry.reply.key: entry.reply for entry in entries}
            if inputs.progress:
                done, kept = len(replies), len(keys) - len(missing)
                inputs.progress(AskProgress(done=done, total=len(keys), from_ledger=kept))
    return [
        judge_reply(question, from_reply(question, replies[key], name, 0), inputs.rules)
        for question, key in zip(inputs.questions, keys, strict=True)
    ]


def _weights(teacher: LocalModelTeacherConfig) -> str:
    """The model's identity: its files, or its commit. Empty if the commit is already named."""
    if not teacher.path and _COMMIT.fullmatch(teacher.revision):
        return ""
    named = name_model(teacher)
    folder = find_model(named)
    return model_fingerprint(folder, named) if folder is not None else ""


def _generate_batch(
    batch: Sequence[tuple[str, Prompt]], inputs: DistillInputs, teacher: LocalModelTeacherConfig
) -> list[LedgerEntry]:
    assert inputs.generate is not None, "a local_model teacher needs its loaded model's generate"
    written = inputs.generate([prompt for _, prompt in batch])
    return [
        LedgerEntry(
            reply=TeacherReply(
                key=key,
                text=reply.text,
                finish_reason=_local_finish(reply, teacher.max_tokens),
                completion_tokens=reply.tokens,
            ),
            attempt=0,
            request=json.dumps(prompt.turns),
            endpoint="in process",
            usage_estimated=True,
        )
        for (key, prompt), reply in zip(batch, written, strict=True)
    ]


def _local_finish(reply: Written, max_tokens: int) -> str:
    # A reply of full length that closes its marker with the very last token is complete.
    ended = reply.tokens < max_tokens or reply.text.rstrip().endswith("]]")
    return "stop" if ended else "length"


def _local_name(teacher: LocalModelTeacherConfig) -> str:
    return f"local:{teacher.path or f'{teacher.id}@{teacher.revision}'}"


def _local_key(
    prompt: Prompt,
    teacher: LocalModelTeacherConfig,
    weights: str,
    engine: Mapping[str, object],
) -> str:
    # Replies of old ledgers, whose keys did not depend on the weights, are written again: they may
    # be of another model, and a local model costs nothing but time.
    known: dict[str, object] = {"weights": weights} if weights else {}
    # Another engine rounds otherwise.
    known |= {"engine": dict(engine)} if engine else {}
    body = known | {
        "model": _local_name(teacher),
        "messages": prompt.turns,
        "max_tokens": teacher.max_tokens,
    }
    return digest([body, 0])
