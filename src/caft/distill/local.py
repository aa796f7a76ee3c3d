"""`teacher=local_model`: a causal LM in this process, whose replies the ledger keeps as well."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from caft.distill.accept import judge_reply
from caft.distill.inputs import DistillInputs, Generate, LocalReply, from_reply, rationale_prompt
from caft.errors import UserError
from caft.models.config import HubModelConfig
from caft.models.fingerprint import model_fingerprint
from caft.models.sources.folder import refuse_unloadable_folder
from caft.models.sources.locate import find_model, locate_model
from caft.records import Rationale
from caft.teachers.caps import Caps
from caft.teachers.config import LocalModelTeacherConfig
from caft.teachers.ledger import Arrival, Ledger
from caft.teachers.progress import AskProgress
from caft.teachers.replies import TeacherReply, local_reply_key
from caft.text.prompts import Prompt

_COMMIT = re.compile("[0-9a-f]{40}")


def name_model(teacher: LocalModelTeacherConfig) -> HubModelConfig:
    """The teacher as a model that can be located and loaded."""
    return HubModelConfig(
        name="teacher", id=teacher.id or "local", revision=teacher.revision, path=teacher.path
    )


def check_local(_questions_have_rationales: bool, teacher: LocalModelTeacherConfig) -> None:
    """UserError where no model is named, or the one that is here could not teach."""
    if not teacher.id and not teacher.path:
        raise UserError(
            "teacher=local_model needs a model; give a hub id (teacher.id=) or a folder "
            "(teacher.path=)"
        )
    if teacher.path:
        if not Path(teacher.path).expanduser().is_dir():
            raise UserError(f"teacher.path={teacher.path} is no folder; give one with a HF model")
        refuse_unloadable_folder(Path(teacher.path).expanduser(), f"teacher.path={teacher.path}")
    folder = find_model(name_model(teacher))
    if folder is not None:
        _refuse_without_template(folder, teacher)


def fetch_local(teacher: LocalModelTeacherConfig) -> None:
    """Download what is not here yet, and refuse it, before hours are spent on scores."""
    if not teacher.path:
        _refuse_without_template(locate_model(name_model(teacher)), teacher)


def _refuse_without_template(folder: Path, teacher: LocalModelTeacherConfig) -> None:
    from caft.models.loading import load_tokenizer

    named = f"teacher.path={teacher.path}" if teacher.path else f"teacher.id={teacher.id}"
    if not getattr(load_tokenizer(folder, name_model(teacher)), "chat_template", None):
        raise UserError(
            f"{named} has no chat template, and a teacher is asked in turns; give an "
            "instruction-tuned model, or save a chat_template.jinja in its folder"
        )


def write_locally(job: DistillInputs, teacher: LocalModelTeacherConfig) -> list[Rationale]:
    """Batch by batch into the ledger, so that an interrupted night goes on where it stopped."""
    assert job.generate is not None, "a local_model teacher needs its loaded model's generate"
    name, weights = _local_name(teacher), _weights(teacher)
    prompts = [rationale_prompt(question, job) for question in job.questions]
    keys = [_local_key(prompt, teacher, weights) for prompt in prompts]
    with Ledger(job.ledger_path, name) as ledger:
        replies = ledger.replies(keys)
        missing = [
            (k, p) for k, p in dict(zip(keys, prompts, strict=True)).items() if k not in replies
        ]
        for start in range(0, len(missing), teacher.batch_size):
            batch = missing[start : start + teacher.batch_size]
            ledger.claim([(key, 0.0) for key, _ in batch], Caps())
            arrivals = _generate_batch(batch, job.generate, teacher)
            ledger.commit(arrivals)
            replies |= {arrival.reply.key: arrival.reply for arrival in arrivals}
            _report_local(job, len(replies), len(missing))
    return [
        judge_reply(question, from_reply(question, replies[key], name, 0), job.rules)
        for question, key in zip(job.questions, keys, strict=True)
    ]


def _weights(teacher: LocalModelTeacherConfig) -> str:
    """What the model is: its files, or its commit. Empty for a commit that is named already."""
    if not teacher.path and _COMMIT.fullmatch(teacher.revision):
        return ""
    named = name_model(teacher)
    folder = find_model(named)
    return model_fingerprint(folder, named) if folder is not None else ""


def _generate_batch(
    batch: Sequence[tuple[str, Prompt]], generate: Generate, teacher: LocalModelTeacherConfig
) -> list[Arrival]:
    written = generate([prompt for _, prompt in batch])
    return [
        Arrival(
            reply=TeacherReply(
                key=key,
                text=reply.text,
                finish_reason=_local_finish(reply, teacher.max_tokens),
                completion_tokens=reply.tokens,
            ),
            attempt=0,
            request=json.dumps([[turn.role, turn.content] for turn in prompt.messages]),
            endpoint="in process",
            usage_estimated=True,
        )
        for (key, prompt), reply in zip(batch, written, strict=True)
    ]


def _local_finish(reply: LocalReply, max_tokens: int) -> str:
    # A reply of full length that closes its marker with the very last token is complete.
    ended = reply.tokens < max_tokens or reply.text.rstrip().endswith("]]")
    return "stop" if ended else "length"


def _local_name(teacher: LocalModelTeacherConfig) -> str:
    return f"local:{teacher.path or f'{teacher.id}@{teacher.revision}'}"


def _local_key(prompt: Prompt, teacher: LocalModelTeacherConfig, weights: str) -> str:
    # Replies of ledgers that did not look at the weights are written anew: nothing says that they
    # are of the model that is there now, and a local model costs nothing but time.
    known = {"weights": weights} if weights else {}
    body = known | {
        "model": _local_name(teacher),
        "messages": [[turn.role, turn.content] for turn in prompt.messages],
        "max_tokens": teacher.max_tokens,
    }
    return local_reply_key(body)


def _report_local(job: DistillInputs, done: int, missing: int) -> None:
    if job.progress:
        total = len(job.questions)
        job.progress(AskProgress(done=done, total=total, from_ledger=total - missing))
