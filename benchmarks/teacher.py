"""How close the teacher client comes to the ideal rate of a server that takes 200 ms a reply.

    python benchmarks/teacher.py [--seconds 15] [--concurrency 32] [--latency 0.2]

The server is a process of its own on loopback that answers every call after exactly `latency`;
the ideal is concurrency / latency (160 replies a second by default). Every reply is committed to
a ledger on disk, as in a real run. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import multiprocessing.connection
import tempfile
import time
from pathlib import Path

from caft.teachers.ask import ask_all
from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.replies import Request
from processor import describe_processor

REPLY = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "7 + 2 = 9, and 9 - 4 = 5. [[5]]"},
            }
        ],
        "usage": {"prompt_tokens": 60, "completion_tokens": 20},
    }
).encode()


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.2)
    told = parser.parse_args()
    processor = describe_processor()
    ideal = told.concurrency / told.latency
    count = round(told.seconds * ideal)
    port, process = start_server(told.latency)
    try:
        seconds = measure(port, count, told.concurrency)
    finally:
        process.terminate()
        process.join()
    rate = count / seconds
    print(f"{count} replies in {seconds:.2f} s: {rate:.1f}/s of an ideal {ideal:.1f}/s")
    figures = {"replies": count, "seconds": round(seconds, 3), "replies_per_second": round(rate, 2)}
    figures |= {"ideal": ideal, "share_of_ideal": round(rate / ideal, 4)}
    print(json.dumps(figures | {"processor": processor}))


def measure(port: int, count: int, concurrency: int) -> float:
    """Seconds from the first call to the last committed reply, a short warm-up not counted."""
    config = OpenAITeacherConfig(
        name="benchmark",
        base_url=f"http://127.0.0.1:{port}/v1",
        model="benchmark",
        api_key_env="CAFT_BENCHMARK_KEY",
        concurrency=concurrency,
    )
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.sqlite"
        ask_all(write_requests("warm up", concurrency), config, ledger)
        requests = write_requests("question", count)
        started = time.perf_counter()
        replies = ask_all(requests, config, ledger)
        seconds = time.perf_counter() - started
    assert len(replies) == count
    return seconds


def write_requests(word: str, count: int) -> list[Request]:
    """Different small prompts."""
    system = ("system", "Think step by step, then end with the digit in double square brackets.")
    return [
        Request((system, ("user", f"{word} {number}: 7 + 2 - 4 = "))) for number in range(count)
    ]


def start_server(latency: float) -> tuple[int, multiprocessing.Process]:
    """A server process and the port it listens at."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(latency, theirs), daemon=True)
    process.start()
    return int(ours.recv()), process


def serve(latency: float, pipe: multiprocessing.connection.Connection) -> None:
    """Answer every POST after `latency` seconds, for ever."""
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(REPLY)}\r\n\r\n"
    )
    answer = head.encode() + REPLY

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                length = next(line for line in lines if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                await asyncio.sleep(latency)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def listen() -> None:
        listening = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=1024)
        pipe.send(listening.sockets[0].getsockname()[1])
        await listening.serve_forever()

    asyncio.run(listen())


if __name__ == "__main__":
    main()
