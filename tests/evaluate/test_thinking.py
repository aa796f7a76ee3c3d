"""The contract of every template family that thinks: thinking on, off, capped, and graded.

The model is a real one whose head is made to say a script, a token a pass: what it would write is
known, and what the cap makes of it can be told from that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

from caft.errors import UserError
from caft.evaluate.config import EvaluationConfig
from caft.evaluate.stage import ReplyInputs
from caft.models.config import Architecture, Dtype, TinyModelConfig
from caft.models.reply_rules import ReplyRules
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from caft.models.thinking_cap import thinking_rules
from caft.records import Mode, Prediction, Question
from caft.report.run.accuracy import summarise_accuracy
from caft.report.run.page_tables import tabulate_accuracy
from caft.report.run.thinking import list_thinking
from caft.text.config import PromptConfig
from caft.text.prompts import Wanted
from caft.trainers.config import TrainerConfig
from numerics import in_float64
from replies import generate_replies
from thinking_families import FAMILIES, Family, make_thinking_tokenizer, tokenizer_with

NAMES = [family.name for family in FAMILIES]
QUESTION = Question(id="q", text="Which?", options=("red", "blue"), gold_index=1)
PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
MOST, CAP = 60, 20


def make_random_model(words: int) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "qwen2", vocab_size=words, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048,
        initializer_range=0.5,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).float().eval()


@lru_cache
def blank_model(words: int) -> Any:
    return make_random_model(words)


class Scripted(Student):
    """A student that writes the tokens of `script`, whatever it is asked."""

    script: Sequence[int] = ()

    def load_for_inference(self) -> Any:
        """The model, whose n-th pass says the n-th token."""
        model, said = blank_model(len(self.tokenizer)), iter(self.script)

        def say(_module: Any, _inputs: Any, logits: torch.Tensor) -> torch.Tensor:
            fixed = torch.zeros_like(logits)
            fixed[..., next(said)] = 1.0
            return fixed

        model.lm_head._forward_hooks.clear()
        model.lm_head.register_forward_hook(say)
        return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = str(tmp_path_factory.mktemp("models"))
    return locate_model(
        TinyModelConfig(name="t", id="t", architecture=Architecture.qwen2, cache=cache)
    )


def asking(tokenizer: Any, folder: Path, script: str = "", **dials: Any) -> ReplyInputs:
    config = TinyModelConfig(name="t", id="t", dtype=Dtype.float32)
    student = Scripted(config, folder, "cpu", _opened={"tokenizer": tokenizer})
    ids = tokenizer(script, add_special_tokens=False).input_ids
    object.__setattr__(student, "script", [*ids, tokenizer.eos_token_id])
    given = {
        "wanted": Wanted.rationale, "max_new_tokens": MOST, "prompt": PromptConfig(), **dials,
    }  # fmt: skip
    return ReplyInputs(
        student=student, questions=[QUESTION], shots=(), batch_size=1,
        trainer=TrainerConfig(accelerator="cpu", progress=False), **given,
    )  # fmt: skip


def reply(family: Family, folder: Path, place: Path, script: str, **dials: Any) -> Prediction:
    prompt = PromptConfig(system_turn=family.system_turn)
    work = asking(make_thinking_tokenizer(family), folder, script, prompt=prompt, **dials)
    place.mkdir(exist_ok=True)
    work.produce(place)
    (prediction,) = ReplyInputs.read(place)
    return prediction


def count(family: Family, text: str) -> int:
    return len(make_thinking_tokenizer(family)(text, add_special_tokens=False).input_ids)


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_a_model_that_is_to_think_is_graded_by_what_follows(
    family: Family, folder: Path, tmp_path: Path
) -> None:
    thought = f"{family.lead}Red? [[A]]{family.bridge}"
    told = reply(family, folder, tmp_path, f"{thought}So [[B]] and on", thinking=True)
    # The marker among the thoughts ended nothing, and the one behind them did.
    assert told.text == f"{thought}So [[B]]"
    assert (told.parsed, told.correct, told.obeyed) == ("B", True, True)
    assert told.generated_tokens == count(family, told.text)
    assert 0 < told.thinking_tokens <= count(family, thought)


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_an_answer_inside_an_unfinished_span_is_none(
    family: Family, folder: Path, tmp_path: Path
) -> None:
    told = reply(family, folder, tmp_path, f"{family.lead}So [[B]]", thinking=True)
    assert (told.parsed, told.correct, told.obeyed) == (None, False, False)
    # Its end token is a part of the span that it was written in.
    assert told.thinking_tokens == told.generated_tokens == count(family, told.text) + 1


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_a_span_at_its_cap_is_closed_and_the_answer_has_its_own_budget(
    family: Family, folder: Path, tmp_path: Path
) -> None:
    rules = thinking_rules(make_thinking_tokenizer(family))
    assert rules is not None
    passed = count(family, family.lead)
    # What the model says while the span is being closed is not written. A digit is one token.
    thoughts = "7" * (CAP - passed + len(rules.closing_ids))
    script = f"{family.lead}{thoughts}So [[B]]"
    dials = {"thinking": True, "max_thinking_tokens": CAP, "max_new_tokens": 12}
    told = reply(family, folder, tmp_path, script, **dials)
    assert told.text == f"{family.lead}{'7' * (CAP - passed)}{family.bridge}So [[B]]"
    assert (told.parsed, told.obeyed) == ("B", True)
    assert told.thinking_tokens == CAP + len(rules.closing_ids)
    assert told.generated_tokens - told.thinking_tokens == count(family, "So [[B]]") <= 12


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_a_model_that_is_not_to_think_obeys_by_writing_no_span(
    family: Family, folder: Path, tmp_path: Path
) -> None:
    told = reply(family, folder, tmp_path / "obeys", "So [[B]]", thinking=False)
    assert (told.parsed, told.obeyed, told.thinking_tokens) == ("B", True, 0)
    script = f"{family.lead or '<think>'}Red? [[A]]{family.bridge}So [[B]]"
    told = reply(family, folder, tmp_path / "thinks", script, thinking=False)
    assert (told.parsed, told.obeyed) == ("B", False)
    assert told.thinking_tokens > 0


def test_without_a_wish_prompts_are_as_with_false_and_nothing_is_said(
    folder: Path, tmp_path: Path
) -> None:
    for family in FAMILIES:
        tokenizer = make_thinking_tokenizer(family)
        prompt = PromptConfig(system_turn=family.system_turn)
        one, other, thinks = (
            asking(tokenizer, folder, prompt=prompt, thinking=each) for each in (None, False, True)
        )
        assert one.prompts == other.prompts
        assert (thinks.prompts == one.prompts) is (family.asked == family.not_asked)
        assert len({str(each.key) for each in (one, other, thinks)}) == 3
        bracketed = asking(tokenizer, folder, wanted=Wanted.bracketed, thinking=True)
        assert bracketed.asked_to_think is None  # answer mode never thinks
    told = reply(FAMILIES[0], folder, tmp_path, "So [[B]]")
    assert (told.obeyed, told.thinking_tokens) == (None, 0)


def test_a_reply_without_cap_is_cut_while_it_thinks(folder: Path, tmp_path: Path) -> None:
    told = reply(FAMILIES[1], folder, tmp_path, "So [[B]]" * 20, thinking=True)
    assert (told.generated_tokens, told.thinking_tokens, told.parsed) == (MOST, MOST, None)


def test_capped_replies_are_the_same_however_many_are_written_at_once() -> None:
    tokenizer = make_thinking_tokenizer(FAMILIES[1])
    thinking, generator = thinking_rules(tokenizer, 5), torch.Generator().manual_seed(3)
    assert thinking is not None
    torch.manual_seed(5)
    model = in_float64(make_random_model(len(tokenizer)))
    opening = tokenizer("<|im_start|>assistant\n<think>\n", add_special_tokens=False).input_ids
    prompts = [
        [*torch.randint(0, 256, (3 * n + 1,), generator=generator).tolist(), *opening]
        for n in range(7)
    ]
    rules = ReplyRules(max_new_tokens=4, end_ids=(), thinking=thinking)
    alone, *others = (
        generate_replies(model, tokenizer, prompts, rules, rows=rows) for rows in (1, 3, 64)
    )
    assert others == [alone, alone]
    assert {reply.thinking_tokens for reply in alone} == {5 + len(thinking.closing_ids)}
    assert {reply.tokens - reply.thinking_tokens for reply in alone} == {4}
    assert len({reply.ids for reply in alone}) > 3


# What is refused


def test_a_model_without_a_span_is_not_asked_to_think(folder: Path) -> None:
    tokenizer = tokenizer_with(PLAIN)
    with pytest.raises(UserError, match=r"evaluation\.thinking is true.*no thinking span; set"):
        asking(tokenizer, folder, thinking=True).check()
    asking(tokenizer, folder, thinking=False).check()


def test_nothing_is_said_of_a_model_that_cannot_think(folder: Path, tmp_path: Path) -> None:
    work = asking(tokenizer_with(PLAIN), folder, "So [[B]]", thinking=False)
    work.produce(tmp_path)
    (told,) = ReplyInputs.read(tmp_path)
    assert (told.parsed, told.obeyed) == ("B", None)


def test_prompt_cap_and_answer_have_to_fit_into_the_context(folder: Path) -> None:
    tokenizer = make_thinking_tokenizer(FAMILIES[0])
    asking(tokenizer, folder, thinking=True, max_thinking_tokens=1800).check()
    with pytest.raises(UserError, match=r"leaves less than 20\d\d of the model's 2048") as told:
        asking(tokenizer, folder, thinking=True, max_thinking_tokens=2000).check()
    advised = re.search(r"set evaluation.max_thinking_tokens=(\d+) or less", str(told.value))
    assert advised
    most = int(advised[1])
    asking(tokenizer, folder, thinking=True, max_thinking_tokens=most).check()
    with pytest.raises(UserError, match="leaves less than"):
        asking(tokenizer, folder, thinking=True, max_thinking_tokens=most + 1).check()


def test_a_cap_of_a_span_that_no_reply_can_have_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"=9 does nothing.* set evaluation.max_thinking_tokens=nu"):
        asking(tokenizer_with(PLAIN), folder, max_thinking_tokens=9).check()
    # Some models think unasked.
    asking(make_thinking_tokenizer(FAMILIES[0]), folder, max_thinking_tokens=9).check()


def test_thinking_without_rationales_is_refused_by_the_config() -> None:
    with pytest.raises(UserError, match=r"only rationales are thought about; add rationale"):
        EvaluationConfig(modes=[Mode.answer], thinking=True)
    EvaluationConfig(modes=[Mode.answer], thinking=False)


# What the report says


def told(tokens: int, thinking: int, obeyed: bool | None) -> Prediction:
    return Prediction(question_id="q", text="", parsed="B", correct=True, generated_tokens=tokens,
                      thinking_tokens=thinking, obeyed=obeyed)  # fmt: skip


def test_the_summary_has_tokens_and_obedience_where_a_model_thinks() -> None:
    def summarise(*rows: Prediction) -> Any:
        return summarise_accuracy(rows, {"q": "easy"}, {"q": ""}, ["easy"], 0.95)

    silent = summarise(told(8, 0, None))
    assert not {"thinking_tokens", "obeyed"} & silent.keys()
    thinks = summarise(told(100, 90, True), told(20, 0, False))
    assert thinks["thinking_tokens"] == 90
    assert (thinks["obeyed"]["value"], thinks["obeyed"]["n"]) == (0.5, 2)
    part: Any = {"base": {"answer": silent, "rationale": thinks, "routed": None}, "tuned": None}
    assert list(list_thinking(part)) == [
        "base: 45.0 thinking and 15.0 other tokens a rationale; mode obeyed in 50.0% (9.5 to 90.5)"
    ]
    assert {"of these, thinking", "mode obeyed"} <= heads_of(part)
    part["base"]["rationale"] = silent
    assert not {"of these, thinking", "mode obeyed"} & heads_of(part)
    assert list(list_thinking(part)) == []


def heads_of(part: Any) -> set[str]:
    return {column.name for column in tabulate_accuracy(part, ["easy"]).columns}
