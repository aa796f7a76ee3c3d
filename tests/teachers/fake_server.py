"""An OpenAI-protocol server on loopback that misbehaves by seed and keeps its own log.

A reply counts as bought when it was written in full and valid. Faults are drawn by (seed, what
is asked, how often it was asked before), so that they do not depend on the order of arrival.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fake_batches import FakeBatches

FAULTS = ("429", "500", "503", "hang", "drop", "half", "malformed")


@dataclass
class Call:
    question: str
    body: dict
    headers: dict
    target: str = ""
    fault: str = ""
    bought: bool = False
    at: float = field(default_factory=time.monotonic)


def solve(call: Call) -> str:
    return f"I read {call.question!r} and think. [[A]]"


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@dataclass
class FakeServer:
    """`write` makes a reply's text; `status` forces an HTTP status; `raw` forces a whole body.

    `think` makes more fields of the message, as servers of reasoning models send them; `top` the
    first token's likeliest ones, with their probabilities, where log-probabilities are asked for.

    Until `together` calls are there it answers none. After `limit` replies it takes calls and
    answers none, until `limit` is None again.
    """

    seed: int = 0
    fault_rate: float = 0.0
    slow_rate: float = 0.0
    latency: float = 0.0
    retry_after: str | None = "0.01"
    faults: tuple[str, ...] = FAULTS
    usage: dict | None = field(
        default_factory=lambda: {"prompt_tokens": 20, "completion_tokens": 10}
    )
    finish_reason: str | None = "stop"
    write: Callable[[Call], str] = solve
    think: Callable[[Call], dict] = field(default=lambda call: {})
    top: Callable[[Call], dict[str, float]] = field(default=lambda call: {})
    status: int | None = None
    message: str = "refused"
    refusal: bytes | None = None
    raw: bytes | None = None
    together: int = 0
    limit: int | None = None
    log: list[Call] = field(default_factory=list)
    most_at_once: int = 0
    batches: FakeBatches = field(default_factory=FakeBatches)

    def __enter__(self):
        self._loop = asyncio.new_event_loop()
        self._times: Counter[str] = Counter()
        self.under_way = 0
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        started.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def bought(self) -> Counter[str]:
        return Counter(call.question for call in list(self.log) if call.bought)

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        listening = self._loop.run_until_complete(
            asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=512)
        )
        self.port = listening.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        listening.close()
        self._loop.close()

    async def _talk(self, reader, writer) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader, writer) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        method, target, _ = head.split(" ", 2)
        if "/files" in target or "/batches" in target:
            return await self._answer(self.batches.answer(method, target, raw), writer)
        body = json.loads(raw)
        call = Call(body["messages"][-1]["content"], body, headers, head.split(" ", 2)[1])
        call.fault = self._draw(call.question)
        self.log.append(call)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await asyncio.sleep(self.latency)
            while self._holds_back() and not reader.at_eof():
                await asyncio.sleep(0.01)
            if reader.at_eof():  # who asked is gone
                return False
            return await self._reply(call, writer)
        finally:
            self.under_way -= 1

    async def _answer(self, answer, writer) -> bool:
        if answer is None:
            return False
        status, data = answer
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n"
        await self._send(f"{head}Content-Type: application/json\r\n\r\n".encode() + data, writer)
        return True

    def _holds_back(self) -> bool:
        full = self.limit is not None and self.bought().total() >= self.limit
        return full or len(self.log) < self.together

    def _draw(self, question: str) -> str:
        self._times[question] += 1
        dice = random.Random(f"{self.seed}/{question}/{self._times[question]}")
        if dice.random() < self.fault_rate:
            return dice.choice(self.faults)
        return "slow" if dice.random() < self.slow_rate else ""

    async def _reply(self, call: Call, writer) -> bool:
        if self.status is not None or call.fault in {"429", "500", "503"}:
            await self._refuse(self.status or int(call.fault), writer)
            return True
        if call.fault == "hang":
            await asyncio.sleep(60)
        if call.fault in {"hang", "drop"}:
            return False
        data = self.raw if self.raw is not None else json.dumps(self._completion(call)).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n"
        head += "Content-Type: application/json\r\n\r\n"
        if call.fault == "half":
            writer.write(head.encode() + data[: len(data) // 2])
            await writer.drain()
            return False
        if call.fault == "malformed":
            data = b"{" + data[1:-1] + b"," if len(data) > 2 else b","
        call.bought = call.fault != "malformed" and self.raw is None
        await self._send(head.encode() + data, writer, slowly=call.fault == "slow")
        return True

    async def _send(self, data: bytes, writer, *, slowly: bool = False) -> None:
        step = max(1, len(data) // 8) if slowly else len(data)
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            await writer.drain()
            if slowly:
                await asyncio.sleep(0.01)

    async def _refuse(self, status: int, writer) -> None:
        data = json.dumps({"error": {"message": self.message, "code": None}}).encode()
        data = data if self.refusal is None else self.refusal
        wait = f"Retry-After: {self.retry_after}\r\n" if self.retry_after else ""
        head = f"HTTP/1.1 {status} No\r\n{wait}Content-Length: {len(data)}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + data)
        await writer.drain()

    def _completion(self, call: Call) -> dict:
        message = {"role": "assistant", "content": self.write(call), **self.think(call)}
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        if call.body.get("logprobs") and (top := self.top(call)):
            listed = [{"token": token, "logprob": math.log(p)} for token, p in top.items()]
            content = [{**listed[0], "top_logprobs": listed[: call.body["top_logprobs"]]}]
            choice["logprobs"] = {"content": content}
        return {"id": "x", "object": "chat.completion", "created": 1, "model": "fake",
                "choices": [choice], "usage": self.usage}  # fmt: skip
