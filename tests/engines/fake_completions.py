"""A server of completions on loopback, with a real model behind it and faults by setting.

Servers differ in what they take and tell: ids or text, a BOS of their own, `token_ids`,
`/tokenize`, a version. `fails` is how many completions get HTTP 500 first.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from caft.models.reply_rules import ReplyRules
from caft.models.student import Student
from replies import generate_replies

PLAIN = {"model", "prompt", "max_tokens", "temperature"}


@dataclass
class FakeModelServer:
    """`students` by the names that they are served under."""

    students: dict[str, Student]
    takes_ids: bool = True
    takes_extensions: bool = True
    adds_bos: bool = False
    tells_ids: bool = False
    tokenizes: bool = False
    version: str | None = None
    fails: int = 0
    hangs: bool = False
    counts_usage: bool = True
    most_written: int = 10**9
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> FakeModelServer:
        served, self._lock, self._models = self, threading.Lock(), {}
        self._ended = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(*served.get(self.path))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._send(*served.post(self.path, body))

            def _send(self, status: int, value: object) -> None:
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Retry-After-Ms", "1")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def get(self, path: str) -> tuple[int, object]:
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": name} for name in self.students]}
        if path == "/version" and self.version:
            return 200, {"version": self.version}
        return 404, {"detail": "Not Found"}

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, object]:
        student = self.students.get(body.get("model", ""))
        if student is None:
            return 404, {"error": {"message": "no such model"}}
        if path == "/tokenize" and self.tokenizes:
            return 200, {"tokens": student.tokenizer(body["prompt"], add_special_tokens=False)
                         .input_ids}  # fmt: skip
        if path != "/v1/completions":
            return 404, {"detail": "Not Found"}
        with self._lock:
            self.bodies.append(body)
            if self.fails:
                self.fails -= 1
                return 500, {"error": {"message": "out of order"}}
            if self.hangs:
                self._ended.wait(60)
            return self._complete(student, body)

    def _complete(self, student: Student, body: dict[str, Any]) -> tuple[int, object]:
        prompt, extensions = body["prompt"], set(body) - PLAIN
        if extensions and not self.takes_extensions:
            return 422, {"detail": f"Unexpected fields in the request: {sorted(extensions)}"}
        if isinstance(prompt, list) and not self.takes_ids:
            return 400, {"detail": "prompt must be a string."}
        ids = prompt if isinstance(prompt, list) else self._encode(student, prompt, body)
        if max(ids) >= len(student.tokenizer):
            return 400, {"detail": "token out of vocabulary"}
        rules = ReplyRules(
            max_new_tokens=min(body["max_tokens"], self.most_written),
            end_ids=tuple(body.get("stop_token_ids") or student.end_ids(chat=True)),
            stop_after_marker=False,
        )
        if body["model"] not in self._models:
            self._models[body["model"]] = student.load()
        reply = generate_replies(self._models[body["model"]], student.tokenizer, [ids], rules)[0]
        is_cut = reply.ids[-1] not in rules.end_ids
        reason = "length" if is_cut else "stop"
        choice: dict[str, Any] = {"text": reply.text, "finish_reason": reason}
        if self.tells_ids and body.get("return_token_ids"):
            choice["token_ids"] = list(reply.ids)
        usage = {"prompt_tokens": len(ids), "completion_tokens": reply.tokens}
        return 200, {"choices": [choice], **({"usage": usage} if self.counts_usage else {})}

    def _encode(self, student: Student, text: str, body: dict[str, Any]) -> list[int]:
        ids = student.tokenizer(text, add_special_tokens=False).input_ids
        bos = student.tokenizer.bos_token_id
        adds = self.adds_bos and body.get("add_special_tokens", True) and bos is not None
        return [bos, *ids] if adds else ids
