"""Teachers in a whole run: replies are bought once, judged, counted and only then trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

WRONG = 5
"""Questions, by number, that the teacher gets wrong: those below this."""


def write_numbers(path: Path, *, solutions: bool = False) -> Path:
    """Forty questions whose gold option is told by their number."""
    rows = []
    for number in range(40):
        row = {
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
