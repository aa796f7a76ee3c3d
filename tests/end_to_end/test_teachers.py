"""Teachers in a whole run: replies are bought once, judged, counted and only then trained on."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from caft.models.config import TinyModelConfig
from caft.models.sources.locate import locate_model

WRONG = 5
"""Questions, by number, that the teacher gets wrong: those below this."""
MATCHES = ("calls", "tokens")


def write_numbers(path: Path, *, solutions: bool = False) -> Path:
    """Forty questions whose gold option is told by their number."""
    rows = []
    for number in range(40):
        row = {
            "id": f"n{number:02}",
            "question": f"Is number {number:02} even?",
            "options": ["yes", "no"],
            "answer": "AB"[number % 2],
        }
        rows.append(row | ({"how": "Look at the last digit."} if solutions else {}))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def teach(call: Any) -> str:
    """Right for most, wrong for some, without an answer for number 39."""
    number = int(call.question.split("number ")[1][:2])
    if number == 39:
        return "I would rather not say."
    answer = "AB"[(number + (number < WRONG)) % 2]
    return f"The number {number} ends in {number % 10}. [[{answer}]]"


@pytest.fixture
def words(small: Any, tmp_path: Path, server: Any) -> tuple[str, ...]:
    server.write = teach
    return (
        *small.tiny,
        "dataset=local",
        f"dataset.train_path={write_numbers(tmp_path / 'numbers.jsonl')}",
        "dataset.max_new_tokens=6",
        "evaluation.modes=[answer]",
        "method=distill",
        "method.stages.0.epochs=1",
        "teacher=openai",
        f"teacher.base_url={server.base_url}",
        "teacher.model=fake",
        "teacher.backoff_seconds=0.01",
        "+teacher.prices={fake:{prompt:1.0,completion:2.0}}",
    )


def texts(run: Any) -> list[dict[str, Any]]:
    return run.rows("rationales")


@pytest.mark.parametrize("keep", ["correct", "all"])
def test_replies_are_bought_once_and_only_accepted_ones_are_trained_on(
    workshop: Any, words: tuple[str, ...], server: Any, keep: str
) -> None:
    run = workshop.run(*words, f"teacher.keep={keep}")
    assert run.status == 0, run.err
    rows = texts(run)
    assert len(rows) == len(server.log) == 32
    refusals = [row["refusal"] for row in rows if row["refusal"]]
    wrong = sum(not row["agrees"] and row["answer"] is not None for row in rows)
    assert wrong > 0
    assert refusals.count("wrong") == (wrong if keep == "correct" else 0)
    assert set(refusals) <= {"wrong", "unparsable"}
    assert run.summary["cost"]["teacher_refused"] == dict(Counter(refusals))
    for reason, count in Counter(refusals).items():
        assert f"{count} {reason}" in " ".join(run.out.split())
    (stage,) = run.summary["method"]["stages"]
    assert stage["examples"] == 32 - len(refusals)
    cost = run.summary["cost"]
    assert cost["teacher_calls"] == 32
    assert cost["teacher_prompt_tokens"] == 32 * 20
    assert cost["teacher_completion_tokens"] == 32 * 10
    assert cost["teacher_usd"] == pytest.approx(32 * (20 * 1.0 + 10 * 2.0) / 1e6)
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    for reason in set(refusals):
        assert reason in page


def test_a_second_run_another_seed_and_another_rule_buy_nothing_again(
    workshop: Any, words: tuple[str, ...], server: Any
) -> None:
    first = workshop.run(*words, "until=distill")
    bought = len(server.log)
    second = workshop.run(*words, "until=distill")
    third = workshop.run(*words, "seed=7", "teacher.keep=all", "until=distill")
    assert (first.status, second.status, third.status) == (0, 0, 0)
    assert len(server.log) == bought == 32
    assert first.cached == []
    assert second.cached == second.stages == ["score", "distill"]
    # Another rule makes another table of the same replies; nothing was asked for it, see above.
    assert third.cached == ["score"]
    # The rows say what the replies once cost, whoever paid.
    assert second.summary["cost"]["teacher_usd"] == first.summary["cost"]["teacher_usd"] > 0


def test_a_dry_run_asks_nothing_and_says_what_asking_would_cost(
    workshop: Any, words: tuple[str, ...], server: Any
) -> None:
    dry = workshop.run(*words, "dry_run=true")
    assert (dry.status, server.log) == (0, [])
    assert "USD" in dry.out
    assert workshop.made() == []
    assert workshop.run(*words, "until=distill").status == 0
    after = workshop.run(*words, "dry_run=true")
    assert len(server.log) == 32
    distill = next(row for row in after.out.splitlines() if row.split()[:1] == ["distill"])
    assert "cached" in distill


def test_classes_that_the_method_answers_are_never_paid_for(
    workshop: Any, words: tuple[str, ...], server: Any, small: Any
) -> None:
    run = workshop.run(*words, small.two_stages, "until=distill")
    assert run.status == 0, run.err
    hard = run.summary["split"]["counts"]["hard"]
    assert len(server.log) == hard < 32
    by_id = {row["question_id"]: row["complexity"] for row in run.rows("scores")}
    assert {by_id[row["question_id"]] for row in texts(run)} == {"hard"}


def test_answer_rows_are_checked_before_the_teacher_is_paid(
    workshop: Any, words: tuple[str, ...], server: Any, small: Any
) -> None:
    run = workshop.run(*words, small.two_stages, "tuning.max_length=10")
    assert run.status == 2
    assert "exceed the 10 allowed" in run.err
    assert server.log == []


def test_an_empty_class_is_refused_before_the_teacher_is_paid(
    workshop: Any, words: tuple[str, ...], server: Any, small: Any
) -> None:
    run = workshop.run(
        *words, small.two_stages, "split=entropy_threshold", "split.thresholds=[-2,-1]"
    )
    assert run.status == 2
    assert server.log == []


def test_a_class_whose_rationales_were_all_refused_stops_before_the_first_stage_is_tuned(
    workshop: Any, words: tuple[str, ...], server: Any, small: Any
) -> None:
    server.write = lambda call: "I would rather not say."
    run = workshop.run(*words, small.two_stages)
    assert run.status == 2
    assert "no accepted rationale is left" in run.err
    assert [made.split("/")[0] for made in workshop.made()] == ["distill", "score"]
    # What was paid for is kept all the same.
    bought = len(server.log)
    assert workshop.run(*words, small.two_stages).status == 2
    assert len(server.log) == bought > 0


def test_replies_that_end_in_words_nobody_knows_are_not_bought_to_the_last(
    workshop: Any, words: tuple[str, ...], server: Any
) -> None:
    server.finish_reason = "weird"
    words = (*words, "until=distill", "teacher.keep=correct")
    run = workshop.run(*words)
    assert run.status == 2
    assert "fake wrote 20 replies first, all refused as not_finished: weird" in run.err
    assert len(server.log) == 20
    # Both ways out that it names lead on, and nothing is bought twice.
    insisting = workshop.run(*words, "teacher.probe_replies=0")
    assert insisting.status == 0, insisting.err
    assert insisting.summary["cost"]["teacher_refused"] == {"not_finished: weird": 32}
    assert "32 not_finished: weird" in " ".join(insisting.out.split())
    helped = workshop.run(*words, "teacher.keep=all")
    assert helped.status == 0, helped.err
    assert len(server.log) == 32
    assert all(not row["refusal"] or row["refusal"] == "unparsable" for row in texts(helped))


def test_a_store_that_lost_its_ledger_is_noticed_before_anything_is_bought_again(
    workshop: Any, words: tuple[str, ...], server: Any
) -> None:
    assert workshop.run(*words, "until=distill").status == 0
    (workshop.store / "ledger.sqlite").unlink()
    for more in ("dry_run=true", "seed=1"):
        again = workshop.run(*words, "until=distill", more)
        assert again.status == 2
        assert "ledger.sqlite is missing, and had 32 replies" in again.err
    assert len(server.log) == 32


def test_a_budget_that_is_used_up_ends_with_2_and_a_higher_one_goes_on(
    workshop: Any, words: tuple[str, ...], server: Any
) -> None:
    short = workshop.run(*words, "teacher.max_calls=10", "until=distill")
    assert short.status == 2
    assert "max_calls" in short.err.splitlines()[-1]
    assert len(server.log) == 10
    assert not (short.folder / "summary.json").exists()
    whole = workshop.run(*words, "teacher.max_calls=100", "until=distill")
    assert whole.status == 0, whole.err
    assert len(server.log) == 32


def test_worked_solutions_are_wanted_where_there_are_none(
    workshop: Any, small: Any, tmp_path: Path
) -> None:
    file = write_numbers(tmp_path / "numbers.jsonl")
    words = (*small.tiny, "dataset=local", f"dataset.train_path={file}", "method=distill")
    run = workshop.run(*words, "teacher=worked")
    assert run.status == 2
    assert run.err.count("\n") == 1
    for teacher in ("openai", "transformers_serve", "local_model", "file"):
        assert teacher in run.err
    assert workshop.made() == []
    # No teacher is needed by who looks at the scores first, or who trains on answers only.
    assert workshop.run(*words, "until=score").status == 0
    assert workshop.run(*words, "method=sft", "until=distill").status == 0


def test_a_local_model_that_cannot_be_asked_in_turns_is_refused_before_the_scoring(
    workshop: Any, small: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(locate_model(TinyModelConfig(name="tiny", id="tiny")), folder)
    words = (*small.words, "method=distill", "teacher=local_model", f"teacher.path={folder}")
    template = folder / "chat_template.jinja"
    for text, said in (
        ("{{ raise_exception('no system turns here') }}", "template refuses the prompt: no system"),
        (None, f"teacher.path={folder} has no chat template"),
    ):
        template.write_text(text) if text else template.unlink()
        run = workshop.run(*words)
        assert run.status == 2
        assert said in run.err
        assert run.err.count("\n") == 1
    assert workshop.made() == []


def test_a_dataset_that_has_them_teaches_for_free(
    workshop: Any, small: Any, tmp_path: Path
) -> None:
    file = write_numbers(tmp_path / "numbers.jsonl", solutions=True)
    run = workshop.run(
        *small.tiny,
        "dataset=local",
        f"dataset.train_path={file}",
        "dataset.columns.rationale=how",
        "method=distill",
        "until=distill",
    )
    assert run.status == 0, run.err
    rows = texts(run)
    assert len(rows) == 32
    assert {row["text"][:-5].strip() for row in rows} == {"Look at the last digit."}
    assert run.summary["cost"]["teacher_usd"] == 0


def test_the_papers_own_command_says_what_it_would_do_before_prices_are_known(
    workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-nobody")
    rows = [
        {
            "question_id": number,
            "question": f"Is number {number} even?",
            "options": ["yes", "no", "nobody knows"],
            "answer": "AB"[number % 2],
            "answer_index": number % 2,
            "cot_content": "",
            "category": "math",
        }
        for number in range(60)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sizes = ("dataset.train=40", "dataset.validation=8", "dataset.test=8")
    words = ("experiment=paper_v2_qwen", f"dataset.path={file}", *sizes)
    dry = workshop.run(*words, "dry_run=true")
    assert dry.status == 0, dry.err
    # The table folds its lines wherever a column ends.
    said = "".join(dry.out.split())
    assert "10questions,0repliesintheledger" in said
    assert "USDunknown" in said
    assert "Notedistill:norunstartswithoutteacher.usd_per_million_prompt_tokens" in said
    run = workshop.run(*words)
    assert run.status == 2
    assert "no price is known for deepseek/deepseek-chat" in run.err


def hard_numbers(workshop: Any, words: tuple[str, ...]) -> list[int]:
    rows = workshop.run(*words, "until=split").rows("scores")
    hard = [row for row in rows if (row["split"], row["complexity"]) == ("train", "hard")]
    return sorted(int(row["question_id"].removeprefix("n")) for row in hard)


def teach_worse_where_it_is_hard(hard: list[int]) -> Any:
    """Of four hard questions one is right at once, one when asked again and two never.

    Of four others one is right only when asked again.
    """

    def write(call: Any) -> str:
        number, again = int(call.question.split("number ")[1][:2]), call.body["seed"] > 0
        right = (
            [True, again, False, False][hard.index(number) % 4]
            if number in hard
            else again or number % 4 > 0
        )
        return f"{'I look closely. ' * (number % 5)}So. [[{'AB'[(number + (not right)) % 2]}]]"

    return write


def test_a_random_arm_whose_teacher_is_asked_again_costs_and_keeps_what_the_entropy_arm_does(
    workshop: Any, words: tuple[str, ...], server: Any, small: Any
) -> None:
    words = (*words, small.two_stages, "dataset.columns.id=id", "teacher.attempts=2")
    arms = {match: (*words, "split=random", f"split.match={match}") for match in MATCHES}
    for matched in arms.values():
        unscored = workshop.run(*matched, "dry_run=true")
        # A quarter of 32 twice, of which a quarter is the same.
        assert "asmanydrawn:14questions" in "".join(unscored.out.split())
    hard = hard_numbers(workshop, words)
    assert len(hard) == 8
    server.write = teach_worse_where_it_is_hard(hard)
    for matched in arms.values():
        scored = "".join(workshop.run(*matched, "dry_run=true").out.split())
        told = re.search(r"asmanydrawn:(\d+)questions,0replies", scored)
        assert told
        assert 8 < int(told[1]) <= 16
    assert server.log == []

    entropy = workshop.run(*words, "until=distill")
    budget = entropy.summary["cost"]
    assert budget["teacher_calls"] == 2 + 2 * 2 + 4 * 2
    kept = [row for row in texts(entropy) if not row["refusal"]]
    assert len(kept) == 4
    for match, seed in product(MATCHES, (1, 2)):
        run = workshop.run(*arms[match], f"seed={seed}", "until=distill")
        assert run.status == 0, run.err
        cost = run.summary["cost"]
        # One question is two calls of ten tokens at most.
        assert abs(cost["teacher_calls"] - budget["teacher_calls"]) <= 2
        spent = cost["teacher_completion_tokens"] - budget["teacher_completion_tokens"]
        assert abs(spent) <= 2 * 10
        ours = [row for row in texts(run) if not row["refusal"]]
        if match == "calls":
            assert len(ours) == len(kept)
        else:
            longest = max(len(row["text"]) for row in [*ours, *kept])
            lengths = [sum(len(row["text"]) for row in rows) for rows in (ours, kept)]
            assert abs(lengths[0] - lengths[1]) <= longest
