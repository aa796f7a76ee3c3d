"""The batch half of the fake server: files and batches, with faults by script and not by clock.

A batch moves on by one status whenever it is looked at. A row counts as bought when it is executed.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field

RUNNING = ("validating", "in_progress", "finalizing")
CUT = "cut"


def chat(question):
    message = {"role": "assistant", "content": f"I read {question!r} and think. [[A]]"}
    return {
        "id": "x", "object": "chat.completion", "created": 1, "model": "fake",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 10},
    }  # fmt: skip


@dataclass
class FakeBatches:
    """`faults` of a step (upload, create, look, list, content) happen first, in order: a status, or
    "cut", where the call is done and its answer lost. `statuses` are what a batch shows before it
    ends, `ends` how the batches end, one after the other, and `errors` why one failed.

    `outcome` of a question and how often it was sent: "ok", an HTTP status, "missing", "malformed",
    "twice", or "expired".
    """

    faults: dict = field(default_factory=dict)
    statuses: tuple = RUNNING
    ends: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    outcome: object = field(default=lambda question, times: "ok")
    reply: object = chat
    absent: bool = False
    files: dict = field(default_factory=dict)
    batches: dict = field(default_factory=dict)
    bought: Counter = field(default_factory=Counter)
    sent: Counter = field(default_factory=Counter)
    steps: list = field(default_factory=list)

    def answer(self, method, path, body):
        """(status, bytes), or None where the connection is cut."""
        path = path.partition("?")[0].removeprefix("/v1")
        step, work = self._route(method, path, body)
        self.steps.append(step)
        fault = next(iter(self.faults.get(step, [])), None)
        if fault is not None:
            self.faults[step].pop(0)
        if self.absent or isinstance(fault, int):
            status = 404 if self.absent else fault
            return status, json.dumps({"error": {"message": "refused", "code": None}}).encode()
        done = work()
        return None if fault == CUT else (200, done)

    def _route(self, method, path, body):
        name = path.split("/")[2] if path.count("/") > 1 else ""
        if path == "/files":
            return "upload", lambda: self._upload(body)
        if path.endswith("/content"):
            return "content", lambda: self.files[name]
        if name:
            return "look", lambda: self._look(name)
        if method == "POST":
            return "create", lambda: self._create(json.loads(body))
        return "list", self._list

    def _upload(self, body):
        content = re.search(rb"filename=.*?\r\n\r\n(.*?)\r\n--", body, re.S)[1]
        name = self._keep(content)
        file = {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "f"}
        return json.dumps(file | {"purpose": "batch", "status": "processed"}).encode()

    def _keep(self, content):
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def _create(self, given):
        number = len(self.batches)
        batch = given | {
            "id": f"batch_{number}", "object": "batch", "created_at": 2_000_000_000,
            "status": self.statuses[0] if self.statuses else "completed",
            "request_counts": {"total": 0, "completed": 0, "failed": 0}, "looks": 0,
            "end": self.ends.pop(0) if self.ends else "completed",
        }  # fmt: skip
        self.batches[batch["id"]] = batch
        return json.dumps(batch).encode()

    def _list(self):
        rows = list(reversed(self.batches.values()))
        return json.dumps({"object": "list", "data": rows, "has_more": False}).encode()

    def _look(self, name):
        batch = self.batches[name]
        if batch["looks"] < len(self.statuses):
            batch["status"] = self.statuses[batch["looks"]]
        elif batch["status"] != batch["end"]:
            self._end(batch)
        batch["looks"] += 1
        return json.dumps(batch).encode()

    def _end(self, batch):
        batch["status"] = batch["end"]
        if batch["end"] == "failed":
            batch["errors"] = {"object": "list", "data": self.errors}
            return
        good, bad = [], []
        rows = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        for row in reversed(rows):
            question = row["body"]["messages"][-1]["content"]
            self.sent[question] += 1
            self._execute(row["custom_id"], question, good, bad)
        batch["request_counts"] = {"total": len(rows), "completed": len(good), "failed": len(bad)}
        batch["output_file_id"] = self._keep(b"".join(good)) if good else None
        batch["error_file_id"] = self._keep(b"".join(bad)) if bad else None

    def _execute(self, key, question, good, bad):
        outcome = self.outcome(question, self.sent[question])
        if outcome == "expired":
            bad.append(line(key, error={"code": "batch_expired", "message": "too late"}))
        elif isinstance(outcome, int):
            error = {"error": {"message": "no such luck", "code": None}}
            bad.append(line(key, {"status_code": outcome, "body": error}))
        else:
            self.bought[question] += 1
            row = line(key, {"status_code": 200, "body": self.reply(question)})
            written = {"missing": b"", "malformed": row[: len(row) // 2] + b"\n", "twice": row * 2}
            good.append(written.get(outcome, row))


def line(key, response=None, error=None):
    row = {"id": "r", "custom_id": key, "response": response, "error": error}
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"
