"""Asking the teacher: the only file of this room that touches disk and network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from caft.distill.accept import Rules, judge_reply
from caft.distill.estimate import Estimate, Tariff, estimate_cost, estimate_nothing
from caft.errors import UserError
from caft.records import Question, Rationale
from caft.teachers.api_key import check_endpoint
from caft.teachers.ask import ask_all, prepare
from caft.teachers.config import (
    FileTeacherConfig,
    LocalModelTeacherConfig,
    OpenAITeacherConfig,
    TeacherConfig,
    WorkedTeacherConfig,
)
from caft.teachers.ledger import Arrival, Caps, Ledger
from caft.teachers.prices import find_price
from caft.teachers.progress import AskProgress, Watcher
from caft.teachers.replies import Reply, Request, reply_key
from caft.text.answers import gold_label
from caft.text.config import PromptConfig
from caft.text.prompts import Prompt, Wanted, close_with_answer, write_prompt


class WrittenReply(Protocol):
    """What a local model wrote: text without special tokens, and the tokens it took."""

    @property
    def text(self) -> str: ...  # noqa: D102

    @property
    def tokens(self) -> int: ...  # noqa: D102


Generate = Callable[[Sequence[Prompt]], Sequence[WrittenReply]]
"""A local model's greedy replies to chat prompts, at most `max_tokens` tokens each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every kind of teacher is handed."""

    questions: Sequence[Question]
    prompt: PromptConfig
    rules: Rules
    ledger_path: Path
    shots: Sequence[Question] = ()
    progress: Watcher | None = None
    generate: Generate | None = None


def write_rationales(
    questions: Sequence[Question],
    *,
    prompt: PromptConfig,
    teacher: TeacherConfig,
    ledger_path: Path,
    forbidden: Sequence[str] = (),
    shots: Sequence[Question] = (),
    progress: Watcher | None = None,
    generate: Generate | None = None,
) -> list[Rationale]:
    """One Rationale a question and attempt, in order, refused ones with their reason.

    `forbidden` are the student's special tokens: no accepted text holds one. `generate` is the
    loaded model of a local_model teacher. `shots` are questions with worked solutions that the
    teacher is shown before each question; weak teachers do not end in [[...]] without. Raises
    UserError where the user must act.
    """
    rules = Rules(keep=teacher.keep, option_ids=prompt.option_ids, forbidden=tuple(forbidden))
    job = Job(
        questions=questions,
        prompt=prompt,
        rules=rules,
        ledger_path=ledger_path,
        shots=shots,
        progress=progress,
        generate=generate,
    )
    return _KINDS[teacher.kind].write(job, teacher)


def check_teacher(questions_have_rationales: bool, teacher: TeacherConfig) -> None:
    """Refuse a teacher that cannot do its work, before any model loads: UserError."""
    _KINDS[teacher.kind].check(questions_have_rationales, teacher)


def estimate_rationales(
    questions: Sequence[Question],
    *,
    prompt: PromptConfig,
    teacher: TeacherConfig,
    ledger_path: Path,
    shots: Sequence[Question] = (),
) -> Estimate:
    """What `write_rationales` would cost now; nothing is sent and nothing is written."""
    asked = [
        write_prompt(question, prompt, Wanted.rationale, chat=True, shots=shots)
        for question in questions
    ]
    return _KINDS[teacher.kind].estimate(asked, teacher, ledger_path)


# Worked solutions


def _check_worked(questions_have_rationales: bool, _teacher: TeacherConfig) -> None:
    if not questions_have_rationales:
        raise UserError(
            "teacher=worked needs worked solutions and the dataset has none; name their column "
            "(dataset.columns.rationale) or take a teacher that writes them: teacher=openai, "
            "openrouter, vllm, transformers_serve, llama_cpp, local_model or file"
        )


def _write_worked(job: Job, _teacher: WorkedTeacherConfig) -> list[Rationale]:
    return [
        judge_reply(question, _take_worked(question, job), job.rules) for question in job.questions
    ]


def _take_worked(question: Question, job: Job) -> Rationale:
    solution = question.rationale
    if not solution or not solution.strip():
        return _no_reply(question, "worked", "no_reply: the dataset has no solution for it")
    text = close_with_answer(solution, gold_label(question, job.prompt.option_ids))
    return _as_written(question, text, "worked")


# A file


def _check_file(_questions_have_rationales: bool, teacher: FileTeacherConfig) -> None:
    if not teacher.path:
        raise UserError("teacher.path is not set; give a JSONL file with question_id and text")
    if not Path(teacher.path).is_file():
        raise UserError(
            f"teacher.path={teacher.path} is no file; give a JSONL file with question_id and text"
        )


def _write_file(job: Job, teacher: FileTeacherConfig) -> list[Rationale]:
    _check_file(False, teacher)
    rows = read_rationales(Path(teacher.path or ""))
    if job.questions and not any(question.id in rows for question in job.questions):
        raise UserError(
            f"{teacher.path} has rationales for {len(rows)} question ids, none of which is asked "
            f"for, such as {job.questions[0].id!r}; its question_id must be the dataset's ids"
        )
    return [
        judge_reply(question, rationale, job.rules)
        for question in job.questions
        for rationale in _take_rows(question, rows.get(question.id, ()), teacher)
    ]


def read_rationales(path: Path) -> dict[str, list[Mapping[str, Any]]]:
    """The file's rows by question id, in order. UserError names the line of a bad row."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = _read_row(line, f"{path}:{number}")
            rows.setdefault(str(row["question_id"]), []).append(row)
    return rows


def _read_row(line: str, origin: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    id_types = str | int
    if not isinstance(row, dict) or not isinstance(row.get("question_id"), id_types):
        raise UserError(f'{origin} is no row like {{"question_id": "q1", "text": "... [[B]]"}}')
    if not isinstance(row.get("text"), str):
        raise UserError(f"{origin} has no text; give the rationale as a string")
    return row


def _take_rows(
    question: Question, rows: Sequence[Mapping[str, Any]], teacher: FileTeacherConfig
) -> list[Rationale]:
    source = f"file:{teacher.path}"
    if not rows:
        return [_no_reply(question, source, "no_reply: the file has no row for it")]
    return [
        _as_written(question, row["text"], source, str(row.get("finish_reason") or "stop"), attempt)
        for attempt, row in enumerate(rows)
    ]


# An endpoint


def _check_openai(_questions_have_rationales: bool, teacher: OpenAITeacherConfig) -> None:
    check_endpoint(teacher)
    find_price(teacher)


def _write_openai(job: Job, teacher: OpenAITeacherConfig) -> list[Rationale]:
    """Attempt by attempt; only what was refused is asked again."""
    by_question: dict[int, list[Rationale]] = {}
    open_places = list(range(len(job.questions)))
    for attempt in range(teacher.attempts):
        asked = [_request(_ask_words(job.questions[place], job), attempt) for place in open_places]
        replies = ask_all(asked, teacher, job.ledger_path, job.progress) if asked else []
        for place, reply in zip(open_places, replies, strict=True):
            question = job.questions[place]
            came = _from_reply(question, reply, teacher.model or "", attempt)
            by_question.setdefault(place, []).append(judge_reply(question, came, job.rules))
        open_places = [place for place in open_places if _is_open(by_question[place][-1])]
    return [rationale for place in sorted(by_question) for rationale in by_question[place]]


def _is_open(rationale: Rationale) -> bool:
    # What the endpoint refused for good it will refuse again.
    return not rationale.accepted and not rationale.refusal.startswith("no_reply")


def _ask_words(question: Question, job: Job) -> Prompt:
    return write_prompt(question, job.prompt, Wanted.rationale, chat=True, shots=job.shots)


def _request(prompt: Prompt, attempt: int) -> Request:
    return Request(tuple((turn.role, turn.content) for turn in prompt.messages), attempt)


def _from_reply(question: Question, reply: Reply, source: str, attempt: int) -> Rationale:
    if reply.failure:
        return _no_reply(question, source, f"no_reply: {reply.failure}", attempt)
    return Rationale(
        question_id=question.id,
        text=reply.text,
        answer=None,
        agrees=False,
        source=source,
        finish_reason=reply.finish_reason,
        attempt=attempt,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        usd=reply.usd,
        seconds=reply.seconds,
    )


def _estimate_openai(
    prompts: Sequence[Prompt], teacher: OpenAITeacherConfig, ledger_path: Path
) -> Estimate:
    asks = [prepare(_request(prompt, 0), teacher) for prompt in prompts]
    paid, seen = _look_into_ledger(ledger_path, teacher.model or "", [ask.key for ask in asks])
    missing = {ask.key: len(json.dumps(ask.body)) for ask in asks if ask.key not in paid}
    price = find_price(teacher)
    tariff = Tariff(
        usd_per_million_prompt=price.prompt,
        usd_per_million_completion=price.completion,
        max_tokens=teacher.max_tokens,
        attempts=teacher.attempts,
    )
    return estimate_cost(list(missing.values()), len(paid), tariff, seen)


def _look_into_ledger(
    path: Path, model: str, keys: Sequence[str]
) -> tuple[set[str], list[tuple[int, int, int]]]:
    if not path.is_file():
        return set(), []
    with Ledger(path, model) as ledger:
        return set(ledger.replies(keys)), ledger.token_counts()


# A model in this process


def _check_local(_questions_have_rationales: bool, teacher: LocalModelTeacherConfig) -> None:
    if not teacher.id and not teacher.path:
        raise UserError(
            "teacher=local_model needs a model; give a hub id (teacher.id=) or a folder "
            "(teacher.path=)"
        )
    if teacher.path and not Path(teacher.path).is_dir():
        raise UserError(f"teacher.path={teacher.path} is no folder; give one with a HF model")


def _write_local(job: Job, teacher: LocalModelTeacherConfig) -> list[Rationale]:
    """Batch by batch into the ledger, so that an interrupted night goes on where it stopped."""
    assert job.generate is not None, "a local_model teacher needs its loaded model's generate"
    name = _local_name(teacher)
    prompts = [_ask_words(question, job) for question in job.questions]
    keys = [_local_key(prompt, teacher) for prompt in prompts]
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
        judge_reply(question, _from_reply(question, replies[key], name, 0), job.rules)
        for question, key in zip(job.questions, keys, strict=True)
    ]


def _generate_batch(
    batch: Sequence[tuple[str, Prompt]], generate: Generate, teacher: LocalModelTeacherConfig
) -> list[Arrival]:
    written = generate([prompt for _, prompt in batch])
    return [
        Arrival(
            reply=Reply(
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


def _local_finish(reply: WrittenReply, max_tokens: int) -> str:
    # A reply of full length that closes its marker with the very last token is complete.
    ended = reply.tokens < max_tokens or reply.text.rstrip().endswith("]]")
    return "stop" if ended else "length"


def _local_name(teacher: LocalModelTeacherConfig) -> str:
    return f"local:{teacher.path or f'{teacher.id}@{teacher.revision}'}"


def _local_key(prompt: Prompt, teacher: LocalModelTeacherConfig) -> str:
    body = {
        "model": _local_name(teacher),
        "messages": [[turn.role, turn.content] for turn in prompt.messages],
        "max_tokens": teacher.max_tokens,
    }
    return reply_key(body, 0)


def _report_local(job: Job, done: int, missing: int) -> None:
    if job.progress:
        total = len(job.questions)
        job.progress(AskProgress(done=done, total=total, from_ledger=total - missing))


# Shared by the kinds


def _no_reply(question: Question, source: str, refusal: str, attempt: int = 0) -> Rationale:
    return Rationale(
        question_id=question.id,
        text="",
        answer=None,
        agrees=False,
        refusal=refusal,
        source=source,
        attempt=attempt,
    )


def _as_written(
    question: Question, text: str, source: str, finish_reason: str = "stop", attempt: int = 0
) -> Rationale:
    return Rationale(
        question_id=question.id,
        text=text,
        answer=None,
        agrees=False,
        source=source,
        finish_reason=finish_reason,
        attempt=attempt,
    )


def _estimate_free(
    prompts: Sequence[Prompt], _teacher: TeacherConfig, _ledger_path: Path
) -> Estimate:
    return estimate_nothing(len(prompts))


@dataclass(frozen=True, slots=True)
class _Kind:
    check: Callable[[bool, Any], None]
    write: Callable[[Job, Any], list[Rationale]]
    estimate: Callable[[Sequence[Prompt], Any, Path], Estimate] = _estimate_free


_KINDS = {
    "worked": _Kind(_check_worked, _write_worked),
    "file": _Kind(_check_file, _write_file),
    "openai": _Kind(_check_openai, _write_openai, _estimate_openai),
    "local_model": _Kind(_check_local, _write_local),
}
