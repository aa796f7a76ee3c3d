"""Every kind of estimator cuts by a word of the command line, and its price is in the bill."""

from __future__ import annotations

import math
from typing import Any

import pytest

from caft.hydra_bridge import compose
from caft.models.config import TinyModelConfig
from caft.models.sources.locate import locate_model
from caft.pipeline.beforehand import refuse_beforehand
from caft.pipeline.tracking import list_products
from caft.run_config import RunContext

SCORE_ONLY = ("until=split", "dataset.train=30", "dataset.validation=6", "dataset.test=6")


def judge(server: Any, *more: str) -> tuple[str, ...]:
    return (
        f"score.judge.base_url={server.base_url}",
        "score.judge.model=fake",
        "score.judge.usd_per_million_prompt_tokens=0",
        "score.judge.usd_per_million_completion_tokens=1000",
        *more,
    )


@pytest.mark.parametrize(
    ("estimator", "stages"),
    [
        ("option_entropy", ["score"]),
        ("gold_cross_entropy", ["score"]),
        ("fallback_entropy", ["score", "score fallback"]),
        ("p_true", ["score", "score p_true"]),
        ("verbalized", ["score", "score verbalized"]),
        ("cot_mean_entropy", ["score", "score chains"]),
        ("answer_frequency", ["score", "score samples"]),
        ("pass_rate", ["score", "score samples"]),
        ("rationale_length", ["score", "distill"]),
    ],
)
def test_the_stages_are_those_that_the_estimator_needs(
    shared: Any, small: Any, estimator: str, stages: list[str]
) -> None:
    run = shared.run(*small.words, *SCORE_ONLY, f"split.estimator={estimator}")
    assert (run.status, run.err) == (0, "")
    assert run.stages == stages
    products = {product.kind: product for product in list_products(run.summary, run.folder)}
    assert products["scores"].fingerprint == run.fingerprint("score")
    score, split = run.summary["score"], run.summary["split"]
    assert score["estimator"] == split["estimator"] == estimator
    assert score["roc_auc"][estimator]["n"] == 30
    assert sum(split["counts"].values()) == 30
    known = estimator not in ("gold_cross_entropy", "pass_rate", "rationale_length")
    assert split["held_out_by"] == (None if known else "answer_entropy")
    assert {row["complexity"] for row in run.rows("scores")} <= {"easy", "middle", "hard"}
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    for text in (run.out.replace("\n", " "), page):
        assert ("placed by answer entropy" in text) == (not known)
        if estimator == "gold_cross_entropy":
            assert "cross-entropy of the gold answer (circular)" in text
        if estimator == "pass_rate":
            assert "share of sampled chains that are right (circular)" in text
    if (drawn := score["samples"]) is not None:
        # Held-out questions are asked only where the estimate may place them.
        assert drawn["n"] == 30 * 8


def test_both_fallback_wordings_are_passes_of_their_own(shared: Any, small: Any) -> None:
    words = (*small.words, *SCORE_ONLY, "score.estimators=[fallback_entropy]")
    runs = [shared.run(*words, f"score.fallback={wording}") for wording in ("certain", "known")]
    assert [run.summary["score"]["fallback"]["wording"] for run in runs] == ["certain", "known"]
    assert all(run.summary["score"]["fallback"]["n"] == 30 for run in runs)
    assert runs[0].fingerprint("score fallback") != runs[1].fingerprint("score fallback")
    assert runs[0].fingerprint("score") == runs[1].fingerprint("score")


def test_a_judge_is_paid_once_and_stands_in_the_bill(
    workshop: Any, small: Any, server: Any
) -> None:
    # Every third question is unreadable for the judge.
    server.write = lambda call: f"[[{len(call.question) % 4}]]" if len(call.question) % 3 else "hm"
    words = (*small.words, *SCORE_ONLY, "split.estimator=judge_steps", *judge(server))
    plan = workshop.run(*words, "dry_run=true")
    assert "score judge" in plan.out
    assert server.log == []
    run = workshop.run(*words)
    assert run.status == 0, run.err
    assert len(server.log) == 42
    cost = run.summary["cost"]
    assert (cost["judge_calls"], cost["teacher_calls"]) == (42, 0)
    assert cost["judge_usd"] == pytest.approx(42 * 10 * 1000 / 1e6)
    assert "42 judge calls" in run.out
    unread = [row for row in run.rows("scores") if row["judge_steps"] is None]
    assert run.summary["split"]["unreadable"] == len(unread)
    assert {row["complexity"] for row in unread} <= {"hard"}
    again = workshop.run(*words)
    assert len(server.log) == 42
    assert again.summary["split"] == run.summary["split"]


def test_the_teachers_endpoint_judges_where_no_other_is_named(
    workshop: Any, small: Any, server: Any
) -> None:
    server.write = lambda call: "[[undergraduate]]"
    run = workshop.run(
        *small.words, *SCORE_ONLY, "score.estimators=[judge_education]",
        "teacher=vllm", f"teacher.base_url={server.base_url}", "teacher.model=fake",
    )  # fmt: skip
    assert run.status == 0, run.err
    assert {row["judge_education"] for row in run.rows("scores")} == {2.0}


def test_an_endpoints_log_probabilities_cut_the_classes_and_stand_in_the_bill(
    workshop: Any, small: Any, server: Any
) -> None:
    server.usage = {"prompt_tokens": 20, "completion_tokens": 1}
    # Of the nine answers it is sure of one, or of none: then no student is less sure.
    sure, open_ = ({"1": first, **dict.fromkeys("23456789", 0.01)} for first in (0.92, 0.01))
    server.top = lambda call: sure if sum(map(ord, call.question)) % 2 else open_
    words = (
        *small.words, *SCORE_ONLY, "split.estimator=option_entropy_gain", "teacher=vllm",
        f"teacher.base_url={server.base_url}", "teacher.model=fake",
        "teacher.usd_per_million_prompt_tokens=0",
        "teacher.usd_per_million_completion_tokens=1000",
    )  # fmt: skip
    plan = workshop.run(*words, "dry_run=true")
    assert "30 calls" in " ".join(plan.out.split())
    assert server.log == []
    run = workshop.run(*words)
    assert run.status == 0, run.err
    assert run.stages == ["score", "score teacher options"]
    assert len(server.log) == 30
    cost = run.summary["cost"]
    assert (cost["teacher_calls"], cost["judge_calls"]) == (30, 0)
    assert cost["teacher_usd"] == pytest.approx(30 * 1000 / 1e6)
    train = [row for row in run.rows("scores") if row["option_entropy_gain"] is not None]
    assert len(train) == 30
    teachers = (-0.92 * math.log(0.92) - 0.08 * math.log(0.01), math.log(9))
    gains = {row["option_entropy_gain"]: row for row in train}
    assert len(gains) > 25
    for gain, row in gains.items():
        assert gain in [pytest.approx(row["option_entropy"] - nats) for nats in teachers]
    easy, middle, hard = (
        [gain for gain, row in gains.items() if row["complexity"] == name]
        for name in ("easy", "middle", "hard")
    )
    assert max(easy) < min(middle) < max(middle) < min(hard)
    assert min(easy) < 0
    again = workshop.run(*words)
    assert len(server.log) == 30
    assert again.summary["split"] == run.summary["split"]


def test_a_teachers_entropies_are_those_of_its_own_run_or_of_a_pass(
    shared: Any, small: Any
) -> None:
    """The teacher has other weights, in bfloat16; it is less sure of some of the questions."""
    words = (*small.words, *SCORE_ONLY)
    own = shared.run(*words, "model.weights_seed=2", "model.dtype=bfloat16")
    teacher = {row["question_id"]: row["answer_entropy"] for row in own.rows("scores")}
    folder = locate_model(TinyModelConfig(name="tiny", id="tiny", weights_seed=2))
    wanted = (*words, "split.estimator=entropy_gain")
    filed = shared.run(*wanted, f"score.teacher_entropies={own.folder / 'scores.parquet'}")
    passed = shared.run(*wanted, "teacher=local_model", f"teacher.path={folder}")
    assert (filed.stages, passed.stages) == (["score"], ["score", "score teacher"])
    for run in (filed, passed):
        assert (run.status, run.err) == (0, "")
        assert run.summary["split"]["counts"] == {"easy": 8, "middle": 14, "hard": 8}
        assert run.summary["split"]["held_out_by"] == "answer_entropy"
        train = [row for row in run.rows("scores") if row["split"] == "train"]
        gains = {row["question_id"]: row["entropy_gain"] for row in train}
        assert gains == pytest.approx(
            {row["question_id"]: row["answer_entropy"] - teacher[row["question_id"]]
             for row in train}, abs=1e-3
        )  # fmt: skip
        assert sum(gain < 0 for gain in gains.values()) > 8
        by_gain = sorted(train, key=lambda row: row["entropy_gain"])
        assert [row["complexity"] for row in by_gain] == (
            ["easy"] * 8 + ["middle"] * 14 + ["hard"] * 8
        )


def test_an_endpoint_without_log_probabilities_is_refused_before_a_model_is_found(
    workshop: Any, small: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = workshop.folder / "cache"
    monkeypatch.setenv("CAFT_CACHE", str(cache))
    server.top = lambda call: {}
    words = (
        *small.words, *SCORE_ONLY, "split.estimator=option_entropy_gain", "teacher=vllm",
        f"teacher.base_url={server.base_url}", "teacher.model=fake",
    )  # fmt: skip
    # A sweep asks for nothing when it checks its jobs.
    assert refuse_beforehand(compose(words), RunContext(folder=workshop.folder / "job"))
    assert server.log == []
    # The reply is kept, so that the second run buys none.
    for _ in range(2):
        run = workshop.run(*words)
        assert run.status == 2
        assert run.err.count("\n") == 1
        assert f"fake at {server.base_url} gives no log-probabilities, which" in run.err
        assert len(server.log) == 1
    assert workshop.made() == []
    assert not cache.exists()


def test_lengths_buy_every_rationale_and_the_dry_run_says_so(
    workshop: Any, small: Any, server: Any
) -> None:
    words = (
        *small.words, "dataset.train=30", "split.estimator=rationale_length", "teacher=vllm",
        f"teacher.base_url={server.base_url}", "teacher.model=fake", "teacher.keep=all",
    )  # fmt: skip
    plan = workshop.run(*words, "dry_run=true")
    assert "EVERY training question" in " ".join(plan.out.split())
    assert server.log == []
    run = workshop.run(*words, "until=score")
    assert run.status == 0, run.err
    assert len(server.log) == 30
    assert run.summary["cost"]["teacher_calls"] == 30
    further = workshop.run(*words, "until=distill")
    assert len(server.log) == 30
    assert further.summary["cost"]["teacher_calls"] == 30


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["split.estimator=judge_steps"], "give score.judge.base_url="),
        (["split.estimator=answer_mean_entropy"], "for free-text answers"),
        (["score.estimators=[cot_meen_entropy]"], "did you mean cot_mean_entropy"),
        (["split.estimator=entropy"], "did you mean"),
        (["score.estimators=[cot_mean_entropy]", "score.chain.max_new_tokens=2040"],
         "which leaves less than 2040"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_refused_before_anything_is_scored(
    workshop: Any, small: Any, words: list[str], said: str
) -> None:
    run = workshop.run(*small.words, "until=score", *words)
    assert run.status == 2
    assert run.err.count("\n") == 1
    assert said in run.err
    assert workshop.made() == []
