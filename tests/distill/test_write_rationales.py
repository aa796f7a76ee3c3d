"""Every kind of teacher, from questions to rationales, against a real server and real files."""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from typing import Any

import pytest
from fake_server import solve

from caft import distill
from caft.distill import DistillInputs, check_teacher
from caft.distill.local import name_model
from caft.errors import UserError
from caft.models.config import TinyModelConfig
from caft.models.fingerprint import model_fingerprint
from caft.models.sources.locate import locate_model
from caft.records import Question, Target
from caft.teachers.config import (
    FileTeacherConfig,
    Keep,
    LocalModelTeacherConfig,
    OpenAITeacherConfig,
    Unanswered,
    WorkedTeacherConfig,
)
from caft.teachers.ledger import BatchLedger, Ledger
from caft.teachers.prices import Caps, check_paid
from caft.teachers.refusals import advise, count_reasons, name_reason
from caft.teachers.replies import LedgerEntry, Request, TeacherReply, prepare
from caft.text.config import PromptConfig
from caft.text.prompts import Wanted, write_prompt


def write_rationales(questions, **given):
    return distill.write_rationales(DistillInputs(questions=questions, **given))


def forecast_rationales(questions, **given):
    return distill.forecast_rationales([DistillInputs(questions=questions, **given)])


def question(n, **fields):
    return Question(
        id=f"q{n}", text=f"Number {n}?", options=("odd", "even"), gold_index=1 - n % 2, **fields
    )


def ask_server(server, questions, folder, forbidden=(), **dials):
    return write_rationales(
        questions, prompt=PromptConfig(), teacher=make(server, **dials),
        ledger_path=folder / "l", forbidden=forbidden,
    )  # fmt: skip


def make(server, **dials):
    return OpenAITeacherConfig(**({
        "name": "fake", "base_url": server.base_url, "model": "fake",
        "api_key_env": "CAFT_TEST_KEY", "backoff_seconds": 0.01, "timeout_seconds": 60.0,
    } | dials))  # fmt: skip


def priced(completion: float) -> dict[str, Any]:
    """Prices in USD per million tokens: a prompt is free."""
    return {
        "usd_per_million_prompt_tokens": 0.0,
        "usd_per_million_completion_tokens": completion,
    }


# An endpoint


def test_refused_replies_are_kept_and_asked_again_with_a_new_seed(server, tmp_path):
    # The server says even, always; on the first try of the fourth question it says nothing.
    server.write = lambda call: (
        "" if call.question.startswith("Number 4") and not call.body["seed"] else "[[B]]"
    )
    rationales = ask_server(server, [question(n) for n in range(1, 5)], tmp_path, attempts=3)
    assert [(r.question_id, r.attempt, r.refusal) for r in rationales] == [
        ("q1", 0, "wrong"), ("q1", 1, "wrong"), ("q1", 2, "wrong"),
        ("q2", 0, ""),
        ("q3", 0, "wrong"), ("q3", 1, "wrong"), ("q3", 2, "wrong"),
        ("q4", 0, "empty"), ("q4", 1, ""),
    ]  # fmt: skip
    assert sorted({call.body["seed"] for call in server.log}) == [0, 1, 2]
    assert len(server.log) == len(rationales)

    again = ask_server(server, [question(n) for n in range(1, 5)], tmp_path, attempts=3)
    assert len(server.log) == len(rationales)
    assert again == rationales


def test_an_endpoint_that_repeats_itself_when_asked_again_is_reported(server, tmp_path, caplog):
    server.write = lambda call: "[[B]]"
    ask_server(server, [question(n) for n in (1, 3, 5)], tmp_path, attempts=2)
    assert "3 of 3 refused replies were repeated word for word" in caplog.text
    caplog.clear()
    server.write = lambda call: f"Draw {call.body['seed']}. [[B]]"
    ask_server(server, [question(n) for n in (7, 9, 11)], tmp_path, attempts=2)
    assert not caplog.text


def test_keep_all_asks_once_and_marks_what_is_wrong(server, tmp_path):
    rationales = ask_server(server, [question(1), question(2)], tmp_path, attempts=3, keep=Keep.all)
    assert [(r.accepted, r.agrees, r.answer) for r in rationales] == [
        (True, True, "A"),
        (True, False, "A"),
    ]
    assert len(server.log) == 2


def test_questions_that_two_methods_share_are_bought_once(server, tmp_path):
    ask_server(server, [question(n) for n in range(1, 20, 2)], tmp_path)
    ask_server(server, [question(n) for n in range(1, 40, 2)], tmp_path)
    assert len(server.log) == 20


def test_tokens_price_and_source_are_on_the_rationale(server, tmp_path):
    (r,) = ask_server(server, [question(1)], tmp_path, **priced(1e4))
    assert (r.prompt_tokens, r.completion_tokens, r.usd) == (20, 10, 0.1)
    assert (r.source, r.finish_reason, r.answer) == ("fake", "stop", "A")
    with Ledger(tmp_path / "l", "fake") as ledger:
        assert ledger.replies([r.ledger_key])[r.ledger_key].text.startswith("I read")


def test_no_special_token_of_the_student_comes_in(server, tmp_path):
    server.write = lambda call: "So <|secret|> it is. [[A]]"
    (r,) = ask_server(server, [question(1)], tmp_path, forbidden=["secret"])
    assert r.refusal == "special_token"


def test_a_request_that_is_refused_for_good_is_not_asked_again(server, tmp_path):
    server.status, server.message = 400, "too long"
    (r,) = ask_server(server, [question(1)], tmp_path, attempts=3)
    assert r.refusal == "no_reply: HTTP 400: too long"
    assert len(server.log) == 1


def test_dropping_what_stays_unanswered_leaves_a_reason(server, tmp_path):
    server.write = lambda call: 1 / 0
    (r,) = ask_server(server, [question(1)], tmp_path, retries=1, unanswered=Unanswered.drop)
    assert r.refusal == "no_reply: connection dropped"


@pytest.mark.parametrize("keep", list(Keep))
def test_a_reply_of_full_length_is_cut_whatever_the_server_says(server, tmp_path, keep):
    server.usage = {"prompt_tokens": 20, "completion_tokens": 50}
    (r,) = ask_server(server, [question(1)], tmp_path, max_tokens=50, keep=keep)
    assert (r.refusal, r.finish_reason, r.accepted) == ("cut_off", "length", False)
    # From the ledger, too; and what it says to do is what helps.
    (r,) = ask_server(server, [question(1)], tmp_path, max_tokens=50, keep=keep)
    assert (r.refusal, len(server.log)) == ("cut_off", 1)
    (r,) = ask_server(server, [question(1)], tmp_path, max_tokens=51, keep=keep)
    assert r.accepted


def test_a_length_that_extra_sets_is_the_one_that_counts(server, tmp_path):
    server.usage = {"prompt_tokens": 20, "completion_tokens": 30}
    (r,) = ask_server(server, [question(1)], tmp_path, extra={"max_tokens": 30})
    assert r.refusal == "cut_off"


def test_tokens_that_nobody_counted_cut_nothing(server, tmp_path):
    server.usage, server.write = None, lambda call: "x" * 400 + " [[A]]"
    for _ in range(2):
        (r,) = ask_server(server, [question(1)], tmp_path, max_tokens=50)
        assert r.accepted


POOL = [question(n) for n in range(1, 60, 2)]


@pytest.mark.parametrize(("spoil", "reason", "way_out"), [
    ({"finish_reason": "weird"}, "not_finished: weird", {"keep": Keep.all}),
    ({"write": lambda call: "I think it is odd."}, "unparsable", {"keep": Keep.all}),
    ({"usage": {"completion_tokens": 50}}, "cut_off", {"max_tokens": 51}),
])  # fmt: skip
def test_money_is_not_spent_on_what_is_all_refused_and_the_advice_helps(
    server, tmp_path, spoil, reason, way_out
):
    for name, value in spoil.items():
        setattr(server, name, value)
    moments = []
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            write_rationales(
                POOL, prompt=PromptConfig(), teacher=make(server, max_tokens=50),
                ledger_path=tmp_path / "l", progress=moments.append,
            )  # fmt: skip
        message = str(caught.value)
        assert f"fake wrote 20 replies first, all refused as {reason}, and no more" in message
        assert "20 of 30 replies are kept, 10 are missing" in message
        assert len(server.log) == 20
    assert {moment.total for moment in moments} == {30}
    words = {"keep": "teacher.keep=all", "max_tokens": "larger teacher.max_tokens"}
    assert words[next(iter(way_out))] in str(caught.value)
    assert advise(reason) in str(caught.value)
    helped = ask_server(server, POOL, tmp_path, **({"max_tokens": 50} | way_out))
    assert all(r.accepted for r in helped)


def test_the_other_way_out_buys_them_all_and_says_what_was_refused(server, tmp_path, caplog):
    server.finish_reason = "weird"
    rationales = ask_server(server, POOL, tmp_path, probe_replies=0)
    assert count_reasons(rationales) == {"not_finished: weird": 30}
    assert "30 of 30 replies are refused: 30 not_finished: weird" in caplog.text


def test_a_cap_that_is_reached_while_probing_counts_what_is_missing_in_all(server, tmp_path):
    with pytest.raises(UserError, match=r"25 more replies .* set teacher\.max_calls=30 or more"):
        ask_server(server, POOL, tmp_path, max_calls=5)
    assert len(ask_server(server, POOL, tmp_path, max_calls=30)) == 30


def test_wrong_answers_and_mixed_reasons_stop_nothing(server, tmp_path):
    server.write = lambda call: "[[B]]"
    assert {r.refusal for r in ask_server(server, POOL, tmp_path)} == {"wrong"}
    server.write = lambda call: "" if call.question.startswith("Number 1?") else "hm"
    mixed = ask_server(server, POOL, tmp_path / "other")
    assert count_reasons(mixed) == {"unparsable": 29, "empty": 1}


def test_what_was_withheld_for_good_is_not_asked_again(server, tmp_path):
    server.raw = json.dumps(
        {"choices": [{"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}]}
    ).encode()
    (r,) = ask_server(server, [question(1)], tmp_path, attempts=3)
    assert (r.refusal, r.finish_reason, r.text) == ("not_finished", "refusal", "No.")
    assert len(server.log) == 1


def test_the_forecast_names_both_prices_and_leaves_out_what_is_in_a_batch(server, tmp_path):
    prices = priced(1.0) | {"batch_price_factor": 0.5}
    teacher = make(server, batch=True, max_tokens=500, budget_usd=0.013, **prices)
    live = replace(teacher, batch=False)
    given = {"prompt": PromptConfig(), "ledger_path": tmp_path / "l"}
    pool = [question(n) for n in range(30)]
    # The first 20 are asked live: 20 * 500 tokens at 1 USD a million, and 10 at half of it.
    both = "0.0150 USD live, 0.0125 as a batch, within 24 hours"
    assert forecast_rationales(pool, teacher=teacher, **given).usd.likely == pytest.approx(0.0125)
    few = forecast_rationales(pool[:20], teacher=teacher, **given)  # too few to probe
    none = forecast_rationales(pool, teacher=replace(teacher, probe_replies=0), **given)
    assert (few.usd.likely, none.usd.likely) == pytest.approx((0.005, 0.0075))
    assert forecast_rationales(pool, teacher=teacher, **given).note == both
    assert forecast_rationales(pool, teacher=live, **given).note.startswith(f"{both}; ")
    prompts = DistillInputs(questions=pool[:20], teacher=teacher, **given).prompts
    wanted = [prepare(Request(prompt.turns), teacher) for prompt in prompts]
    with BatchLedger(tmp_path / "l", "fake", sends=True) as ledger:
        ledger.claim([(each.key, each.worst_usd) for each in wanted], Caps())
        assert ledger.hand_over("file", 20, "batch-1")
    after = forecast_rationales(pool, teacher=teacher, **given)
    assert (after.questions, after.in_batch, after.calls) == (30, 20, (10, 10, 10))
    assert after.usd.likely == pytest.approx(0.0025)
    assert "0 replies in the ledger, 20 in a batch that is out; 10 calls" in after.line()
    note = forecast_rationales(pool, teacher=live, **given).note
    assert note.startswith("set teacher.batch=true to take the batch's replies; ")
    assert forecast_rationales(
        pool, teacher=replace(teacher, budget_usd=0.006), **given
    ).note.endswith(  # 20 replies at 0.00025 are reserved
        "teacher.budget_usd=0.006 leaves 0.0010 USD, and about 0.0025 are needed: the run would "
        "stop there and keep what it bought"
    )
    assert not server.log


def test_the_forecast_sends_nothing_and_knows_the_ledger(server, tmp_path):
    teacher = make(server, max_tokens=500, **priced(1.0))
    pool = [question(n) for n in range(30)]

    def forecast():
        return forecast_rationales(
            pool, prompt=PromptConfig(), teacher=teacher, ledger_path=tmp_path / "l"
        )

    before = forecast()
    assert (before.from_ledger, before.calls.likely) == (0, 30)
    assert before.usd.high == pytest.approx(30 * 500e-6)
    assert not list(tmp_path.iterdir())
    write_rationales(pool[:25], prompt=PromptConfig(), teacher=teacher, ledger_path=tmp_path / "l")
    after = forecast()
    assert (after.from_ledger, after.calls.likely) == (25, 5)
    assert after.completion_tokens.likely == 5 * 10  # what the 25 replies took
    assert len(server.log) == 25
    assert after.note == ""
    # 25 replies of 10 tokens cost 250e-6 USD, five more 50e-6.
    for calls, usd, note in (
        (30, 301e-6, ""),
        (28, 301e-6, "teacher.max_calls=28 leaves 3 calls, and about 5 are needed"),
        (
            None,
            251e-6,
            "teacher.budget_usd=0.000251 leaves 0.0000 USD, and about 0.0001 are needed",
        ),
    ):
        teacher.max_calls, teacher.budget_usd = calls, usd
        stops = ": the run would stop there and keep what it bought"
        assert forecast().note == (note and note + stops)
    assert forecast().line().endswith("about 0.0001 are needed" + stops)
    teacher.attempts, teacher.max_calls, teacher.budget_usd = 2, 45, None
    assert forecast().note == (
        "teacher.max_calls=45 leaves 20 calls, enough for the likely cost and not for the highest"
    )


def test_the_forecast_counts_what_is_asked_again(server, tmp_path):
    """As the advice about wrong replies has it: teacher.attempts=2, and a look before buying."""
    server.write = lambda call: "So. [[A]]" if "1?" in call.question else "So. [[9]]"
    pool = [question(n) for n in (1, 3, 11, 13, 15)]  # three of them are answered wrong
    given = {"prompt": PromptConfig(), "ledger_path": tmp_path / "l"}

    def forecast(attempts, **dials):
        teacher = make(server, attempts=attempts, **priced(1.0), **dials)
        return forecast_rationales(pool, teacher=teacher, **given)

    assert forecast(3).calls == (5, 5, 15)
    ask_server(server, pool[:4], tmp_path)
    assert forecast(1).calls == (1, 1, 1)
    after = forecast(3)
    assert (after.questions, after.from_ledger) == (5, 4)
    assert after.calls == (1 + 2, 1 + 2, 3 + 2 * 2)
    ask_server(server, pool[:4], tmp_path, attempts=2)
    assert forecast(2).calls == (1, 1, 2)
    assert forecast(3).calls == (1 + 2, 1 + 2, 3 + 2)
    ask_server(server, pool, tmp_path, attempts=3)
    assert forecast(3).calls == (0, 0, 0)
    asked = len(server.log)
    assert "0 calls" in forecast(3).line()
    assert len(server.log) == asked


def test_what_is_out_in_a_batch_may_be_asked_again(server, tmp_path):
    teacher = make(server, batch=True, batch_price_factor=0.5, attempts=3)
    given = {"prompt": PromptConfig(), "ledger_path": tmp_path / "l"}
    pool = [question(n) for n in range(2)]
    prompts = DistillInputs(questions=pool, teacher=teacher, **given).prompts
    key = prepare(Request(prompts[0].turns), teacher).key
    with BatchLedger(tmp_path / "l", "fake", sends=True) as ledger:
        ledger.claim([(key, 0.0)], Caps())
        assert ledger.hand_over("file", 1, "batch-1")
    after = forecast_rationales(pool, teacher=teacher, **given)
    assert (after.in_batch, after.calls) == (1, (1, 1, 3 + 2))


@pytest.mark.parametrize(("extra", "most"), [({}, 500), ({"max_tokens": 9000}, 9000),
                                             ({"max_completion_tokens": 9000}, 9000)])  # fmt: skip
def test_the_forecast_goes_up_to_the_limit_that_is_sent(server, tmp_path, extra, most):
    teacher = make(server, max_tokens=500, extra=extra, **priced(1.0))
    forecast = forecast_rationales(
        [question(1)], prompt=PromptConfig(), teacher=teacher, ledger_path=tmp_path / "l"
    )
    assert forecast.completion_tokens.high == most
    assert forecast.usd.high == pytest.approx(most * 1e-6)


def test_shots_are_shown_to_the_teacher(server, tmp_path):
    write_rationales(
        [question(1)], prompt=PromptConfig(), teacher=make(server), ledger_path=tmp_path / "l",
        shots=[question(2, rationale="2 is twice 1."), question(4)],
    )  # fmt: skip
    turns = [turn["content"].split("\n")[0] for turn in server.log[0].body["messages"][1:]]
    assert turns == ["Number 2?", "2 is twice 1. [[B]]", "Number 1?"]


# Other targets


def test_reasoning_that_the_method_trains_is_asked_for_by_the_same_prompt(server, tmp_path):
    server.think = lambda call: {} if call.question.startswith("Number 3") else {"reasoning": "Hm."}
    pool = [question(n) for n in (1, 3, 5)]
    plain = ask_server(server, pool, tmp_path)
    assert [(r.refusal, r.reasoning) for r in plain] == [("", "Hm."), ("", None), ("", "Hm.")]
    rationales = write_rationales(
        pool, prompt=PromptConfig(), teacher=make(server), ledger_path=tmp_path / "l",
        target=Target.thinking,
    )  # fmt: skip
    assert [r.refusal for r in rationales] == ["", "no_reasoning", ""]
    assert len(server.log) == 3


def test_a_teacher_that_shows_no_reasoning_is_not_paid_for_more(server, tmp_path):
    with pytest.raises(UserError, match=r"refused as no_reasoning.*--reasoning-parser"):
        write_rationales(
            POOL, prompt=PromptConfig(), teacher=make(server), ledger_path=tmp_path / "l",
            target=Target.thinking,
        )  # fmt: skip
    assert len(server.log) == 20


def test_a_short_rationale_has_a_prompt_and_a_key_of_its_own(server, tmp_path):
    server.write = lambda call: (
        "Odd. [[A]]" if "shortest" in call.body["messages"][0]["content"] else solve(call)
    )

    def ask(target):
        (r,) = write_rationales(
            [question(1)], prompt=PromptConfig(), teacher=make(server), target=target,
            ledger_path=tmp_path / "l",
        )  # fmt: skip
        return r

    long, short = ask(Target.rationale), ask(Target.short_rationale)
    assert (short.text, short.target) == ("Odd. [[A]]", Target.short_rationale)
    assert long.ledger_key != short.ledger_key
    system, wording = (call.body["messages"][0]["content"] for call in server.log)
    assert wording == f"{system} {PromptConfig().short_rationale}"
    assert [ask(target).text for target in (Target.short_rationale, Target.rationale)] == [
        short.text, long.text,
    ]  # fmt: skip
    assert len(server.log) == 2


@pytest.mark.parametrize(("kind", "targets", "words"), [
    ("worked", {Target.short_rationale}, "teacher=worked has the texts that it has"),
    ("worked", {Target.thinking}, "teacher=worked has no reasoning"),
    ("file", {Target.short_rationale}, "teacher=file has the texts that it has"),
    ("file", {Target.thinking}, r"no row of teacher\.path=.* has the field reasoning"),
])  # fmt: skip
def test_a_teacher_that_cannot_write_a_target_is_refused_at_once(tmp_path, kind, targets, words):
    file = write_file(tmp_path / "r.jsonl", {"question_id": "q1", "text": "Odd. [[A]]"})
    teacher = file if kind == "file" else WorkedTeacherConfig(name="t")
    check_teacher(True, teacher, targets={Target.rationale})
    for fetch in (True, False):
        with pytest.raises(UserError, match=words) as caught:
            check_teacher(True, teacher, targets=targets, fetch=fetch)
        assert "\n" not in str(caught.value)


def test_a_file_may_have_reasoning(tmp_path):
    teacher = write_file(
        tmp_path / "r.jsonl",
        {"question_id": "q1", "text": "Odd. [[A]]", "reasoning": "Hm."},
        {"question_id": "q3", "text": "<think>Hm, 3.</think>Odd. [[A]]"},
        {"question_id": "q5", "text": "Odd. [[A]]", "reasoning": None},
    )
    check_teacher(False, teacher, targets={Target.thinking})
    rationales = from_file(teacher, [question(n) for n in (1, 3, 5)], tmp_path)
    assert [(r.text, r.reasoning) for r in rationales] == [
        ("Odd. [[A]]", "Hm."), ("Odd. [[A]]", "Hm, 3."), ("Odd. [[A]]", None),
    ]  # fmt: skip


def test_a_local_model_that_thinks_is_asked_apart(tmp_path):
    teacher = LocalModelTeacherConfig(name="local", id="a/b")
    asked = []

    def write(target):
        (r,) = write_rationales(
            [question(2)], prompt=PromptConfig(), teacher=teacher, ledger_path=tmp_path / "l",
            generate=lambda prompts, **_: asked.append(target) or [
                Written("<think>\nHm.\n</think>\n\nEven. [[B]]", 9)
            ], target=target,
        )  # fmt: skip
        return r

    thought, plain = write(Target.thinking), write(Target.rationale)
    assert (thought.text, thought.reasoning) == ("Even. [[B]]", "Hm.")
    assert thought.ledger_key != plain.ledger_key
    assert write(Target.thinking) == thought
    assert asked == [Target.thinking, Target.rationale]


# Worked solutions


def test_worked_solutions_are_closed_with_gold_and_never_made_up(tmp_path):
    questions = [question(2, rationale="2 is twice 1."), question(3), question(4, rationale=" ")]
    rationales = write_rationales(
        questions, prompt=PromptConfig(), teacher=WorkedTeacherConfig(name="worked"),
        ledger_path=tmp_path / "l",
    )  # fmt: skip
    assert rationales[0].text == "2 is twice 1. [[B]]"
    assert (rationales[0].agrees, rationales[0].usd, rationales[0].source) == (True, 0.0, "worked")
    missing = [("", "no_solution: the dataset has none for it")] * 2
    assert [(r.text, r.refusal) for r in rationales[1:]] == missing
    assert "fix the error" not in advise(name_reason(rationales[1]))
    assert not list(tmp_path.iterdir())


def test_a_worked_solution_that_ends_in_an_answer_is_judged_by_it(tmp_path):
    ends = ("So [[A]]", "So [[b]].", "Not [[A]], but twice 1.", "So it is [[even]]", "[[A or B]]")
    rationales = write_rationales(
        [replace(question(2, rationale=end), id=f"q{n}") for n, end in enumerate(ends)],
        prompt=PromptConfig(), teacher=WorkedTeacherConfig(name="worked"),
        ledger_path=tmp_path / "l",
    )  # fmt: skip
    assert [(r.text, r.refusal) for r in rationales] == [
        ("So [[A]]", "wrong"),
        ("So [[B]]", ""),
        ("Not [[A]], but twice 1. [[B]]", ""),
        ("So it is [[even]] [[B]]", ""),
        ("[[A or B]] [[B]]", ""),
    ]


# A file


def write_file(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return FileTeacherConfig(name="file", path=str(path))


def from_file(teacher, questions, tmp_path):
    return write_rationales(
        questions, prompt=PromptConfig(), teacher=teacher, ledger_path=tmp_path / "l"
    )


def test_rows_of_a_file_are_attempts_in_order(tmp_path):
    teacher = write_file(
        tmp_path / "r.jsonl",
        {"question_id": "q2", "text": "Odd. [[A]]"},
        "",
        {"question_id": "q2", "text": "Even. [[B]]"},
        {"question_id": "q3", "text": "Odd. [[A]]", "finish_reason": "length"},
        {"question_id": "q9", "text": "nobody asks"},
    )
    rationales = from_file(teacher, [question(2), question(3), question(4)], tmp_path)
    assert [(r.question_id, r.attempt, r.refusal.split(":")[0]) for r in rationales] == [
        ("q2", 0, "wrong"), ("q2", 1, ""), ("q3", 0, "cut_off"), ("q4", 0, "no_row"),
    ]  # fmt: skip


def test_a_file_may_be_given_from_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_file(tmp_path / "r.jsonl", {"question_id": "q2", "text": "Even. [[B]]"})
    teacher = FileTeacherConfig(name="file", path="~/r.jsonl")
    check_teacher(False, teacher)
    (row,) = from_file(teacher, [question(2)], tmp_path)
    assert row.text == "Even. [[B]]"


@pytest.mark.parametrize(("row", "words"), [
    ("{", r"r\.jsonl:2 is not a row like"), ("[]", "is not a row like"),
    ({"text": "x"}, "is not a row"),
    ({"question_id": "q1"}, "has no text"), ({"question_id": "q1", "text": 3}, "has no text"),
    ({"question_id": None, "text": "x"}, "is not a row like"),
    ('{"question_id": "q1", "text": "half \\ud800"}', "r\\.jsonl:2 holds half a surrogate"),
    ('{"question_id": "q1", "text": "x", "n": %s}' % ("9" * 5000), "is not a row like"),
    ("[" * 100_000, "is not a row like"),
    ({"question_id": "q1", "text": "x", "reasoning": ["x"]}, "has a reasoning that is no string"),
])  # fmt: skip
def test_bad_rows_are_named_by_file_and_line(tmp_path, row, words):
    teacher = write_file(tmp_path / "r.jsonl", {"question_id": "q1", "text": "x"}, row)
    with pytest.raises(UserError, match=words):
        from_file(teacher, [question(1)], tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    teacher = write_file(tmp_path / "r.jsonl", "\ufeff" + '{"question_id": "q1", "text": "[[B]]"}')
    assert [r.text for r in from_file(teacher, [question(1)], tmp_path)] == ["[[B]]"]


def test_a_file_of_other_questions_is_refused(tmp_path):
    teacher = write_file(tmp_path / "r.jsonl", {"question_id": 7, "text": "x"})
    with pytest.raises(
        UserError, match="such as '7', and none for those that are asked, such as 'q1'"
    ):
        from_file(teacher, [question(1)], tmp_path)


# A local model


@dataclass
class Written:
    text: str
    tokens: int


def test_a_local_model_goes_on_where_it_stopped(tmp_path):
    teacher = LocalModelTeacherConfig(name="local", id="a/b", max_tokens=9, batch_size=2)
    batches, moments = [], []

    def generate(prompts, **_):
        batches.append([prompt.messages[-1].content.split("?")[0] for prompt in prompts])
        if len(batches) == 2:
            raise KeyboardInterrupt
        return [Written("Even. [[B]]" if "2" in words else "Eve", 9) for words in batches[-1]]

    def write():
        return write_rationales(
            [question(n) for n in (2, 4, 6)], prompt=PromptConfig(), teacher=teacher,
            ledger_path=tmp_path / "l", generate=generate, progress=moments.append,
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        write()
    rationales = write()
    assert batches == [["Number 2", "Number 4"], ["Number 6"], ["Number 6"]]
    assert [(r.refusal, r.completion_tokens) for r in rationales] == [
        ("", 9),
        ("cut_off", 9),
        ("cut_off", 9),
    ]
    assert (moments[-1].done, moments[-1].from_ledger) == (3, 2)


def test_a_retrained_local_model_writes_again(tmp_path):
    folder = make_local_model(tmp_path / "model")
    teacher = LocalModelTeacherConfig(name="local", path=str(folder))
    asked = []

    def generate(prompts, **_):
        asked.extend(prompts)
        return [Written("Even. [[B]]", 3)] * len(prompts)

    def write():
        return write_rationales(
            [question(2)], prompt=PromptConfig(), teacher=teacher, ledger_path=tmp_path / "l",
            generate=generate,
        )  # fmt: skip

    assert write() == write()
    assert len(asked) == 1
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    write()
    assert len(asked) == 2


def test_a_folder_is_the_same_teacher_however_its_path_is_spelt(tmp_path, monkeypatch):
    folder = make_local_model(tmp_path / "model")
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    asked = []

    def generate(prompts, **_):
        asked.extend(prompts)
        return [Written("Even. [[B]]", 3)] * len(prompts)

    def write(path):
        teacher = LocalModelTeacherConfig(name="local", path=path)
        return write_rationales(
            [question(2)], prompt=PromptConfig(), teacher=teacher, ledger_path=tmp_path / "l",
            generate=generate,
        )  # fmt: skip

    keys = {write(path)[0].ledger_key for path in ("model", "./model", str(folder), "copy")}
    assert (len(keys), len(asked)) == (1, 1)


def test_replies_of_a_folder_are_found_under_the_key_that_they_had(tmp_path):
    folder = make_local_model(tmp_path / "model")
    teacher = LocalModelTeacherConfig(name="local", path=str(folder), max_tokens=9)
    prompt = write_prompt(question(2), PromptConfig(), Wanted.rationale, chat=True, shots=())
    body = {
        "weights": model_fingerprint(folder, name_model(teacher)),
        "model": f"local:{folder}",
        "messages": [[turn.role, turn.content] for turn in prompt.messages],
        "max_tokens": 9,
    }
    key = hashlib.sha256(json.dumps([body, 0], sort_keys=True).encode()).hexdigest()
    with Ledger(tmp_path / "l", f"local:{folder}") as ledger:
        reply = TeacherReply(key=key, text="Even. [[B]]", finish_reason="stop")
        ledger.commit([LedgerEntry(
            reply=reply, attempt=0, request="[]", endpoint="in process", usage_estimated=True
        )])  # fmt: skip
    (r,) = write_rationales(
        [question(2)], prompt=PromptConfig(), teacher=teacher, ledger_path=tmp_path / "l",
    )  # fmt: skip
    assert (r.ledger_key, r.refusal) == (key, "")


def test_replies_of_a_pinned_commit_keep_the_key_that_they_had(tmp_path):
    teacher = LocalModelTeacherConfig(name="local", id="a/b", revision="0" * 40, max_tokens=9)
    prompt = write_prompt(question(2), PromptConfig(), Wanted.rationale, chat=True, shots=())
    body = {
        "model": f"local:a/b@{'0' * 40}",
        "messages": [[turn.role, turn.content] for turn in prompt.messages],
        "max_tokens": 9,
    }
    key = hashlib.sha256(json.dumps([body, 0], sort_keys=True).encode()).hexdigest()
    (r,) = write_rationales(
        [question(2)], prompt=PromptConfig(), teacher=teacher, ledger_path=tmp_path / "l",
        generate=lambda prompts, **_: [Written("Even. [[B]]", 3)],
    )  # fmt: skip
    assert r.ledger_key == key


def drawing_teacher(**dials):
    return LocalModelTeacherConfig(
        name="local", id="a/b", revision="0" * 40, max_tokens=9, batch_size=2, **dials
    )


def test_a_refused_reply_of_a_local_model_is_drawn_again_and_kept_by_attempt(tmp_path):
    teacher = drawing_teacher(attempts=3, reask_temperature=0.7, top_p=0.9, seed=5)
    asked = []

    def generate(prompts, names, sampling, attempt):
        asked.append((names, sampling.temperature, sampling.top_p, sampling.seed, attempt))
        return [
            Written("Even. [[B]]" if name == "q2" or attempt == 2 else "Odd. [[A]]", 5)
            for name in names
        ]

    def write(teacher):
        return write_rationales(
            [question(n) for n in (2, 4)], prompt=PromptConfig(), teacher=teacher,
            ledger_path=tmp_path / "l", generate=generate,
        )  # fmt: skip

    rationales = write(teacher)
    assert asked == [
        (["q2", "q4"], 0.0, 0.9, 5, 0),
        (["q4"], 0.7, 0.9, 5, 1),
        (["q4"], 0.7, 0.9, 5, 2),
    ]
    assert [(r.question_id, r.attempt, r.refusal) for r in rationales] == [
        ("q2", 0, ""),
        ("q4", 0, "wrong"),
        ("q4", 1, "wrong"),
        ("q4", 2, ""),
    ]
    assert write(teacher) == rationales
    # The first, greedy replies are those of any other settings; drawn ones are not.
    write(drawing_teacher())
    assert len(asked) == 3
    write(drawing_teacher(attempts=2, reask_temperature=0.7, top_p=0.9, seed=6))
    assert asked[3:] == [(["q4"], 0.7, 0.9, 6, 1)]


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"top_k": 5}, r"teacher\.top_k=5 does nothing while teacher\.temperature=0 takes the"),
        ({"attempts": 2, "reask_temperature": 0.0}, "would buy the same reply again"),
    ],
)
def test_settings_of_a_local_model_that_do_nothing_are_refused(dials, message):
    with pytest.raises(UserError, match=message):
        drawing_teacher(**dials)
    assert drawing_teacher(temperature=0.5, top_k=5).temperature_of(0) == 0.5


# Checks before anything loads


def make_local_model(folder):
    shutil.copytree(locate_model(TinyModelConfig(name="tiny", id="qwen2")), folder)
    return folder


def test_a_local_model_without_a_chat_template_is_refused_before_anything_runs(tmp_path):
    folder = make_local_model(tmp_path / "model")
    teacher = LocalModelTeacherConfig(name="t", path=str(folder))
    check_teacher(False, teacher)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = folder / "tokenizer_config.json"
    values = json.loads(config.read_text())
    values.pop("chat_template", None)
    config.write_text(json.dumps(values))
    for fetch in (False, True):
        with pytest.raises(UserError, match=r"teacher\.path=.* has no chat template"):
            check_teacher(False, teacher, fetch=fetch)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"teacher\.path=.* has no model\.safetensors"):
        check_teacher(False, teacher)


@pytest.mark.parametrize(("teacher", "words"), [
    (WorkedTeacherConfig(name="t"), r"has none; .*teacher=file, openai, openrouter"),
    (FileTeacherConfig(name="t"), "path is not set"),
    (FileTeacherConfig(name="t", path="missing.jsonl"), "missing.jsonl is not a file"),
    (FileTeacherConfig(name="t", path="empty.jsonl"), "empty.jsonl has no rows"),
    (FileTeacherConfig(name="t", path="bad.jsonl"), "bad.jsonl:1 is not a row like"),
    (LocalModelTeacherConfig(name="t"), "needs a model"),
    (LocalModelTeacherConfig(name="t", path="missing"), "is not a folder"),
])  # fmt: skip
def test_teachers_that_cannot_do_it_are_refused_early(monkeypatch, tmp_path, teacher, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "bad.jsonl").write_text('{"id": "1"}\n')
    with pytest.raises(UserError, match=words):
        check_teacher(False, teacher)


def test_teachers_that_can():
    check_teacher(True, WorkedTeacherConfig(name="t"))
    near = OpenAITeacherConfig(name="t", base_url="http://localhost", model="m")
    check_paid(near, pays=True)


def test_a_paid_endpoint_without_prices_is_refused(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-something")
    teacher = OpenAITeacherConfig(name="t", base_url="https://a.example.com", model="m")
    with pytest.raises(UserError, match="no price is known for m"):
        check_paid(teacher, pays=True)
    check_paid(teacher, pays=False)
    teacher.usd_per_million_prompt_tokens = 0.0
    with pytest.raises(UserError, match=r"give teacher\.usd_per_million_completion_tokens \("):
        check_paid(teacher, pays=True)
    teacher.usd_per_million_completion_tokens = 0.0
    check_paid(teacher, pays=True)


def test_a_forecast_without_prices_counts_tokens_and_names_the_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-something")
    teacher = OpenAITeacherConfig(
        name="t", base_url="https://a.example.com", model="m", budget_usd=5
    )
    forecast = forecast_rationales(
        [question(1)], prompt=PromptConfig(), teacher=teacher, ledger_path=tmp_path / "l"
    )
    assert (forecast.usd, forecast.calls.likely) == (None, 1)
    assert forecast.completion_tokens.likely == 731
    assert forecast.line().endswith(
        "tokens out, USD unknown; no run starts without teacher.usd_per_million_prompt_tokens and "
        "teacher.usd_per_million_completion_tokens"
    )
    teacher.usd_per_million_completion_tokens = 1.0
    teacher.usd_per_million_prompt_tokens = 0.0
    priced = forecast_rationales(
        [question(1)], prompt=PromptConfig(), teacher=teacher, ledger_path=tmp_path / "l"
    )
    assert priced.usd.likely == pytest.approx(731e-6)
