"""Scores against a plain loop over transformers, one unpadded row at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from caft.errors import UserError
from caft.models.config import Architecture, TinyModelConfig
from caft.models.encoding import end_of_turn
from caft.models.reply_rules import ReplyRules
from caft.models.sources.tiny import make_config
from caft.models.sources.tiny_tokenizers import make_tokenizer
from caft.records import AnswerScore, Question, WrittenReply
from caft.score.module import NextToken, ScoringModule, plan_scoring
from caft.score.prepare import ScoringRow, prepare_rows
from caft.score.read import answer_span, estimate_answer, read_answers, without_end
from caft.text.config import PromptConfig, PromptStyle
from caft.text.parsing import first_line
from caft.text.prompts import Wanted
from caft.trainers.build import build_trainer
from caft.trainers.config import TrainerConfig
from caft.trainers.replies import ReplyModule, ReplyName
from numerics import (
    DTYPES,
    Chain,
    assert_as_exact,
    chain_of,
    in_float64,
    tied_for_best,
)

pytestmark = pytest.mark.numerics

CHAT, COMPLETION = PromptStyle.chat, PromptStyle.completion


@pytest.fixture(scope="module", params=list(Architecture), ids=lambda each: each.value)
def student(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return make_student(request.param)


@pytest.fixture(scope="module")
def exact(student: tuple[Any, Any]) -> tuple[Any, Any]:
    """The same in float64, where no two tokens are tied and nothing but a fault moves a score."""
    return in_float64(student[0]), student[1]


def make_student(architecture: Architecture) -> tuple[Any, Any]:
    tokenizer = make_tokenizer(architecture)
    config = make_config(TinyModelConfig(name="t", id="t", architecture=architecture), tokenizer)
    torch.manual_seed(4)
    return AutoModelForCausalLM.from_config(config).float().eval(), tokenizer


QUESTIONS = [
    Question(
        id=f"q{number}",
        text=f"What is {number} + 3?" + " Mind the step." * (number % 4),
        options=tuple(str(number + offset) for offset in range(2 + number % 3)),
        gold_index=number % 2,
        subject="math",
    )
    for number in range(12)
]
CLOSED = Question(id="closed", text="9 - 4 =", answer_set=tuple("123456789"), gold_index=4)
FREE = Question(id="free", text="Who wrote Emma?", gold_text="Jane Austen")


def score(
    model: Any,
    tokenizer: Any,
    folder: Path,
    *,
    questions: Sequence[Question] = QUESTIONS,
    style: PromptStyle = CHAT,
    batch_tokens: int = 2048,
    shots: Sequence[Question] = (),
) -> list[AnswerScore]:
    rows = prepare_rows(questions, PromptConfig(style=style), tokenizer, shots)
    prefix_ids, packs = plan_scoring(rows, batch_tokens)
    module = ScoringModule(model, prefix_ids)
    trainer = build_trainer(TrainerConfig(accelerator="cpu", progress=False), folder=folder)
    loader = torch.utils.data.DataLoader(packs, batch_size=None)
    said = {item.question_id: item for batch in trainer.predict(module, loader) for item in batch}
    ends = sorted(
        {end_of_turn(tokenizer, chat=bool(tokenizer.chat_template)), tokenizer.eos_token_id}
    )
    prompts = [(ReplyName(row.question_id), row.prompt_ids) for row in rows if not row.labels]
    replies = ReplyModule(model, tokenizer, spread_of(6, ends), rows=4).write(dict(prompts))
    written = {reply.question_id: without_end(reply, ends) for reply in replies}
    return read_answers(rows, questions, said, written, tokenizer)


def spread_of(max_new_tokens: int, end_ids: Sequence[int] = ()) -> ReplyRules:
    return ReplyRules(
        max_new_tokens=max_new_tokens,
        end_ids=tuple(end_ids),
        stop_after_marker=False,
        with_spread=True,
    )


def bare(each: AnswerScore) -> AnswerScore:
    return replace(each, estimates={}, option_probabilities=())


@torch.no_grad()
def logits_plainly(model: Any, row: ScoringRow) -> torch.Tensor:
    """[1, vocabulary] of the answer, one row in one forward pass."""
    return torch.as_tensor(model(input_ids=torch.tensor([row.prompt_ids])).logits[:, -1])


def score_plainly(model: Any, row: ScoringRow) -> dict[str, float]:
    """One row, one forward pass, float64 from the logits on."""
    p = torch.softmax(logits_plainly(model, row)[0].double(), -1)
    first, second = p.sort(descending=True).values[:2]
    estimates = {
        "answer_entropy": float(-(p * p.log()).sum()),
        "top1_probability": float(first),
        "top1_margin": float(first - second),
    }
    if row.label_ids:
        own = p[list(row.label_ids)]
        among = own / own.sum()
        estimates["option_mass"] = float(own.sum())
        estimates["option_entropy"] = float(-(among * among.log()).sum())
        estimates["gold_cross_entropy"] = float(-own[row.labels.index(row.gold)].log())
    return estimates


def line_up(estimates: Sequence[Mapping[str, float | None]]) -> torch.Tensor:
    """All numbers of a table, in float64, in an order of their own."""
    numbers = [row[name] for row in estimates for name in sorted(row)]
    return torch.tensor([number for number in numbers if number is not None]).double()


def assert_scored_as_exactly(
    model: Any, rows: Sequence[ScoringRow], scores: Sequence[AnswerScore]
) -> None:
    """As a plain loop over the rows scores them, both against float64."""
    usual, truth = (
        line_up([score_plainly(each, row) for row in rows]) for each in (model, in_float64(model))
    )
    said = line_up([each.estimates for each in scores])
    assert_as_exact(said, usual, truth, chain_of(model), model.dtype)


def outcomes(model: Any, tokenizer: Any, row: ScoringRow) -> set[tuple[str | None, bool, bool]]:
    """What may be predicted, whether it is valid and correct: one, or several that are tied."""
    usual, truth = (logits_plainly(each, row) for each in (model, in_float64(model)))
    labels = dict(zip(row.label_ids, row.labels, strict=True))
    return {
        (
            labels.get(token) or tokenizer.decode([token]).strip(),
            token in labels,
            labels.get(token) == row.gold,
        )
        for token in tied_for_best(usual, truth, chain_of(model))[0]
    }


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("style", [CHAT, COMPLETION])
def test_scores_are_those_of_a_plain_loop(
    student: tuple[Any, Any], tmp_path: Path, style: PromptStyle, dtype: torch.dtype
) -> None:
    model, tokenizer = deepcopy(student[0]).to(dtype), student[1]
    questions = [*QUESTIONS, CLOSED]
    rows = prepare_rows(questions, PromptConfig(style=style), tokenizer, QUESTIONS[:1])
    scores = score(
        model, tokenizer, tmp_path, questions=questions, style=style, shots=QUESTIONS[:1]
    )
    assert [each.question_id for each in scores] == [each.id for each in questions]
    assert_scored_as_exactly(model, rows, scores)
    for row, each in zip(rows, scores, strict=True):
        # The same numbers, kept twice.
        size, gold = len(tokenizer), each.option_probabilities[row.labels.index(row.gold)]
        rounding = Chain(width=size, depth=3).roundoff(torch.float32) * math.log(size)
        assert sum(each.option_probabilities) == pytest.approx(
            each.estimates["option_mass"], rel=rounding
        )
        assert -math.log(gold) == pytest.approx(each.estimates["gold_cross_entropy"], rel=rounding)
        said = (each.predicted, each.valid, each.correct)
        assert said in outcomes(model, tokenizer, row)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_a_subject_shares_is_run_once_a_pack(
    student: tuple[Any, Any], tmp_path: Path, dtype: torch.dtype
) -> None:
    model, tokenizer = deepcopy(student[0]).to(dtype), student[1]
    subjects = ("the history of mathematics", "law", "the history of mathematics of Rome")
    questions = [replace(each, subject=subjects[n % 3]) for n, each in enumerate(QUESTIONS)]
    rows = prepare_rows(questions, PromptConfig(style=CHAT), tokenizer, [])
    _, (pack,) = plan_scoring(rows, most_tokens=10_000)
    assert sum(count for shared, count in pack.groups if shared >= 16) == len(rows)
    assert len(pack.groups) == len(subjects)
    assert_scored_as_exactly(model, rows, score(model, tokenizer, tmp_path, questions=questions))


def test_entropies_differ_from_question_to_question(
    student: tuple[Any, Any], tmp_path: Path
) -> None:
    # Else the tests here would pass on a score that never looks at the question.
    entropies = {round(s.estimates["answer_entropy"], 4) for s in score(*student, tmp_path)}
    assert len(entropies) > len(QUESTIONS) // 2


def assert_equal_scores(scores: Sequence[AnswerScore], others: Sequence[AnswerScore]) -> None:
    """Of float64 models: their logits are read in float32."""
    for one, other in zip(scores, others, strict=True):
        assert bare(one) == bare(other)
        assert one.option_probabilities == pytest.approx(other.option_probabilities, rel=1e-5)
        assert one.estimates == pytest.approx(other.estimates, abs=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_the_size_of_a_pass_changes_no_score(
    exact: tuple[Any, Any], tmp_path: Path, batch_tokens: int
) -> None:
    scores = score(*exact, tmp_path, batch_tokens=batch_tokens)
    assert_equal_scores(scores, score(*exact, tmp_path))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch_tokens", [1, 60])
def test_passes_of_every_size_are_as_exact(
    student: tuple[Any, Any], tmp_path: Path, batch_tokens: int, dtype: torch.dtype
) -> None:
    model, tokenizer = deepcopy(student[0]).to(dtype), student[1]
    rows = prepare_rows(QUESTIONS, PromptConfig(style=CHAT), tokenizer, [])
    scores = score(model, tokenizer, tmp_path, batch_tokens=batch_tokens)
    assert_scored_as_exactly(model, rows, scores)


def test_a_score_does_not_depend_on_the_other_questions(
    exact: tuple[Any, Any], tmp_path: Path
) -> None:
    together = score(*exact, tmp_path)
    reverse = score(*exact, tmp_path, questions=QUESTIONS[::-1])
    assert [each.question_id for each in reverse] == [each.id for each in QUESTIONS[::-1]]
    alone = score(*exact, tmp_path, questions=QUESTIONS[5:6])
    assert_equal_scores([reverse[-6], alone[0]], [together[5]] * 2)


def test_the_shared_prefix_is_run_once_and_the_rest_packed() -> None:
    start = tuple(range(20))
    rows = [ScoringRow(str(n), (*start, 50 + n, *[7] * n), (), (), "") for n in range(3)]
    prefix_ids, packs = plan_scoring(rows[::-1], most_tokens=4)
    assert prefix_ids == start
    assert [[row.question_id for row in pack.rows] for pack in packs] == [["0", "1"], ["2"]]
    assert packs[0].lay_out()[0].input_ids.tolist() == [[50, 51, 7]]
    assert packs[0].lay_out()[0].position_ids.tolist() == [[20, 20, 21]]
    assert packs[0].lay_out()[1].tolist() == [0, 2]


def test_a_short_common_start_is_not_shared() -> None:
    rows = [ScoringRow(str(n), (1, 2, 3, n), (), (), "") for n in range(2)]
    prefix_ids, packs = plan_scoring(rows, most_tokens=100)
    assert prefix_ids == ()
    assert packs[0].lay_out()[0].input_ids.tolist() == [[1, 2, 3, 0, 1, 2, 3, 1]]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_name_a_question(tmp_path: Path, bad: float) -> None:
    model, tokenizer = make_student(Architecture.llama)
    with torch.no_grad():
        model.lm_head.weight[9] = bad
    with pytest.raises(UserError, match=r"question q\d+: the model's logits are not finite"):
        score(model, tokenizer, tmp_path)


@pytest.mark.parametrize("style", [CHAT, COMPLETION])
def test_free_text_is_written_out_and_compared(
    exact: tuple[Any, Any], tmp_path: Path, style: PromptStyle
) -> None:
    model, tokenizer = exact
    questions = [QUESTIONS[0], FREE, CLOSED]
    free = score(model, tokenizer, tmp_path, questions=questions, style=style)[1]
    row = prepare_rows([FREE], PromptConfig(style=style), tokenizer, [])[0]
    assert free.estimates["option_entropy"] is None
    assert free.estimates["option_mass"] is None
    assert free.estimates["answer_entropy"] == pytest.approx(
        estimate_plainly(model, tokenizer, row, free.predicted)[0], rel=1e-5
    )
    # The model's own greedy words are right when they are gold, and only then.
    assert not free.correct
    if free.valid:
        told = replace(FREE, gold_text=free.predicted)
        assert score(model, tokenizer, tmp_path, questions=[told], style=style)[0].correct


def estimate_plainly(model: Any, tokenizer: Any, row: ScoringRow, answer: str) -> list[float]:
    """Entropies of the first line's tokens, greedy, one forward pass over everything a token."""
    ids, entropies, text = list(row.prompt_ids), [], ""
    for _ in range(6):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        p = torch.softmax(logits.double(), -1)
        ids.append(int(logits.argmax()))
        entropies.append(float(-(p * p.log()).sum()))
        text = tokenizer.decode(ids[len(row.prompt_ids) :])
        if not text.strip():
            entropies.clear()  # white space before the answer is not the answer
        elif "\n" in text.lstrip():
            break
    if not answer:
        return [score_plainly(model, row)["answer_entropy"]]
    return entropies


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_spread_of_every_written_token_is_that_of_a_plain_loop(
    student: tuple[Any, Any], dtype: torch.dtype
) -> None:
    model, tokenizer = deepcopy(student[0]).to(dtype), student[1]
    rows = prepare_rows(QUESTIONS[:3], PromptConfig(style=CHAT), tokenizer, [])
    writer = ReplyModule(model, tokenizer, spread_of(5), rows=3)
    prompts = {ReplyName(row.question_id): row.prompt_ids for row in rows}
    replies = {reply.question_id: reply for reply in writer.write(prompts)}

    @torch.no_grad()
    def spreads(of_model: Any, row: ScoringRow) -> list[list[float]]:
        """Entropy, top-1 probability and margin of each place, behind the same tokens."""
        ids = torch.tensor([[*row.prompt_ids, *replies[row.question_id].ids[:-1]]])
        logits = of_model(ids).logits[0, len(row.prompt_ids) - 1 :]
        p = torch.softmax(logits.double(), -1)
        first, second = p.topk(2).values.unbind(-1)
        return [(-(p * p.log()).sum(-1)).tolist(), first.tolist(), (first - second).tolist()]

    said = [
        [reply.entropies, reply.top1, reply.margins]
        for reply in (replies[row.question_id] for row in rows)
    ]
    usual, truth = ([spreads(each, row) for row in rows] for each in (model, in_float64(model)))
    assert_as_exact(
        *(torch.tensor(each, dtype=torch.float64) for each in (said, usual, truth)),
        chain_of(model),
        dtype,
    )


def test_the_entropies_of_an_answer_are_those_of_its_own_tokens() -> None:
    # "\n", " 4", "2", "\n", "Question": the answer is 42, its entropies 0.5 and 0.25.
    reply = WrittenReply("q", "", 5, [1, 2, 3, 4, 5], [3.0, 0.5, 0.25, 2.0, 4.0],
                         [0.1, 0.8, 0.9, 0.2, 0.1], [0.0, 0.7, 0.8, 0.1, 0.0])  # fmt: skip
    span = answer_span(["\n", " 4", "2", "\n", "Question"])
    assert span == slice(1, 3)
    assert estimate_answer(reply, span) == {
        "answer_entropy": 0.5, "top1_probability": 0.8, "top1_margin": 0.7,
        "answer_mean_entropy": 0.375, "answer_sum_entropy": 0.75,
    }  # fmt: skip
    assert estimate_answer(reply, answer_span(["\n", " ", "", " ", "\n"])) == {}


def test_an_end_token_is_no_word_of_the_reply() -> None:
    reply = WrittenReply("q", "so", 2, [7, 9], [0.5, 0.1], [0.6, 0.9], [0.2, 0.8])
    assert without_end(reply, [9]) == WrittenReply("q", "so", 2, [7], [0.5], [0.6], [0.2])
    assert without_end(reply, [7]) == reply


def test_a_model_may_decline_and_declining_is_one_more_reply(student: tuple[Any, Any]) -> None:
    _, tokenizer = student
    config = PromptConfig(style=CHAT)
    texts = set()
    for wanted in (Wanted.answer, Wanted.fallback_certain, Wanted.fallback_known):
        row = prepare_rows(QUESTIONS[:1], config, tokenizer, [], wanted)[0]
        texts.add(tokenizer.decode(row.prompt_ids))
        assert row.labels == (("A", "B") if wanted is Wanted.answer else ("A", "B", "0"))
    assert len(texts) == 3
    zero = replace(CLOSED, answer_set=tuple("0123"), gold_index=1)
    with pytest.raises(UserError, match="question closed has 0 among its answers"):
        prepare_rows([zero], config, tokenizer, [], Wanted.fallback_known)


def test_free_text_of_a_base_model_without_a_template(tmp_path: Path) -> None:
    model, tokenizer = make_student(Architecture.llama)
    tokenizer.chat_template = None
    (free,) = score(model, tokenizer, tmp_path, questions=[FREE], style=PromptStyle.auto)
    assert free.estimates["answer_entropy"] is not None


def test_a_token_that_is_no_label_is_invalid_and_wrong() -> None:
    tokenizer = make_tokenizer(Architecture.qwen2)
    row = prepare_rows(QUESTIONS[:1], PromptConfig(), tokenizer, [])[0]
    other = tokenizer.convert_tokens_to_ids("Z")
    said = {"q0": NextToken("q0", other, {"answer_entropy": 0.5})}
    assert read_answers([row], QUESTIONS, said, {}, tokenizer) == [
        AnswerScore(
            question_id="q0",
            predicted="Z",
            valid=False,
            correct=False,
            estimates={"answer_entropy": 0.5, "gold_cross_entropy": None},
        )
    ]


def test_the_right_and_the_wrong_label() -> None:
    tokenizer = make_tokenizer(Architecture.qwen2)
    row = prepare_rows(QUESTIONS[:1], PromptConfig(), tokenizer, [])[0]
    read = [
        read_answers([row], QUESTIONS, {"q0": NextToken("q0", token, {})}, {}, tokenizer)[0]
        for token in row.label_ids
    ]
    assert [(each.predicted, each.correct) for each in read] == [("A", True), ("B", False)]


@pytest.mark.parametrize(
    ("reply", "line"),
    [("\n Jane Austen \nQuestion:", "Jane Austen"), ("", ""), (" \n ", ""), ("x", "x")],
)
def test_a_free_answer_is_the_first_line(reply: str, line: str) -> None:
    assert first_line(reply) == line
