"""Whatever a server's JSON is, it becomes a reply or a failure, and costs no other question."""

import copy
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fake_server import FakeServer
from hypothesis import given, settings
from hypothesis import strategies as st

from caft.teachers import rate_limit
from caft.teachers.api_key import ApiKey
from caft.teachers.ask import ask_all
from caft.teachers.config import OpenAITeacherConfig, Unanswered
from caft.teachers.ledger import Ledger
from caft.teachers.outcome import Answered, Failed, Remedy, Usage, read_body
from caft.teachers.refusals import Finish, read_finish
from caft.teachers.replies import Request
from caft.teachers.words import LONGEST, clean_words, find_words

# The same examples everywhere: a test must not fail on one machine only.
steady = settings(derandomize=True, deadline=None, database=None)

VALID = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{
        "index": 0, "finish_reason": "stop", "native_finish_reason": None, "error": None,
        "message": {"role": "assistant", "refusal": None, "content": [
            {"type": "text", "text": "So."}, "and", None, {"type": "text", "text": "[[A]]"},
        ]},
    }],
    "usage": {"prompt_tokens": 20, "completion_tokens": 10, "cost": 0.1}, "error": None,
}  # fmt: skip
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
PROTOCOL = st.sampled_from([
    "choices", "message", "content", "text", "type", "error", "code", "usage", "finish_reason",
    "refusal", "detail", "loc", "msg", "status", "prompt_tokens", "cost", "stop_reason",
])  # fmt: skip
NESTED = st.recursive(
    ANY | st.sampled_from(["stop", "error", "length", "content_filter", "401", 429, "\ud800"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(PROTOCOL, inner, max_size=4),
    max_leaves=25,
)


def find_paths(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        yield from find_paths(inner, (*path, key))


MISSING = object()
PATHS = list(find_paths(VALID))
REPLACED = st.tuples(st.sampled_from(PATHS), ANY | st.just(MISSING))


def replace_node(completion, change):
    path, value = change
    if not path:
        return None if value is MISSING else value
    changed = copy.deepcopy(completion)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    if value is MISSING:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return changed


def read(data, key=None):
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return read_body(raw, key.scrub if key else str, 0.5)


def check_outcome(outcome):
    if isinstance(outcome, Answered):
        outcome.text.encode()
        outcome.finish_reason.encode()
        for count in (outcome.prompt_tokens, outcome.completion_tokens):
            assert count is None or (type(count) is int and 0 <= count < 10**9)
        assert outcome.usd is None or 0 <= outcome.usd < 10**6
    else:
        assert isinstance(outcome, Failed)
        assert outcome.reason
        assert len(outcome.message) <= LONGEST
        assert outcome.message.isprintable()


@steady
@given(ANY | NESTED)
def test_any_json_is_a_reply_or_a_failure(data):
    check_outcome(read(data))


@steady
@given(REPLACED)
def test_a_completion_with_any_node_replaced_is_one_or_the_other(change):
    check_outcome(read(replace_node(VALID, change)))


@steady
@given(st.binary(max_size=40), st.integers(0, 400))
def test_any_bytes_at_any_place_are_one_or_the_other(junk, place):
    raw = json.dumps(VALID).encode()
    check_outcome(read(raw[:place] + junk + raw[place:]))
    check_outcome(read(junk))


@pytest.mark.timeout(120)
def test_no_node_of_a_completion_costs_another_question_its_reply(monkeypatch):
    monkeypatch.delenv("CAFT_TEST_KEY", raising=False)
    monkeypatch.setattr(rate_limit, "FAILURES_IN_A_ROW", 10**6)
    values = (None, "word", [], [None], {}, 7, -1.5, True, MISSING)
    changes = [(path, value) for path in PATHS for value in values]
    with FakeServer() as server, TemporaryDirectory() as folder:
        healthy = server._completion

        def complete(call):
            number = int(call.question[1:])
            return healthy(call) if number % 2 else replace_node(VALID, changes[number // 2])

        server._completion = complete
        config = OpenAITeacherConfig(
            name="fake", base_url=server.base_url, model="fake", api_key_env="CAFT_TEST_KEY",
            concurrency=16, retries=0, unanswered=Unanswered.drop,
        )  # fmt: skip
        asked = [Request((("user", f"q{n}"),)) for n in range(2 * len(changes))]
        replies = ask_all(asked, config, Path(folder) / "l")
        assert len(server.log) == len(asked)
        assert [r.text for r in replies[1::2]] == [
            f"I read 'q{n}' and think. [[A]]" for n in range(1, len(asked), 2)
        ]
        with Ledger(Path(folder) / "l", "fake") as ledger:
            kept = ledger.replies([reply.key for reply in replies])
            assert set(kept) == {reply.key for reply in replies if not reply.failure}
            assert ledger.spending().in_flight == 0


# What a body means


def choose(message="absent", finish="stop", **more):
    choice = {"finish_reason": finish, **more}
    return {"choices": [choice if message == "absent" else {**choice, "message": message}]}


@pytest.mark.parametrize(("message", "finish", "text"), [
    ({"content": "a"}, "stop", "a"),
    ({"content": None}, "stop", ""),
    ({}, "stop", ""),
    (None, "content_filter", ""),
    (None, "stop", ""),
    ({"content": ["a", None, {"type": "text", "text": "b"}, {"type": "image"}, {"text": "c"}, 5]},
     "stop", "abc"),
    ({"content": [{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": "b"}]},
     "stop", "b"),
    ({"content": [{"type": "text", "text": None}, {"type": "text", "text": {"value": "b"}}]},
     "stop", "b"),
    ({"content": "a\ud800"}, "stop", "a\ufffd"),
])  # fmt: skip
def test_replies(message, finish, text):
    answer = read(choose(message, finish))
    assert isinstance(answer, Answered)
    assert (answer.text, answer.finish_reason, answer.seconds) == (text, finish, 0.5)


@pytest.mark.parametrize(("message", "text", "reasoning"), [
    ({"content": "a", "reasoning_content": "hm"}, "a", "hm"),  # DeepSeek, vLLM, llama.cpp
    ({"content": "a", "reasoning": "hm"}, "a", "hm"),  # OpenRouter, newer vLLM, Groq
    ({"content": "a", "thinking": "hm"}, "a", "hm"),  # Ollama
    ({"content": None, "reasoning_content": "hm"}, "", "hm"),
    ({"content": "a", "reasoning_content": " ", "reasoning": "hm"}, "a", "hm"),
    ({"content": "a", "reasoning": {"effort": "high"}}, "a", ""),
    ({"content": "a", "reasoning_content": None}, "a", ""),
    ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"text": "m"}]},
                  {"type": "text", "text": "a"}]}, "a", "hm"),  # Mistral
    ({"content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, "a"]}, "a", "hm"),
    ({"content": [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "a"}]}, "a", "hm"),
    ({"content": "a", "reasoning": "h\ud800"}, "a", "h\ufffd"),
    ({"content": None, "refusal": "No.", "reasoning": "hm"}, "No.", "hm"),
])  # fmt: skip
def test_what_a_model_thought_stands_apart_from_its_text(message, text, reasoning):
    answer = read(choose(message))
    assert (answer.text, answer.reasoning) == (text, reasoning)


@pytest.mark.parametrize("data", [
    None, [], "text", 5, {}, {"choices": None}, {"choices": []}, {"choices": {}},
    {"choices": {"0": {}}}, {"detail": "later"}, {"choices": [None]}, {"choices": ["a"]},
    choose(finish=None), choose(None, None), choose("a"), choose({"content": 5}),
    choose({"content": {"text": "a"}}), choose([]),
])  # fmt: skip
def test_what_is_no_completion_may_be_one_next_time(data):
    failed = read(data)
    assert (failed.reason, failed.remedy) == ("reply is not a chat completion", Remedy.wait)
    assert failed.maybe_charged


@pytest.mark.parametrize("usage", [
    None, "many", 5, [], [{"prompt_tokens": 3}], {"prompt_tokens": "3"}, {"prompt_tokens": True},
    {"prompt_tokens": -3}, {"prompt_tokens": [3]}, {"prompt_tokens": 10**12}, {"cost": "0.1"},
])  # fmt: skip
def test_usage_that_counts_nothing(usage):
    answer = read({**choose({"content": "a"}), "usage": usage})
    assert (answer.text, answer.prompt_tokens, answer.usd) == ("a", None, None)


@pytest.mark.parametrize(("written", "total", "counted"), [
    (2, 331, 319),  # xAI: what the model thought is in the total alone
    (None, 331, 319), (0, 331, 319),
    (10, 22, 10), (10, 12, 10), (10, 5, 10), (10, None, 10), (10, "331", 10),
    (None, 12, None), (None, 5, None),
])  # fmt: skip
def test_tokens_that_stand_in_the_total_alone_are_paid_as_written_ones(written, total, counted):
    usage = {"prompt_tokens": 12, "completion_tokens": written, "total_tokens": total}
    answer = read({**choose({"content": "a"}), "usage": usage})
    assert (answer.prompt_tokens, answer.completion_tokens) == (12, counted)
    failed = read({**choose({"content": "a"}, "error"), "usage": usage})
    assert failed.usage == Usage(12, counted, None)


@pytest.mark.parametrize(("usage", "usd"), [
    # OpenRouter with the user's own key of the provider: its fee, and the provider's bill.
    ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 1.0}}, 1.0),
    ({"cost": 0.05, "is_byok": True, "cost_details": {"upstream_inference_cost": 1.0}}, 1.05),
    ({"cost": 0.05, "cost_details": {"upstream_inference_cost": 1.0}}, 1.05),
    ({"cost_details": {"upstream_inference_cost": 1.0}}, 1.0),
    # The bill is unknown: the fee alone is not what the call cost.
    ({"cost": 0.05, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, None),
    ({"cost": 0.05, "is_byok": True}, None),
    ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0}}, None),
    # Without a key of one's own the same amount stands there twice.
    ({"cost": 0.25, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.25}}, 0.25),
    ({"cost": 0.25, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.2}}, 0.25),
    ({"cost": 0.25, "cost_details": {"upstream_inference_cost": 0.25}}, 0.25),
    ({"cost": 0.25, "cost_details": {"upstream_inference_cost": None}}, 0.25),
    ({"cost": 0.25, "cost_details": "none"}, 0.25),
    # The provider's price and the router's: one bill.
    ({"cost": 0.25, "cost_details": {"upstream_inference_cost": 0.24}}, 0.25),
])  # fmt: skip
def test_what_a_call_cost_in_all(usage, usd):
    assert read({**choose({"content": "a"}), "usage": usage}).usd == usd


@pytest.mark.parametrize("data", [
    choose({"content": "half"}, "error"), choose({"content": ""}, error={"code": 403}),
    {"error": {"message": "up", "code": 502}}, {"choices": []},
])  # fmt: skip
@pytest.mark.parametrize(("usage", "counted"), [
    ({"prompt_tokens": 20, "completion_tokens": 9000, "cost": 0.5}, Usage(20, 9000, 0.5)),
    ({"prompt_tokens": 20, "completion_tokens": 0}, Usage(20, 0, None)),
    ({"cost": 0.5}, Usage(None, None, 0.5)),
])  # fmt: skip
def test_a_failure_whose_body_counts_tokens_or_usd_was_charged(data, usage, counted):
    failed = read({**data, "usage": usage})
    assert (failed.maybe_charged, failed.usage) == (True, counted)
    for nothing in (None, {}, {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0}):
        unused = read({**data, "usage": nothing})
        assert unused == read(data)
        assert unused.usage is None


def test_numbers_that_no_int_holds_cost_the_count_and_not_the_reply():
    digits = "9" * 5000
    raw = '{"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": %s}, "x": %s}'
    answer = read((raw % (digits, f"-{digits}e99")).encode())
    assert (answer.text, answer.prompt_tokens) == ("a", None)


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 900 + b"]" * 900])
def test_deep_nesting(raw):
    assert isinstance(read(raw), Failed)


def test_a_broken_byte_is_marked_and_the_reply_is_kept():
    raw = json.dumps(choose({"content": "caf!"})).encode().replace(b"!", b"\xe9")
    assert read(raw).text == "caf\ufffd"
    assert read(b"\xef\xbb\xbf" + json.dumps(choose({"content": "a"})).encode()).text == "a"


@pytest.mark.parametrize("feedback", [
    {"prompt_feedback": {"block_reason": "SAFETY"}}, {"promptFeedback": {"blockReason": "OTHER"}},
])  # fmt: skip
@pytest.mark.parametrize("choices", [{}, {"choices": []}, {"choices": None}])
def test_a_prompt_that_a_filter_blocks_is_final(feedback, choices):
    answer = read({**choices, **feedback})
    assert isinstance(answer, Answered)
    assert (answer.text, answer.finish_reason) == ("", "content_filter")
    assert isinstance(read({"prompt_feedback": {"block_reason": None}}), Failed)


@pytest.mark.parametrize("place", [{"text": "a"}, {"delta": {"content": "a"}}])
def test_a_paid_text_is_found_where_other_protocols_have_it(place):
    assert read(choose(**place)).text == "a"


def test_a_declining_model_is_final_and_its_words_are_kept():
    answer = read(choose({"content": None, "refusal": "I can't help."}))
    assert (answer.text, answer.finish_reason) == ("I can't help.", "refusal")


@pytest.mark.parametrize(("data", "reason", "message", "remedy"), [
    ({"error": {"message": "up", "code": 502}}, "HTTP 502", "up", Remedy.wait),
    ({"error": {"message": "up", "code": "429"}}, "HTTP 429", "up", Remedy.wait),
    ({"error": "all busy"}, "HTTP 502", "all busy", Remedy.wait),
    ({"error": ["a", {"msg": "b"}]}, "HTTP 502", "a; b", Remedy.wait),
    ({"error": {"message": "too long", "code": "context_length_exceeded"}},
     "HTTP 400: too long", "", Remedy.leave_out),
    ({"error": {"message": "bad", "type": "invalid_request_error", "code": None}},
     "HTTP 400: bad", "", Remedy.leave_out),
    ({"error": {"message": "who?", "code": "invalid_api_key"}},
     "HTTP 401: the key was refused", "who?", Remedy.ask_user),
    ({"object": "error", "message": "no such model", "code": 404},
     "HTTP 404: no such model", "", Remedy.ask_user),
    (choose({"content": ""}, "error", error={"code": 502, "message": "upstream"}),
     "HTTP 502", "upstream", Remedy.wait),
    (choose({"content": ""}, None, error={"code": 429}), "HTTP 429", "", Remedy.wait),
    (choose({"content": "half"}, "error"), "HTTP 502", "", Remedy.wait),
    (choose(None, "ERROR", native_finish_reason="out of memory"),
     "HTTP 502", "out of memory", Remedy.wait),
    (choose(None, "error", error={"code": 403, "message": "flagged"}),
     "HTTP 403: flagged", "", Remedy.leave_out),
    (choose({"content": ""}, "insufficient_system_resource"), "HTTP 502", "", Remedy.wait),
])  # fmt: skip
def test_errors_in_a_body_and_in_a_choice(data, reason, message, remedy):
    failed = read(data)
    assert (failed.reason, failed.message, failed.remedy) == (reason, message, remedy)
    assert not failed.maybe_charged


def test_bodies_that_are_no_json_say_what_they_are():
    page = b"<!DOCTYPE html><html><head><title>502 Bad\n Gateway</title><style>p{}</style></head>"
    assert read(page).message == "502 Bad Gateway"
    assert read(b"<html><script>x()</script><p>Try <b>later</b></p>").message == "Try later"
    assert read(b"upstream connect error").message == "upstream connect error"
    assert read(b"").message == ""


def test_secrets_are_taken_out_before_words_are_cut():
    key = ApiKey("sk-caft-0123456789-very-secret")
    failed = read(b"x" * (LONGEST - 13) + b" sk-caft-0123456789-very-secret", key)
    assert failed.message.endswith("x [key]")
    assert read({"error": "bad key sk-caft-01234... given"}, key).message == "bad key [key] given"


# How a reply ended


@pytest.mark.parametrize(("word", "meaning"), [
    *((word, Finish.finished) for word in (
        "stop", "STOP", "Stop", "eos", "eos_token", "EOS-Token", "end_turn", "endTurn", "END TURN",
        "stop_sequence", "complete", "COMPLETED", "done", "finished", "FinishReason.STOP",
        "FINISH_REASON_STOP", "", " ", "<|im_end|>", "</s>", "<|eot_id|>", "<|endoftext|>",
        "<end_of_turn>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "stop.", "hit_eos",
    )),
    *((word, Finish.cut) for word in (
        "length", "max_tokens", "MAX_TOKENS", "MaxTokens", "max_output_tokens", "model_length",
        "LENGTH", "incomplete", "ERROR_LIMIT", "length_limit", "FinishReason.MAX_TOKENS",
        "model_context_window_exceeded",
    )),
    *((word, Finish.withheld) for word in (
        "content_filter", "SAFETY", "RECITATION", "refusal", "ContentFiltered",
        "IMAGE_PROHIBITED_CONTENT", "MODEL_ARMOR",
        "content_filter: PROHIBITED_CONTENT", "content_filter: A_NEW_WORD",  # Gemini's OpenAI form
        "finish_reason: SAFETY",
    )),
    *((word, Finish.failed) for word in (
        "error", "ERROR", "abort", "cancelled", "USER_CANCEL", "engine_overloaded",
    )),
    *((word, Finish.called) for word in ("tool_calls", "tool_use", "function_call")),
    *((word, Finish.unknown) for word in ("weird", "unstoppable", "7", "None", "a: b", ":")),
])  # fmt: skip
def test_finish_reasons_in_the_words_of_others(word, meaning):
    assert read_finish(word) is meaning


@pytest.mark.parametrize(("reason", "stop_reason", "finish"), [
    (None, "max_tokens", "max_tokens"), (None, "end_turn", "end_turn"),
    (None, "###", ""), (None, 128_001, ""), ("stop", "###", "stop"), (7, None, "7"),
    ({"type": "stop"}, None, "unreadable"), ("a\x1b[31mb\nc", None, "ab c"),
    ("x" * 99, None, "x" * 40),
])  # fmt: skip
def test_the_finish_reason_that_is_kept(reason, stop_reason, finish):
    answer = read(choose({"content": "a"}, reason, stop_reason=stop_reason))
    assert answer.finish_reason == finish


@pytest.mark.parametrize("name", ["native_finish_reason", "finishReason", "stopReason"])
@pytest.mark.parametrize("reason", [None, "", " "])
def test_a_cut_reply_is_cut_under_whatever_name_it_says_so(name, reason):
    answer = read(choose({"content": "a"}, reason, **{name: "MAX_TOKENS"}))
    assert read_finish(answer.finish_reason) is Finish.cut


# A server's own words


@pytest.mark.parametrize(("value", "words"), [
    ("plain", "plain"), ({"message": "m"}, "m"), ({"error": "e"}, "e"), ({"a": "b"}, ""),
    ({"error": {"message": {"detail": "deep"}}}, "deep"), (None, ""), (True, ""), ([], ""),
    ({"detail": [{"loc": ["body", "max_tokens", 0], "msg": "too big", "type": "value_error"}]},
     "body.max_tokens.0: too big"),
    ({"detail": [{"msg": "a"}, {"msg": "b"}, {"msg": "c"}, {"msg": "d"}]}, "a; b; c; ..."),
    ({"message": "", "detail": "second"}, "second"),
])  # fmt: skip
def test_words_are_found_where_servers_put_them(value, words):
    assert find_words(value) == words


def test_words_come_clean_and_short():
    assert clean_words("\x1b[31mred\x1b[0m\r\n\tand \x1b]0;title\x07bold\x00 \u202eback") == (
        "red and bold back"
    )
    assert clean_words("\x9b31mx\ud800") == "31mx\ufffd"
    long = clean_words("word " * 99)
    assert len(long) <= LONGEST
    assert long.endswith("...")
