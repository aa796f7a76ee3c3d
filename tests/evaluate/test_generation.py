"""Greedy replies of a tiny Llama: a batch says what each prompt says alone, and tokens are counted.

The model's output head is rewritten so that the next token is a table of the last one: replies
are then known beforehand. Where batching is tested, the random model is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from caft.errors import UserError
from caft.models.generation import GeneratedReply, _Writer, stream_replies
from caft.models.reply_rules import ReplyRules, has_ended
from caft.models.sampling import Sampling
from caft.text.parsing import has_closed_marker
from caft.trainers.build import build_trainer
from caft.trainers.config import TrainerConfig
from caft.trainers.replies import ReplyModule, ReplyName, plan_replies
from numerics import DTYPES, assert_greedy, in_float64
from replies import generate_replies

TOKENS = ("<pad>", "<end>", "<stop>", "a", "b", "c", "[[", "]]", "A", " ", "d", "e", "f", "g")
SIZE = 32


def ids(*tokens: str) -> list[int]:
    return [TOKENS.index(token) for token in tokens]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({t: i for i, t in enumerate(TOKENS)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<stop>",
        pad_token="<pad>",
        extra_special_tokens=["<end>"],
    )


def make_model(architecture: str = "llama") -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(TOKENS),
        hidden_size=SIZE,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(4)
    return AutoModelForCausalLM.from_config(config).float().eval()


def reciting_model(successors: dict[str, str]) -> Any:
    """A model that follows every token by its successor in the table."""
    model = make_model()
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(len(TOKENS), SIZE))
        model.lm_head.weight.zero_()
        for token, successor in successors.items():
            model.lm_head.weight[TOKENS.index(successor), TOKENS.index(token)] = 1.0
    return model


def write(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    *,
    rows: int = 128,
    names: Sequence[str] = (),
    samples: Sequence[int] = (),
    **dials: Any,
) -> list[Any]:
    rules = ReplyRules(**{"max_new_tokens": 12, "end_ids": (1, 2), **dials})
    return generate_replies(
        model, tokenizer, prompts, rules, rows=rows, names=names, samples=samples
    )


def draw_prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(3, len(TOKENS), (length,), generator=generator).tolist()
        for length in (1, 9, 4, 17, 2, 30)
    ]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "phi3"])
def test_a_batch_of_prompts_of_all_lengths_says_what_each_says_alone(tokenizer, architecture):
    # In float64: two tokens that are as good as tied would else be told apart by rounding.
    model, prompts = in_float64(make_model(architecture)), draw_prompts()
    together = write(model, tokenizer, prompts)
    alone = [write(model, tokenizer, [prompt])[0] for prompt in prompts]
    assert together == alone
    # Were all replies the same, the padding could not have been seen to matter.
    assert len({reply.text for reply in alone}) > 3


# Rows that refill


def many_prompts(count: int) -> list[list[int]]:
    """Prompts of all lengths behind four tokens that they share."""
    generator = torch.Generator().manual_seed(1)
    return [
        [3, 4, 5, 11, *torch.randint(3, len(TOKENS), (length,), generator=generator).tolist()]
        for length in (1 + (7 * k) % 23 for k in range(count))
    ]


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_a_reply_is_the_same_however_many_are_written_at_once(tokenizer, rows, window):
    model, prompts = in_float64(make_model("phi3")), many_prompts(20)
    model.config.sliding_window = window
    dials = {"end_ids": (1, 2, 6, 12), "max_new_tokens": 30, "stop_after_marker": False}
    alone = [write(model, tokenizer, [prompt], **dials)[0] for prompt in prompts]
    # Some end early and some at the cap, or no row would have been filled again.
    assert len({reply.tokens for reply in alone}) > 4
    assert write(model, tokenizer, prompts, rows=rows, **dials) == alone


@pytest.mark.parametrize("window", [None, 9])
def test_replies_longer_than_the_cache_was_made_for_are_those_of_transformers(tokenizer, window):
    model, prompts = in_float64(make_model("phi3")), many_prompts(5)
    model.config.sliding_window = window
    dials = {"end_ids": (), "max_new_tokens": 150, "stop_after_marker": False}
    replies = write(model, tokenizer, prompts, rows=2, **dials)
    for prompt, reply in zip(prompts, replies, strict=True):
        expected = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=150,
            do_sample=False,
            eos_token_id=None,
        )
        assert list(reply.ids) == expected[0, len(prompt) :].tolist()


SAMPLED = {
    "max_new_tokens": 30,
    "end_ids": (1, 2, 6, 12),
    "stop_after_marker": False,
    "sampling": Sampling(temperature=1.3, top_p=0.95, seed=7),
}


def test_a_drawn_reply_is_the_same_however_many_are_written_at_once(tokenizer):
    model, prompts = in_float64(make_model()), many_prompts(20)
    names, samples = [f"q{n % 10}" for n in range(20)], [n // 10 for n in range(20)]
    by_rows = {
        rows: write(model, tokenizer, prompts, rows=rows, names=names, samples=samples, **SAMPLED)
        for rows in (1, 7, 64)
    }
    assert by_rows[1] == by_rows[7] == by_rows[64]
    backwards = write(
        model, tokenizer, prompts[::-1], rows=7, names=names[::-1], samples=samples[::-1], **SAMPLED
    )
    assert backwards[::-1] == by_rows[1]
    assert len({reply.tokens for reply in backwards}) > 4


@pytest.mark.parametrize("prefix", [[], [3, 11] * 8], ids=len)
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_samples_of_a_prompt_run_it_once_and_are_those_of_prompts_alone(tokenizer, rows, prefix):
    model = in_float64(make_model("phi3"))
    prompts = [[*prefix, *prompt] for prompt in many_prompts(6)]
    model.config.sliding_window = 9
    # Samples of a question do not wait side by side, and two questions have the same prompt.
    prompts = [*prompts, prompts[2]] * 5
    names, samples = [f"q{n % 7}" for n in range(35)], [n // 7 for n in range(35)]
    alone = [
        write(model, tokenizer, [prompt], names=[name], samples=[sample], **SAMPLED)[0]
        for prompt, name, sample in zip(prompts, names, samples, strict=True)
    ]
    assert len({reply.tokens for reply in alone}) > 4
    ran: list[int] = []

    def count(_: Any, __: Any, inputs: dict[str, Any]) -> None:
        ran.extend(inputs["input_ids"][0].tolist() if inputs["layout"].replies is None else ())

    model.register_forward_pre_hook(count, with_kwargs=True)
    dials = {"names": names, "samples": samples, **SAMPLED}
    assert write(model, tokenizer, prompts, rows=rows, **dials) == alone
    # Four tokens more are shared than the prefix, but too short a one is not kept apart.
    apart = prompts[0][: len(prefix) + 4] if prefix else []
    own = [token for prompt in prompts[:6] for token in prompt[len(apart) :]]
    assert sorted(ran) == sorted([*apart, *own])


def test_samples_of_a_question_differ_and_so_do_seeds(tokenizer):
    model, prompts = make_model(), [ids("a", "b")] * 12
    alike = write(model, tokenizer, prompts, names=["q"] * 12, **SAMPLED)
    assert len(set(alike)) == 1
    drawn = write(model, tokenizer, prompts, names=["q"] * 12, samples=range(12), **SAMPLED)
    assert drawn[0] == alike[0]
    assert len({reply.ids for reply in drawn}) > 8
    other = {**SAMPLED, "sampling": replace(SAMPLED["sampling"], seed=8)}
    again = write(model, tokenizer, prompts, names=["q"] * 12, samples=range(12), **other)
    assert sum(map(GeneratedReply.__eq__, drawn, again)) < 3


def test_the_first_tokens_of_many_samples_have_the_models_probabilities(tokenizer):
    from scipy.stats import chisquare

    model, times = in_float64(make_model()), 3000
    rules = {**SAMPLED, "max_new_tokens": 2, "sampling": Sampling(temperature=0.8), "end_ids": ()}
    replies = write(
        model,
        tokenizer,
        [ids("a", "b")] * times,
        names=["q"] * times,
        samples=range(times),
        **rules,
    )
    first = torch.tensor([reply.ids[0] for reply in replies])
    logits = model(torch.tensor([ids("a", "b")])).logits[0, -1].detach()
    shares = (logits.double() / 0.8).softmax(-1)
    counts = torch.bincount(first, minlength=len(TOKENS))
    assert chisquare(counts, shares * times).pvalue > 0.001
    (begun,) = (first == (token := int(counts.argmax()))).nonzero(as_tuple=True)
    second = torch.tensor([replies[k].ids[1] for k in begun])
    logits = model(torch.tensor([[*ids("a", "b"), token]])).logits[0, -1].detach()
    shares = (logits.double() / 0.8).softmax(-1)
    counts = torch.bincount(second, minlength=len(TOKENS))
    # The noise of the second token is not that of the first, or these were biased.
    assert chisquare(counts, shares * len(begun)).pvalue > 0.001


def test_a_row_that_ends_makes_room_for_the_next_prompt(tokenizer):
    model = reciting_model({"a": "a", "b": "<end>"})
    prompts = [ids("a"), *[ids("b")] * 20]
    passes = []
    model.register_forward_pre_hook(lambda _, __, inputs: passes.append(inputs), with_kwargs=True)
    order = [
        place
        for place, _ in stream_replies(
            model, tokenizer, prompts, ReplyRules(max_new_tokens=12, end_ids=(1,)), rows=3
        )
    ]
    # Ten pairs of short replies go by while the long one is written.
    assert order.index(0) == 20
    assert len(passes) <= 12 + 10


@pytest.mark.parametrize(("most", "rows"), [(1, 1), (83, 2), (82, 1), (10**6, 6)])
def test_prompts_wait_that_a_cpu_does_not_hold_at_once(tokenizer, most, rows, monkeypatch):
    model, prompts = in_float64(make_model("phi3")), many_prompts(20)
    # The longest prompt has 27 tokens and the next ones 26 and 25; 30 new ones count half.
    rules = ReplyRules(max_new_tokens=30, end_ids=(1, 2, 6, 12), stop_after_marker=False)
    alone = [generate_replies(model, tokenizer, [prompt], rules)[0] for prompt in prompts]
    monkeypatch.setattr("caft.models.reply_cache._MOST_CACHED", most)
    told: list[int] = []
    writer = _Writer(
        model, tokenizer, dict(enumerate(prompts)), rules, rows=6, names=(), samples=(),
        at_once=told.append,
    )  # fmt: skip
    assert [writer.rows] == told == [rows]
    assert generate_replies(model, tokenizer, prompts, rules, rows=6) == alone


@pytest.mark.numerics
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "phi3"])
def test_every_token_of_a_batch_is_the_likeliest_one(tokenizer, architecture, dtype):
    model, prompts = make_model(architecture).to(dtype), draw_prompts()
    exact = in_float64(model)
    for prompt, reply in zip(
        prompts, write(model, tokenizer, prompts, with_spread=True), strict=True
    ):
        assert_greedy(model, exact, prompt, reply.ids)


@pytest.mark.parametrize("end", ["<end>", "<stop>"])
def test_either_end_token_ends_a_reply_and_is_counted_but_not_shown(tokenizer, end):
    model = reciting_model({"a": "b", "b": "c", "c": end, end: "d", "d": "d"})
    (reply,) = write(model, tokenizer, [ids("a")])
    assert (reply.text, reply.tokens) == ("bc", 3)


def test_a_reply_without_end_stops_at_the_limit(tokenizer):
    model = reciting_model({"a": "a"})
    (reply,) = write(model, tokenizer, [ids("a")], max_new_tokens=5)
    assert (reply.text, reply.tokens) == ("aaaaa", 5)


# "a" opens a marker that closes two tokens later; without a stop, spaces would follow for ever.
MARKER = {"a": "[[", "[[": "A", "A": "]]", "]]": " ", " ": " ", "c": "c"}


def test_a_closed_marker_ends_its_row_while_others_go_on(tokenizer):
    replies = write(reciting_model(MARKER), tokenizer, [ids("a"), ids("c")])
    assert [(reply.text, reply.tokens) for reply in replies] == [("[[A]]", 3), ("c" * 12, 12)]


def test_without_that_stop_the_row_goes_on(tokenizer):
    prompts = [ids("a")]
    replies = write(reciting_model(MARKER), tokenizer, prompts, stop_after_marker=False)
    assert [(reply.text, reply.tokens) for reply in replies] == [("[[A]]" + " " * 9, 12)]


def test_a_marker_that_the_prompt_opened_is_none_of_the_reply(tokenizer):
    # The reply "A]] ..." closes what only the prompt's own end has opened.
    (reply,) = write(reciting_model(MARKER), tokenizer, [ids("[[")])
    assert reply.tokens == 12


def test_a_tokenizer_whose_padding_is_its_end_token_counts_the_same(tokenizer):
    successors = {**MARKER, "b": "d", "d": "<stop>"}
    prompts = [ids("a"), ids("c"), ids("e", "e", "b")]
    usual = write(reciting_model(successors), tokenizer, prompts)
    assert [reply.tokens for reply in usual] == [3, 12, 2]
    frugal = deepcopy(tokenizer)
    frugal.pad_token = "<stop>"
    assert write(reciting_model(successors), frugal, prompts) == usual
    frugal.pad_token = None
    assert write(reciting_model(successors), frugal, prompts) == usual


def test_replies_come_through_lightning_by_question_whatever_their_length(tokenizer, tmp_path):
    model, prompts = in_float64(make_model()), {f"q{k}": p for k, p in enumerate(many_prompts(11))}
    rules = ReplyRules(max_new_tokens=12, end_ids=(1, 2, 6))
    batches: Any = plan_replies(
        [(ReplyName(name), tuple(row)) for name, row in prompts.items()], 16
    )
    assert [len(batch.question_ids) for batch in batches] == [2, 2, 2, 2, 2, 1]
    module = ReplyModule(model, tokenizer, rules, rows=3)
    trainer = build_trainer(TrainerConfig(accelerator="cpu", progress=False), folder=tmp_path)
    written = trainer.predict(module, DataLoader(batches, batch_size=None))
    assert [len(replies) for replies in written] == [2, 2, 2, 2, 2, 1]
    replies = {reply.question_id: reply for batch in written for reply in batch}
    for name, prompt in prompts.items():
        (alone,) = generate_replies(model, tokenizer, [prompt], rules)
        assert (replies[name].text, replies[name].tokens) == (alone.text, alone.tokens)


def test_greedy_means_greedy_whatever_the_model_folder_recommends(tokenizer):
    model, advised = make_model(), make_model()
    recommended = {"do_sample": True, "temperature": 5.0, "top_k": 3, "repetition_penalty": 2.0}
    advised.generation_config.update(**recommended)
    prompts = [ids("a", "b"), ids("d"), ids("c", "c")]
    assert write(advised, tokenizer, prompts) == write(model, tokenizer, prompts)


@pytest.mark.parametrize(
    ("tail", "closed"),
    [("so [[A]]", True), ("[[A]", False), ("[A]]", False), ("x]] [[", False), ("[[A]] and", True)],
)
def test_what_a_closed_marker_is(tail, closed):
    assert has_closed_marker(tail) is closed


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.01, top_p=0.9, top_k=9, min_p=0.1)]
)
def test_logits_that_are_no_numbers_name_the_question(tokenizer, sampling):
    model = reciting_model({"a": "b", "b": "c", "c": "d", "d": "d"})
    with torch.no_grad():
        model.model.embed_tokens.weight[TOKENS.index("c")] = float("nan")
    dials = {"sampling": sampling, "rows": 2}
    assert write(model, tokenizer, [ids("d")], names=("q0",), **dials)[0].tokens == 12
    with pytest.raises(UserError, match=r"^question q1: the model's logits are not finite"):
        write(model, tokenizer, [ids("d"), ids("a")], names=("q0", "q1"), **dials)


PROMPTS = {ReplyName(name): (token,) for token, name in enumerate("vwxyz", start=3)}
LIMIT_4 = ReplyRules(max_new_tokens=4, end_ids=(1, 2))


def test_replies_that_memory_does_not_hold_at_once_are_written_in_halves(tokenizer, monkeypatch):
    model = in_float64(make_model())
    whole = set(map(repr, ReplyModule(model, tokenizer, LIMIT_4, rows=5).write(PROMPTS)))
    tried: list[tuple[int, int]] = []

    def crowded(model: Any, tokenizer: Any, prompts: Any, rules: Any, **dials: Any) -> Any:
        del dials["watch"], dials["at_once"]  # the module's own
        tried.append((dials["rows"], len(prompts)))
        for place, reply in enumerate(generate_replies(model, tokenizer, prompts, rules, **dials)):
            # One reply goes well; a reply that has been written is not written again.
            if dials["rows"] > 1 and place:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
            yield place, reply

    monkeypatch.setattr("caft.trainers.replies.stream_replies", crowded)
    assert set(map(repr, ReplyModule(model, tokenizer, LIMIT_4, rows=5).write(PROMPTS))) == whole
    assert tried == [(5, 5), (2, 4), (1, 3)]


@pytest.mark.parametrize(("cached", "tried"), [(3 * 3, [3, 1]), (3, [1])])
def test_the_rows_are_halved_that_the_cache_was_made_for(tokenizer, monkeypatch, cached, tried):
    """Not those that were asked for: then the same number would run out of memory again."""
    monkeypatch.setattr("caft.models.reply_cache._MOST_CACHED", cached)  # a row has 1 + 2 tokens
    rows: list[int] = []

    def take(prefix: Any, lengths: Any, device: Any) -> Any:
        rows.append(len(lengths))
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr("caft.models.reply_cache.ReplyCache", take)
    module = ReplyModule(make_model(), tokenizer, LIMIT_4, rows=64)
    with pytest.raises(UserError, match="alone is replied to"):
        list(module.write(PROMPTS))
    assert rows == tried


def test_one_reply_that_memory_does_not_hold_says_what_to_lower(tokenizer, monkeypatch):
    def full(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr("caft.trainers.replies.stream_replies", full)
    module = ReplyModule(make_model(), tokenizer, LIMIT_4, rows=4)
    with pytest.raises(UserError, match=r"question v alone .* lower evaluation\.max_new_tokens"):
        list(module.write(PROMPTS))


LINES = [("7", False), ("7\n", True), ("\n\n ", False), ("\n 7", False), ("\n7 b\r", True)]


@pytest.mark.parametrize(("text", "ended"), LINES, ids=repr)
def test_a_line_that_is_not_blank_ends_a_bare_answer(text, ended):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: number for number, letter in enumerate("7 b\n\r")}
    inner = Tokenizer(models.WordLevel(letters, unk_token="b"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    inner.decoder = decoders.Fuse()
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=inner)
    rules = ReplyRules(max_new_tokens=9, end_ids=(), stop_after_line=True)
    assert has_ended(tokenizer, [letters[letter] for letter in text], rules) is ended
