"""A provider's batch and its files: a request a line, and a result a line."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caft.teachers.replies import PreparedRequest
from caft.teachers.words import find_words

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_DAY = 86_400.0
_MOST_ERRORS = 3


def take_piece(
    requests: Sequence[PreparedRequest], most_rows: int, most_bytes: int
) -> list[tuple[PreparedRequest, bytes]]:
    """The first requests, as lines of a file, that one batch may have."""
    piece: list[tuple[PreparedRequest, bytes]] = []
    size = 0
    for request in requests[:most_rows]:
        line = _write_line(request)
        size += len(line)
        if piece and size > most_bytes:
            break
        piece.append((request, line))
    return piece


def _write_line(request: PreparedRequest) -> bytes:
    row = {
        "custom_id": request.key,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": request.body,
    }
    return json.dumps(row).encode() + b"\n"


async def upload(client: AsyncOpenAI, name: str, content: bytes) -> str:
    """The provider's name of the file. AttributeError where a server sends something else."""
    return read_name((await client.files.create(file=(name, content), purpose="batch")).id)


def read_name(name: object) -> str:
    """What a provider calls a file or a batch; AttributeError if that is no name."""
    if not isinstance(name, str) or not re.fullmatch(r"[!-~]{1,500}", name):
        raise AttributeError("it has no id")
    return name


async def create(client: AsyncOpenAI, file: str, name: str) -> str:
    """What the provider calls the batch that it creates from its `file`, with our `name` for it."""
    created = await client.batches.create(
        input_file_id=file,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"caft": name},
        extra_headers={"Idempotency-Key": name},
    )
    return read_name(created.id)


async def find(client: AsyncOpenAI, file: str, name: str, age: float) -> str:
    """What the provider calls the batch of that file or name, sent `age` seconds ago, or "".

    AttributeError where a server sends something else.
    """
    page = await client.batches.list(limit=100)  # newest first
    len(page.data)  # of what is no list nothing must be concluded
    async for batch in page:
        if batch.created_at < time.time() - age - _DAY:
            break
        if (batch.metadata or {}).get("caft") == name or batch.input_file_id == file:
            return read_name(batch.id)
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """A batch as it is at the provider: `done` and `failed` count requests, `files` hold results.

    `why` are the provider's words where it refused the whole batch. A count or a time that it
    does not tell is 0.
    """

    status: str
    done: int = 0
    failed: int = 0
    ended: float = 0.0
    has_output: bool = False
    files: tuple[str, ...] = ()
    why: str = ""

    def may_be_unwritten(self, seconds: float) -> bool:
        """Whether it ended less than `seconds` ago with replies, of which it names no file yet."""
        return bool(self.done) and not self.has_output and time.time() - self.ended < seconds


async def retrieve(client: AsyncOpenAI, batch: str) -> BatchState:
    """A batch as it is now. AttributeError where a server sends something else."""
    found = await client.batches.retrieve(batch)
    if not isinstance(found.status, str):
        raise AttributeError("it has no status")
    # The client checks no field.
    told = found.to_dict(warnings=False)
    counts = told.get("request_counts")
    counts = counts if isinstance(counts, Mapping) else {}
    times = (told.get(name) for name in ("completed_at", "expired_at", "cancelled_at"))
    output, errors = told.get("output_file_id"), told.get("error_file_id")
    return BatchState(
        status=found.status,
        done=int(_number(counts.get("completed"))),
        failed=int(_number(counts.get("failed"))),
        ended=next(filter(None, map(_number, times)), 0.0),
        has_output=bool(output),
        files=tuple(read_name(file) for file in (output, errors) if file),
        why=_explain(told.get("errors")),
    )


_MOST = 1e15  # above any count, and any time in milliseconds


def _number(value: object) -> float:
    """A number that may be a count or a time, else 0."""
    return float(value) if isinstance(value, int | float) and 0 <= value < _MOST else 0.0


def _explain(errors: object) -> str:
    """The code and the words of the first errors, in whatever form they are."""
    rows = errors.get("data", errors) if isinstance(errors, Mapping) else errors
    some = rows[:_MOST_ERRORS] if isinstance(rows, list) else [rows]
    codes = (each.get("code") if isinstance(each, Mapping) else None for each in some)
    both = zip(codes, map(find_words, some), strict=True)
    return "; ".join(filter(None, (": ".join(str(w) for w in pair if w) for pair in both)))


async def read_lines(client: AsyncOpenAI, file: str) -> AsyncGenerator[list[bytes]]:
    """The lines of a file at the provider, some at a time as they arrive."""
    rest = b""
    async with client.files.with_streaming_response.content(file) as response:
        # Not by lines of text: a reply may hold U+2028, at which those would end.
        async for piece in response.iter_bytes():
            *lines, rest = (rest + piece).split(b"\n")
            yield lines
    yield [rest]
