"""A request's body and keys, a reply's row, and what is said of missing ones; without a server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from caft.errors import UserError
from caft.score.config import JudgeConfig
from caft.teachers import ask as ask_module
from caft.teachers.ask import _refuse_batched, _refuse_missing, as_live, ask_all, find_replies
from caft.teachers.config import EndpointConfig, MaxTokensField, OpenAITeacherConfig, PriceConfig
from caft.teachers.ledger import BatchLedger, Ledger
from caft.teachers.outcome import Answered, Failed, Usage
from caft.teachers.prices import Caps, Spending, worst_usd
from caft.teachers.progress import AskProgress
from caft.teachers.rate_limit import Throttle
from caft.teachers.replies import (
    LedgerEntry,
    PreparedRequest,
    Request,
    TeacherReply,
    asks_alternatives,
    for_alternatives,
    make_entry,
    prepare,
    token_limits,
    unsure_usd,
)

FAR = "https://Far.example/v1/"
PRICE = PriceConfig(prompt=1e6, completion=1e6)
"""A dollar a token."""


def endpoint(**dials: Any) -> OpenAITeacherConfig:
    given = {"name": "t", "base_url": FAR, "model": "m", "prices": {"m": PRICE}} | dials
    return OpenAITeacherConfig(**given)


def ask(text: str = "hi", attempt: int = 0) -> Request:
    return Request((("system", "be"), ("user", text)), attempt)


def test_a_requests_body_and_its_two_keys_by_hand() -> None:
    turns = [{"role": "system", "content": "be"}, {"role": "user", "content": "h\ufffdi"}]
    body = {
        "model": "m", "messages": turns, "max_tokens": 100, "temperature": 0.75, "top_p": 0.9,
        "seed": 9, "n2": [1],
    }  # fmt: skip
    config = endpoint(
        max_tokens=100, temperature=0.25, reask_temperature=0.75, top_p=0.9, seed=7,
        extra={"n2": [1]},
    )  # fmt: skip
    found = prepare(ask("h\ud800i", attempt=2), config)

    def key(value: object) -> str:
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

    assert found == PreparedRequest(
        key=key(["https://far.example/v1", body, 2]), old_key=key([body, 2]), attempt=2, body=body,
        worst_usd=worst_usd(PRICE, turns, 100) + len('{"n2": [1]}'),
    )  # fmt: skip
    # What every ledger has been bought under: this never changes.
    assert prepare(ask(), endpoint()).key[:16] == "4f36dab95a4ec5aa"
    nowhere = prepare(ask(), endpoint(base_url=None, prices={}))
    assert nowhere.worst_usd == 0.0
    assert nowhere.key == key(["", nowhere.body, 0])


@pytest.mark.parametrize(
    ("config", "attempt", "temperature"),
    [
        (endpoint(temperature=0.25), 0, 0.25),
        (endpoint(temperature=0.25), 1, 0.7),
        (endpoint(temperature=None), 1, None),
        (JudgeConfig(base_url=FAR, model="m", temperature=0.25), 1, 0.25),
    ],
)
def test_the_temperature_of_an_attempt(
    config: EndpointConfig, attempt: int, temperature: float | None
) -> None:
    assert prepare(ask(attempt=attempt), config).body.get("temperature") == temperature


@pytest.mark.parametrize(
    ("extra", "limits"),
    [
        ({}, [100]), ({"max_tokens": 7}, [7]), ({"max_completion_tokens": 700}, [100, 700]),
        ({"max_tokens": 700, "max_completion_tokens": 7}, [700, 7]),
    ],
)  # fmt: skip
def test_the_longest_reply_that_a_body_allows_is_what_may_have_to_be_paid(
    extra: dict[str, Any], limits: list[int]
) -> None:
    config = endpoint(max_tokens=100, extra=extra)
    assert token_limits(config) == limits
    request = prepare(ask(), config)
    turns: Any = request.body["messages"]
    assert request.worst_usd == worst_usd(PRICE, turns, max(limits), extra)
    unread = replace(ANSWER, finish_reason="too_large", completion_tokens=None)
    assert make_entry(request, unread, config, PRICE).reply.completion_tokens == max(limits)
    longer = endpoint(max_tokens=100, max_tokens_field=MaxTokensField.max_completion_tokens)
    assert token_limits(longer) == [100]


def test_what_a_server_may_add_to_the_prompt_is_counted() -> None:
    extra = {"response_format": {"type": "json_schema", "json_schema": {"name": "\u00e9" * 400}}}
    size = len(json.dumps(extra, ensure_ascii=False).encode())
    plain, formed = prepare(ask(), endpoint()), prepare(ask(), endpoint(extra=extra))
    assert formed.worst_usd == plain.worst_usd + size
    uncounted = replace(ANSWER, prompt_tokens=None)
    entry = make_entry(formed, uncounted, endpoint(extra=extra), PRICE)
    turns = len(json.dumps(plain.body["messages"]))
    assert entry.reply.prompt_tokens == (turns + len(json.dumps(extra))) // 4


def test_first_tokens_are_asked_for_with_nothing_that_changes_them() -> None:
    given = {"temperature": 0.5, "top_p": 0.5, "max_tokens": 9, "max_completion_tokens": 9, "x": 1}
    config = endpoint(temperature=0.5, top_p=0.5, seed=3, attempts=4, extra=given)
    asked = for_alternatives(config)
    assert asked == replace(
        config, max_tokens=1, temperature=1.0, top_p=None, seed=None, attempts=1,
        extra={"x": 1, "logprobs": True, "top_logprobs": 20},
    )  # fmt: skip
    assert asks_alternatives(asked)
    assert asks_alternatives(for_alternatives(JudgeConfig(base_url=FAR, model="m")))
    assert not asks_alternatives(config)
    assert not asks_alternatives(replace(asked, max_tokens=2))
    assert not asks_alternatives(replace(asked, extra={"top_logprobs": 5}))


ANSWER = Answered(
    text="So. [[A]]", finish_reason="stop", prompt_tokens=5, completion_tokens=7, seconds=0.5
)


def test_a_reply_that_the_server_counted_is_kept_as_it_is() -> None:
    config, request = endpoint(), prepare(ask("é", attempt=1), endpoint())
    assert make_entry(request, ANSWER, config, PRICE) == LedgerEntry(
        reply=TeacherReply(
            key=request.key, text="So. [[A]]", finish_reason="stop", prompt_tokens=5,
            completion_tokens=7, usd=12.0, seconds=0.5,
        ),
        attempt=1, request=json.dumps(request.body, ensure_ascii=False), endpoint=FAR,
        usage_estimated=False,
    )  # fmt: skip
    nowhere = make_entry(request, ANSWER, endpoint(base_url=None), PRICE)
    assert nowhere.endpoint == ""


def test_the_length_of_a_text_is_in_bytes_whatever_its_script() -> None:
    # Two bytes a letter; JSON writes six characters unless it is told not to.
    plain, letters = (prepare(ask(text), endpoint()).size for text in ("", "дом"))
    assert letters - plain == 6
    request, answer = prepare(ask(), endpoint()), replace(ANSWER, completion_tokens=None)
    written = make_entry(request, replace(answer, text="дом" * 10), endpoint(), PRICE).reply
    assert written.completion_tokens == 60 // 4 + 1


def test_tokens_that_the_server_did_not_count_are_estimated_from_characters() -> None:
    config, request = endpoint(max_tokens=300), prepare(ask("hey"), endpoint())
    characters = len('[{"role": "system", "content": "be"}, {"role": "user", "content": "hey"}]')
    assert characters % 4
    for told, prompt, completion, counted in (
        ({"prompt_tokens": None}, characters // 4, 7, True),
        ({"completion_tokens": None}, 5, 3, False),
        # No prompt and no text takes no tokens, so a server that says 0 counts nothing.
        ({"prompt_tokens": 0}, characters // 4, 7, True),
        ({"completion_tokens": 0}, 5, 3, False),
        ({"completion_tokens": 0, "text": "", "reasoning": "h" * 91}, 5, 23, False),
        # What the model thought is paid for by the token as well.
        ({"completion_tokens": None, "reasoning": "h" * 91}, 5, 26, False),
        # Paid for up to the last token, as far as anybody knows.
        ({"completion_tokens": None, "finish_reason": "too_large"}, 5, 300, False),
    ):
        changes: Any = told
        entry = make_entry(request, replace(ANSWER, **changes), config, PRICE)
        reply = entry.reply
        assert (reply.prompt_tokens, reply.completion_tokens) == (prompt, completion)
        assert (reply.usd, reply.counted, entry.usage_estimated) == (
            prompt + completion, counted, True,
        )  # fmt: skip


def test_a_reply_without_a_text_may_take_no_tokens() -> None:
    request = prepare(ask(), endpoint())
    entry = make_entry(request, replace(ANSWER, text="", completion_tokens=0), endpoint(), PRICE)
    assert (entry.reply.usd, entry.reply.counted, entry.usage_estimated) == (5.0, True, False)


def test_the_servers_own_cost_counts_but_none_of_0_where_there_is_a_price() -> None:
    config, request = endpoint(), prepare(ask(), endpoint())

    def usd(told: float, price: PriceConfig = PRICE) -> float:
        return make_entry(request, replace(ANSWER, usd=told), config, price).reply.usd

    assert (usd(0.5), usd(0.0), usd(0.0, PriceConfig())) == (0.5, 12.0, 0.0)


@pytest.mark.parametrize(
    ("failed", "usd"),
    [
        (Failed(reason="HTTP 503"), 0.0),
        (Failed(reason="dropped", maybe_charged=True), None),
        (Failed(reason="e", maybe_charged=True, usage=Usage(3, 4, 0.5)), 0.5),
        (Failed(reason="e", maybe_charged=True, usage=Usage(3, 4, None)), 7.0),
        (Failed(reason="e", maybe_charged=True, usage=Usage(3, 4, 0.0)), 7.0),
        (Failed(reason="e", maybe_charged=True, usage=Usage(3, None, None)), None),
        (Failed(reason="e", maybe_charged=True, usage=Usage(None, 4, 0.0)), None),
    ],
)
def test_a_failed_call_counts_what_the_server_counted_or_the_most(
    failed: Failed, usd: float | None
) -> None:
    request = prepare(ask(), endpoint())
    assert unsure_usd(request, failed, PRICE) == (request.worst_usd if usd is None else usd)


def test_thoughts_and_first_tokens_are_kept_where_they_were_asked_for() -> None:
    request, config = prepare(ask(), endpoint()), endpoint()
    listed = replace(ANSWER, alternatives="[]", reasoning="Hm.")
    assert make_entry(request, listed, config, PRICE).reply.text == "So. [[A]]"
    reply = make_entry(request, listed, for_alternatives(config), PRICE).reply
    assert (reply.text, reply.reasoning) == ("[]", "Hm.")
    unlisted = make_entry(request, ANSWER, for_alternatives(config), PRICE).reply
    assert (unlisted.text, unlisted.reasoning) == ("So. [[A]]", None)
    thought = replace(ANSWER, text="<think>Oh.</think>So. [[A]]")
    assert make_entry(request, thought, config, PRICE).reply.reasoning == "Oh."


# Replies of older ledgers, which did not look at who was asked


@pytest.mark.parametrize(
    ("bought", "asked", "found"),
    [
        (("https://FAR.example/v1", 0.0, "stop"), endpoint(), True),
        (("http://127.0.0.1:8000/v1", 0.0, "stop"), endpoint(), False),
        (("http://127.0.0.1:8000/v1", 0.01, "stop"), endpoint(), True),
        (("http://127.0.0.1:8000/v1", 0.01, "error"), endpoint(), False),
        # For nothing, and for nothing; but only where that is certain.
        ((FAR, 0.0, "stop"), endpoint(base_url="http://127.0.0.1:9/v1", prices={}), True),
        ((FAR, 0.0, "stop"), endpoint(base_url="http://127.0.0.1:9/v1"), False),
        ((FAR, 0.0, "stop"), endpoint(base_url="https://near.example", prices={}), False),
        (("", 0.0, "stop"), endpoint(base_url=None, prices={}), True),
    ],
)
def test_whose_reply_of_an_older_ledger_serves(
    tmp_path: Path, bought: tuple[str, float, str], asked: EndpointConfig, found: bool
) -> None:
    (place, usd, finish), (one, two) = (
        bought,
        (prepare(ask(text), asked) for text in ("one", "two")),
    )
    with Ledger(tmp_path / "l", "m") as ledger:
        for key, text in ((one.old_key, "old"), (two.old_key, "old"), (two.key, "new")):
            reply = TeacherReply(key=key, text=text, finish_reason=finish, usd=usd)
            ledger.commit([LedgerEntry(
                reply=reply, attempt=0, request="{}", endpoint=place, usage_estimated=False
            )])  # fmt: skip
        replies = find_replies(ledger, [one, two], asked)
    assert {key: reply.text for key, reply in replies.items()} == (
        {one.key: "old", two.key: "new"} if found else {two.key: "new"}
    )


# What is said where replies are missing


def test_requests_that_are_in_a_batch_are_not_bought_live(tmp_path: Path) -> None:
    requests = [prepare(ask(text), endpoint()) for text in "abc"]
    with BatchLedger(tmp_path / "l", "m", sends=True) as ledger:
        _refuse_batched(ledger, requests, endpoint())
        ledger.claim([(request.key, 1.0) for request in requests[:2]], Caps())
        assert ledger.hand_over("file-1", 2, "batch-1")
        told = r"^a batch at \S+ \({}\) has 2 of 3 requests, .*; set teacher.batch=true"
        with pytest.raises(UserError, match=told.format("file-1")):
            _refuse_batched(ledger, requests, endpoint())
        ledger.note_created(ledger.find_batches([requests[0].key])[0], "batch_7")
        with pytest.raises(UserError, match=told.format("batch_7")):
            _refuse_batched(ledger, requests, endpoint())


def workers(**given: Any) -> Any:
    """As `Workers` ends: one reply of two, the other with a reason for having none."""
    config = given.pop("config", endpoint())
    reply = TeacherReply(key="a", usd=0.25)
    throttle = Throttle(config, answered=True)
    throttle.message = given.pop("message", "")
    return SimpleNamespace(**{
        "config": config, "stopped": "", "advice": "mend it", "capped": None,
        "again": "run the same command again to ask for the rest",
        "replies": {"a": reply}, "unanswered": {"b": "HTTP 503"}, "throttle": throttle,
        "progress": lambda: AskProgress(done=3, total=5, failed=1), **given,
    })  # fmt: skip


def test_what_a_user_is_told_of_missing_replies() -> None:
    requests = [
        replace(prepare(ask(), endpoint()), key=key, worst_usd=worst) for key, worst in
        (("a", 9.0), ("b", 0.5))
    ]  # fmt: skip
    _refuse_missing(workers(unanswered={}), requests[:1])
    with pytest.raises(UserError) as caught:
        _refuse_missing(workers(stopped="it is down"), requests)
    assert str(caught.value) == "it is down; 2 of 5 replies are kept, 3 are missing: mend it"
    with pytest.raises(UserError) as caught:
        _refuse_missing(workers(message="slow"), requests)
    assert str(caught.value) == (
        f"{FAR} gave no reply to 1 request after all retries (1x HTTP 503); the server says: "
        "slow; 2 of 5 replies are kept: run the same command again to ask for the rest, or set "
        "teacher.unanswered=drop to continue without them"
    )
    capped = workers(config=endpoint(max_calls=2), capped=Spending(calls=2, usd=0.25))
    with pytest.raises(UserError) as caught:
        _refuse_missing(capped, requests)
    assert str(caught.value) == (
        "teacher.max_calls is 2 and 2 calls were made; 1 more reply would cost about 0.1250 "
        "USD, at most 0.5000: set teacher.max_calls=3 or more, and run again; 2 of 5 replies are "
        "kept"
    )


def test_a_batched_endpoint_asked_live_is_the_same_but_for_that() -> None:
    batched = endpoint(batch=True, batch_price_factor=0.5)
    assert as_live(batched) == endpoint(batch_price_factor=0.5)
    judge = JudgeConfig(base_url=FAR, model="m")
    assert as_live(judge) is judge


# Which requests are asked, in which order, and by whom


LOCAL = "http://127.0.0.1:9/v1"


@pytest.fixture
def asked(monkeypatch: Any) -> list[Any]:
    """The workers of each asking, which answer every request with its question at once."""
    made: list[Any] = []
    signals: list[Any] = []

    @contextmanager
    def note(message: bytes, *, second_ends: bool) -> Iterator[None]:
        signals.append((b"batches" in message, second_ends))
        yield

    class Answering(SimpleNamespace):
        def __init__(
            self, requests: Any, config: Any, ledger: Any, known: int, watcher: Any
        ) -> None:
            super().__init__(**vars(workers(config=config)))
            self.requests, self.ledger, self.known, self.watcher = requests, ledger, known, watcher
            self.owner = ledger.owner
            self.words = [request.body["messages"][-1]["content"] for request in requests]
            made.append(self)

        def settle_all(self, first: Any, find_objection: Any) -> None:
            self.replies = {
                request.key: TeacherReply(key=request.key, text=text, usd=1.0)
                for request, text in zip(self.requests, self.words, strict=True)
            }
            for reply in self.replies.values():
                self.ledger.commit([LedgerEntry(
                    reply=reply, attempt=0, request="{}", endpoint=LOCAL, usage_estimated=False
                )])  # fmt: skip
            self.first = [request.body["messages"][-1]["content"]
                          for request in self.requests if request.key in first]  # fmt: skip
            self.first_keys, self.signals = set(first), signals[-1]
            self.objection = find_objection(self.replies)
            failed = {key: replace(reply, failure="no") for key, reply in self.replies.items()}
            self.failed_objection = find_objection(failed)

    class Batching(Answering):
        pass

    monkeypatch.setattr(ask_module, "ends_by_itself", note)
    monkeypatch.setattr(ask_module, "Workers", Answering)
    monkeypatch.setattr(ask_module, "BatchWorkers", Batching)
    return made


def local(**dials: Any) -> OpenAITeacherConfig:
    return endpoint(base_url=LOCAL, **dials)


def count(replies: Any) -> str:
    return f"dull: {', '.join(reply.text for reply in replies)}"


def test_each_request_is_asked_once_and_answered_in_its_order(tmp_path: Path, asked: Any) -> None:
    def watch(progress: AskProgress) -> None: ...

    texts = [
        reply.text for reply in ask_all([ask(t) for t in "bab"], local(), tmp_path / "l", watch)
    ]
    assert texts == ["b", "a", "b"]
    again = ask_all([ask(text) for text in "cab"], local(), tmp_path / "l")
    assert [(reply.text, reply.from_ledger) for reply in again] == [
        ("c", False), ("a", True), ("b", True),
    ]  # fmt: skip
    first, second = asked
    assert (first.words, first.known, first.watcher) == (["b", "a"], 0, watch)
    assert (second.words, second.known, second.watcher) == (["c"], 2, None)
    ask_all([ask("a")], local(), tmp_path / "l")
    assert len(asked) == 2
    assert (first.first, first.objection) == ([], "")
    assert (type(first).__name__, first.signals) == ("Answering", (False, True))
    assert first.ledger.model == "m"


def test_the_first_replies_are_judged_together_with_those_of_the_ledger(
    tmp_path: Path, asked: Any
) -> None:
    ask_all([ask("b")], local(), tmp_path / "l")
    requests = [ask(text) for text in "abc"]
    ask_all(requests, local(), tmp_path / "l", probe=2, object_to=count)
    assert (asked[1].first, asked[1].objection) == (["a"], "dull: a, b")
    # Of fewer than were to be judged, nothing is said.
    assert asked[1].failed_objection == ""
    ask_all([ask(text) for text in "de"], local(), tmp_path / "l", probe=2)
    assert (asked[2].first, asked[2].objection) == (["d", "e"], "")
    ask_all([ask(text) for text in "fg"], local(), tmp_path / "l", object_to=count)
    assert asked[3].objection == ""
    for probe, objection in ((2, ""), (1, "dull: h1")):
        ask_all([ask(f"h{probe}")], local(), tmp_path / "l", probe=probe, object_to=count)
        assert (asked[-1].first, asked[-1].objection) == ([f"h{probe}"], objection)


def test_before_a_batch_the_first_are_asked_live_once(
    tmp_path: Path, asked: Any, monkeypatch: Any
) -> None:
    checked: list[Any] = []
    monkeypatch.setattr(ask_module, "check_interface", checked.append)
    config, requests = local(batch=True, batch_price_factor=0.5), [ask(text) for text in "abcd"]

    def watch(progress: AskProgress) -> None: ...

    with pytest.raises(UserError, match=r"^dull: a, b; 2 of 4 replies are kept$"):
        ask_all(requests, config, tmp_path / "l", watch, probe=2, object_to=count)
    assert checked == [config]
    (live,) = asked
    assert live.watcher is watch
    assert (live.words, live.config.batch, live.owner.startswith("unsent-")) == (
        ["a", "b"], False, False,
    )  # fmt: skip
    replies = ask_all(requests, config, tmp_path / "l", probe=2)
    assert [reply.text for reply in replies] == ["a", "b", "c", "d"]
    batch = asked[-1]
    assert (type(batch).__name__, batch.words, batch.first_keys) == (
        "Batching", ["c", "d"], set(),
    )  # fmt: skip
    assert (batch.signals, batch.owner.startswith("unsent-")) == ((True, True), True)
    # With nothing to ask there is nothing to check, and without a probe neither.
    ask_all(requests, config, tmp_path / "l", probe=2, object_to=count)
    ask_all([ask("e")], config, tmp_path / "l", object_to=count)
    assert len(checked) == 2
    # Nor where a batch is out, before which this was done.
    key = prepare(ask("f"), config).key
    with BatchLedger(tmp_path / "l", "m", sends=True) as ledger:
        ledger.claim([(key, 1.0)], Caps())
        ledger.hand_over("file-1", 1, "batch-1")
    ask_all([ask("f")], config, tmp_path / "l", probe=1, object_to=count)
    assert len(checked) == 2
    # Live it would be bought a second time.
    made = len(asked)
    with BatchLedger(tmp_path / "l", "m", sends=True) as ledger:
        ledger.claim([(prepare(ask("g"), config).key, 1.0)], Caps())
        ledger.hand_over("file-2", 1, "batch-2")
    with pytest.raises(UserError, match=r"a batch at \S+:9/v1 \(file-2\) has 1 of 2 requests"):
        ask_all([ask("g"), ask("h")], as_live(config), tmp_path / "l")
    assert len(asked) == made
