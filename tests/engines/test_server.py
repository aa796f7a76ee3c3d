"""A server writes what we write, whatever form of prompts it takes, or is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from caft.engines.config import ServerEngineConfig
from caft.engines.open import check_engine, open_engine
from caft.engines.server import ServerEngine
from caft.errors import UserError
from caft.models.config import Architecture
from caft.models.reply_rules import ReplyRules
from caft.models.student import Student
from caft.teachers import served
from engines.fake_completions import FakeModelServer

Prompts = dict[str, tuple[int, ...]]


def connect(server: FakeModelServer, student: Student, **settings: Any) -> ServerEngine:
    config = ServerEngineConfig(base_url=server.base_url, **{"model": "base", **settings})
    engine = open_engine(config, student)
    assert isinstance(engine, ServerEngine)
    return engine


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ({"tells_ids": True, "tokenizes": True, "version": "0.33.0"}, list),
        ({"takes_extensions": False}, list),
        ({"takes_ids": False, "adds_bos": True}, str),
        ({"takes_ids": False, "takes_extensions": False}, str),
        ({"takes_ids": False, "takes_extensions": False, "adds_bos": True}, str),
        ({"counts_usage": False}, list),
    ],
    ids=["vllm", "plain ids", "text", "plain text", "its own bos", "no usage"],
)
def test_every_kind_of_server_writes_our_replies(  # noqa: PLR0917
    student: Student,
    rules: ReplyRules,
    prompts: Prompts,
    own_replies: dict[str, tuple[str, int]],
    kind: dict[str, Any],
    form: type,
) -> None:
    with FakeModelServer({"base": student}, **kind) as server:
        engine = connect(server, student)
        written = {name: (text, tokens) for name, text, tokens, *_ in engine.write(prompts, rules)}
        assert engine.version == kind.get("version")
        engine.close()
    assert isinstance(server.bodies[-1]["prompt"], form)
    assert {name: text for name, (text, _) in written.items()} == {
        name: text for name, (text, _) in own_replies.items()
    }
    if kind.get("counts_usage", True):
        assert written == own_replies


def test_a_model_that_is_not_there_is_named_with_those_that_are(
    student: Student, prompts: Prompts
) -> None:
    with FakeModelServer({"other": student}) as server:
        with pytest.raises(UserError, match=r"has no 'base' \(it has: other\).*engine\.model"):
            connect(server, student).check(prompts["q0"])
        tuned = student.after_tuning(student.folder, "0123456789abcdef")
        with pytest.raises(UserError, match=r"caft-0123456789ab.*until=tune.*--lora-modules"):
            connect(server, tuned).check(prompts["q0"])
        with pytest.raises(UserError, match="has no 'mine'"):
            connect(server, tuned, tuned_model="mine").check(prompts["q0"])
    assert server.bodies == []


@pytest.mark.parametrize("kind", [{"tokenizes": True}, {}, {"takes_ids": False}])
def test_another_tokenizer_is_refused(
    student: Student,
    make_student: Callable[..., Student],
    prompts: Prompts,
    kind: dict[str, Any],
) -> None:
    with (
        FakeModelServer({"base": make_student(Architecture.qwen2)}, **kind) as server,
        pytest.raises(UserError, match="another tokenizer for base than tiny"),
    ):
        connect(server, student).check(prompts["q3"])


@pytest.mark.parametrize("kind", [{"tells_ids": True}, {}])
def test_a_reply_that_the_server_cut_is_one_line(
    student: Student, prompts: Prompts, kind: dict[str, Any]
) -> None:
    rules = ReplyRules(max_new_tokens=6, end_ids=student.end_ids(chat=True))
    with FakeModelServer({"base": student}, most_written=3, **kind) as server:
        engine = connect(server, student)
        with pytest.raises(UserError, match=r"question q\d: the server .* after 3 of the 6 tokens"):
            list(engine.write(prompts, rules))
        # A cap of ours is none of its limits.
        server.most_written = 6
        assert len(list(engine.write(prompts, rules))) == len(prompts)


def test_a_breakdown_is_waited_for_and_a_long_one_ends_the_run(
    student: Student, rules: ReplyRules, prompts: Prompts, own_replies: dict[str, tuple[str, int]]
) -> None:
    with FakeModelServer({"base": student}, takes_extensions=False) as server:
        engine = connect(server, student)
        engine.check(prompts["q0"])
        server.fails = 3
        written = {name: (text, tokens) for name, text, tokens, *_ in engine.write(prompts, rules)}
        assert written == own_replies
        server.fails = 1000
        with pytest.raises(UserError, match=r"answers HTTP 500: out of order; check"):
            list(engine.write(prompts, rules))


@pytest.mark.parametrize("body", [b'{"data": [oops', b"\xff{}"])
def test_a_body_that_is_no_json_is_one_line(student: Student, body: bytes) -> None:
    class Garbled(FakeModelServer):
        def get(self, path: str) -> tuple[int, object]:
            return 200, body

        def post(self, path: str, body: dict[str, Any]) -> tuple[int, object]:
            return self.get(path)

    with Garbled({"base": student}) as server:
        engine = connect(server, student)
        assert engine.version is None
        with pytest.raises(UserError, match=r"does not list its models \(its reply is not JSON\)"):
            engine.check([1, 2])
        asked = served.ModelServer(engine.config)
        assert asked.tokenize("base", "text") is None
        with pytest.raises(served.RefusedError, match="its reply is not JSON"):
            asked.complete("base", "text", 1)
        asked.close()
        engine.close()


def test_a_server_that_hangs_is_told_from_a_dead_one(
    student: Student, rules: ReplyRules, prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "RETRIES", 0)
    with FakeModelServer({"base": student}) as server:
        patient, hasty = connect(server, student), connect(server, student, timeout_seconds=0.2)
        patient.check(prompts["q0"])
        hasty._form = patient._form
        server.hangs = True
        with pytest.raises(UserError, match=r"no reply in 0.2 s; raise engine.timeout_seconds"):
            list(hasty.write({"q0": prompts["q0"]}, rules))
        address = server.base_url
    config = ServerEngineConfig(base_url=address, model="base")
    with pytest.raises(UserError, match=r"cannot be reached; check engine.base_url"):
        ServerEngine(config, student).check(prompts["q0"])


def test_the_key_has_the_address_and_the_name_and_nothing_that_changes_no_reply(
    student: Student,
) -> None:
    config = ServerEngineConfig(base_url="http://HOST:1/v1/", model="m", concurrency=3)
    assert ServerEngine(config, student).key == {
        "engine": "server", "base_url": "http://host:1/v1", "model": "m"
    }  # fmt: skip
    tuned = student.after_tuning(student.folder, "fedcba9876543210ffff")
    assert ServerEngine(config, tuned).key["model"] == "caft-fedcba987654"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "engine.base_url is not set"),
        ({"base_url": "http://127.0.0.1:1/v1"}, "engine.model is not set"),
        ({"base_url": "http://far.example/v1", "model": "m"}, "CAFT_LOCAL_KEY is empty"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_sent(
    settings: dict[str, str], message: str
) -> None:
    config = ServerEngineConfig(**settings)
    with pytest.raises(UserError, match=message):
        check_engine(config)
    if "KEY" in message:
        check_engine(config, starts=False)
    else:  # a dry run says it, too
        with pytest.raises(UserError, match=message):
            check_engine(config, starts=False)


def test_a_secret_in_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFT_LOCAL_KEY", "sk-abcdefgh12345678")
    for name in ("model", "tuned_model"):
        with pytest.raises(UserError, match="CAFT_LOCAL_KEY holds"):
            ServerEngineConfig(**{name: "sk-abcdefgh12345678"})
