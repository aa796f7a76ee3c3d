"""A teacher's entropy over the options, by hand, and what an endpoint is asked for it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_batches import chat
from fake_server import Call, FakeServer

from caft.distill.endpoint import forecast_endpoint
from caft.errors import UserError
from caft.records import Judgement, Question
from caft.report.run.cost import count_cost
from caft.report.wording import tell_batches
from caft.score.options import ask_options, bound_entropy, refuse_shared_beginnings
from caft.teachers import batches
from caft.teachers.ask import as_live
from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.ledger import Ledger
from caft.teachers.replies import for_alternatives
from caft.text.config import OptionIds, PromptConfig
from caft.text.prompts import Wanted, write_prompt

ALL = {"A": 0.5, "B": 0.25, "C": 0.125, "x": 0.005, "y": 0.004}
ENTROPY = -(4 / 7 * math.log(4 / 7) + 2 / 7 * math.log(2 / 7) + 1 / 7 * math.log(1 / 7))
QUESTIONS = [
    Question(id=str(n), text=f"Question {n}?", options=("a", "b", "c"), gold_index=0)
    for n in range(6)
]
PROMPTS = [write_prompt(item, PromptConfig(), Wanted.answer, chat=True) for item in QUESTIONS]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(usage={"prompt_tokens": 20, "completion_tokens": 1}) as running:
        running.top = lambda call: ALL
        yield running


def endpoint(server: FakeServer, **more: object) -> OpenAITeacherConfig:
    given = {"name": "t", "model": "m", "base_url": server.base_url, "concurrency": 1, **more}
    config = for_alternatives(OpenAITeacherConfig(**given))
    assert isinstance(config, OpenAITeacherConfig)
    return config


def judge(config: OpenAITeacherConfig, ledger: Path) -> list[Judgement]:
    return ask_options(
        QUESTIONS, PROMPTS, option_ids=OptionIds.letters, teacher=config, ledger_path=ledger
    )


def ask(config: OpenAITeacherConfig, ledger: Path) -> list[float | None]:
    return [row.value for row in judge(config, ledger)]


@pytest.mark.parametrize(
    ("listed", "low", "high"),
    [
        (ALL, ENTROPY, ENTROPY),
        # The likeliest way to write a label counts, and other words do not.
        ({**ALL, " A": 0.1, "\u2581B": 0.01, "Apple": 0.005}, ENTROPY, ENTROPY),
        # C has at most 0.01 beside A and B, each 0.4: a share of 1 in 81.
        (
            {"A": 0.4, "B": 0.4, "x": 0.01, "y": 0.01},
            math.log(2),
            -2 * 40 / 81 * math.log(40 / 81) + math.log(81) / 81,
        ),
        # B and C share what the list leaves, 0.02; alone, B has it all, and A is sure at best.
        ({"A": 0.48, "x": 0.5}, 0.0, -0.96 * math.log(0.96) - 0.04 * math.log(0.02)),
        # A drawn token that is rare bounds nothing: B and C may have 0.125 each, as x has.
        ({"A": 0.5, "x": 0.125, "z": 1e-9}, 0.0, math.log(1.5) * 2 / 3 + math.log(6) / 3),
        ({"x": 0.9}, 0.0, math.log(3)),
        ({}, 0.0, math.log(3)),
    ],
)
def test_the_bounds_of_the_entropy_by_hand(
    listed: dict[str, float], low: float, high: float
) -> None:
    assert bound_entropy(listed, "ABC") == pytest.approx((low, high), abs=1e-12)


def test_no_distribution_that_fits_the_list_leaves_the_bounds() -> None:
    dice = random.Random(0)
    for _ in range(2000):
        weights = [dice.random() ** 8 for _ in range(12)]
        p = dict(zip("ABCDEFuvwxyz", (w / sum(weights) for w in weights), strict=True))
        top = dict(sorted(p.items(), key=lambda item: -item[1])[: dice.randint(2, 12)])
        options = [p[label] / sum(p[each] for each in "ABCDEF") for label in "ABCDEF"]
        low, high = bound_entropy(top, "ABCDEF")
        assert low - 1e-9 <= -sum(q * math.log(q) for q in options if q) <= high + 1e-9


def test_answers_that_begin_alike_are_refused() -> None:
    digits = Question(id="q", text="?", gold_index=0, answer_set=("1", "2", "10"))
    with pytest.raises(UserError, match="'1' and '10' of question q"):
        refuse_shared_beginnings(digits, OptionIds.letters)
    for question in QUESTIONS:
        refuse_shared_beginnings(question, OptionIds.digits)


def test_one_token_is_bought_once(server: FakeServer, tmp_path: Path) -> None:
    given = {"temperature": 0.0, "extra": {"max_completion_tokens": 9, "mine": 1}}
    config, ledger = endpoint(server, **given), tmp_path / "ledger.sqlite"
    planned = forecast_endpoint([PROMPTS], config, ledger)
    assert (planned.calls.high, planned.completion_tokens.high) == (6, 6)
    assert ask(config, ledger) == pytest.approx([ENTROPY] * 6)
    body = server.log[0].body
    assert body["messages"] == [{"role": role, "content": text} for role, text in PROMPTS[0].turns]
    del body["messages"]
    assert body == {
        "model": "m", "max_tokens": 1, "temperature": 1.0, "logprobs": True, "top_logprobs": 20,
        "mine": 1,
    }  # fmt: skip
    assert ask(config, ledger) == pytest.approx([ENTROPY] * 6)
    assert len(server.log) == 6
    with Ledger(ledger, "m", reads_only=True) as kept:
        # What a rationale will take is not told by them.
        assert kept.token_counts() == []


def test_an_endpoint_without_log_probabilities_costs_one_call(
    server: FakeServer, tmp_path: Path
) -> None:
    config = endpoint(server)
    server.top = lambda call: {}
    for _ in range(2):
        with pytest.raises(UserError, match=r"m at .* gives no log-probabilities, which"):
            ask(config, tmp_path / "ledger.sqlite")
        assert len(server.log) == 1
    server.status, server.message = 400, "logprobs are not supported"
    with pytest.raises(UserError, match="HTTP 400: logprobs are not supported"):
        ask(config, tmp_path / "other.sqlite")
    assert len(server.log) == 2


def test_questions_left_open_have_no_estimate_and_are_counted(
    server: FakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def unsure(call: Call) -> dict[str, float]:
        return {"A": 0.4, "x": 0.3, "y": 0.2} if "2?" in call.question else ALL

    server.top = unsure
    values = ask(endpoint(server), tmp_path / "ledger.sqlite")
    assert [value is None for value in values] == [n == 2 for n in range(6)]
    assert "1 of 6 questions have no option_entropy_gain" in caplog.text
    server.top = lambda call: {"<think>": 1.0}
    with pytest.raises(UserError, match=r"6 of 6 .* turn thinking off in teacher.extra"):
        ask(endpoint(server), tmp_path / "other.sqlite")


def test_the_cap_holds_and_what_was_bought_is_kept(server: FakeServer, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    with pytest.raises(UserError, match=r"teacher.max_calls is 4 .*4 of 6 replies are kept"):
        ask(endpoint(server, max_calls=4), ledger)
    assert len(server.log) == 4
    assert ask(endpoint(server), ledger) == pytest.approx([ENTROPY] * 6)
    assert len(server.log) == 6


PAID = {"usd_per_million_prompt_tokens": 1e3, "usd_per_million_completion_tokens": 1e4}
LIVE_USD = (20 * 1e3 + 1 * 1e4) / 1e6
BY_BATCH = {"batch": True, "batch_price_factor": 0.5, **PAID}


def batched_list(question: str) -> dict[str, object]:
    """A batch's row with log-probabilities, as the live server gives them."""
    top = [{"token": token, "logprob": math.log(p)} for token, p in ALL.items()]
    body = chat(question)
    body["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return {**body, "usage": {"prompt_tokens": 20, "completion_tokens": 1}}


@pytest.fixture
def batching(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    for name in ("FIRST_POLL", "LONGEST_POLL"):
        monkeypatch.setattr(batches, name, 0.002)
    server.batches.reply = batched_list
    return server


def test_a_batch_has_all_but_the_first_and_the_bill_tells_them_apart(
    batching: FakeServer, tmp_path: Path
) -> None:
    config, ledger = endpoint(batching, **BY_BATCH), tmp_path / "ledger.sqlite"
    planned, live = (
        forecast_endpoint([PROMPTS], each, ledger).usd for each in (config, as_live(config))
    )
    assert planned.likely == pytest.approx(live.likely * (1 + 5 / 2) / 6, rel=0.05)
    rows = judge(config, ledger)
    assert [row.value for row in rows] == pytest.approx([ENTROPY] * 6)
    assert [row.batched for row in rows] == [False] + [True] * 5
    assert (len(batching.log), batching.batches.bought.total()) == (1, 5)
    cost = count_cost([], [], [], rows)
    assert (cost["teacher_calls"], cost["judge_calls"]) == (6, 0)
    assert cost["teacher_usd"] == pytest.approx(LIVE_USD + 5 * LIVE_USD / 2)
    assert cost["teacher_batch_calls"] == 5
    assert cost["teacher_batch_usd"] == pytest.approx(5 * LIVE_USD / 2)
    assert tell_batches(cost) == " (1 live for $0.0300, 5 in batches for $0.0750)"
    # What is known is not asked again, live or in a batch, and stays what it was.
    steps = len(batching.batches.steps)
    for again in (config, endpoint(batching, **PAID)):
        assert judge(again, ledger) == rows
    assert (len(batching.log), len(batching.batches.steps)) == (1, steps)


def test_a_batch_without_log_probabilities_is_never_sent(
    batching: FakeServer, tmp_path: Path
) -> None:
    batching.top = lambda call: {}
    with pytest.raises(UserError, match=r"gives no log-probabilities, which"):
        ask(endpoint(batching, **BY_BATCH), tmp_path / "ledger.sqlite")
    assert (len(batching.log), batching.batches.steps) == (1, [])


def test_a_first_question_in_a_batch_that_is_out_is_not_bought_live(
    batching: FakeServer, tmp_path: Path
) -> None:
    """Another run, with another order of questions, has sent it and waits."""
    config, ledger = endpoint(batching, **BY_BATCH), tmp_path / "ledger.sqlite"
    batching.batches.statuses = ("in_progress",) * 3
    batching.batches.faults = {"look": [400]}
    last_first = [[*reversed(rows)] for rows in (QUESTIONS, PROMPTS)]
    with pytest.raises(UserError):
        ask_options(*last_first, option_ids=OptionIds.letters, teacher=config, ledger_path=ledger)
    assert [call.question for call in batching.log] == [PROMPTS[-1].turns[-1][1]]
    assert ask(config, ledger) == pytest.approx([ENTROPY] * 6)
    assert len(batching.log) == 1
    assert set(batching.batches.bought.values()) == {1}
