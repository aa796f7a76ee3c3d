"""How fast replies are written, against `generate` of transformers, side by side in one run.

    python benchmarks/generation.py                          # the embedded model on this machine
    python benchmarks/generation.py --parts a --rounds 1     # one part only
    python benchmarks/generation.py --beside 2               # beside two busy processes
    python benchmarks/generation.py --clock cpu    # a busy machine: one thread, CPU seconds
    python benchmarks/generation.py --tiny --prompts 12 --device cpu --model llama   # a smoke test
    python benchmarks/generation.py --device cuda --model llama --parts d

A is `model.generate` of transformers, with prompts in order of length and padded on the left, the
same end tokens and the same stop behind the first closed marker; its batch is the fastest of 1, 8,
32 and 128, found on the first tokens of a part of the prompts. B is caft. Both are run in turn,
A B A B, and each takes its median. On a GPU the continuous batching of transformers, which chooses
its rows itself (`generate_batch`), is a third way. Parts:
    a   200 arithmetic rationales behind 8 solved examples, at most 80 tokens
    b   50 questions of MMLU-Pro (`--data`), 256 tokens
    c   1,500 free-text answers of one line behind 8 solved examples, at most 16 tokens
    d   512 prompts of MMLU-Pro, at most 512 tokens; one token of 256 is an end, so that replies end
        at lengths of their own
    e   8 replies to each question of b, 32 tokens: the work of drawn samples, but greedy, so that
        they can be compared

The last line is one JSON object; by part:
    ratio_vs_hf             B's tokens a second over A's with one prompt at a time
    ratio_vs_hf_best_batch  the same over A's at its best batch, run in turn with B
    ratio_vs_hf_continuous  the same over transformers' continuous batching, on a GPU
    agreement_fp32          share of greedy replies that are the same, both in float32, of
                            `--agreement` prompts
    tokens_per_second       of B
    memory_ratio            B's peak over A's at its best batch, each above the loaded model
    share_of_bandwidth      bytes of weights and cache that B's one-token steps read, over what a
                            copy of a large tensor moves in B's time, prompts included
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import eq
from typing import Any

from caft.threads import set_up_threads

set_up_threads()

import torch

from caft.data.arithmetic import load_arithmetic
from caft.data.config import ArithmeticConfig
from caft.kernels.linear import reorder_weights
from caft.kernels.memory import release_memory
from caft.kernels.row_cache import RowCache
from caft.kernels.token_steps import TokenSteps
from caft.models.encoding import encode_prompt
from caft.models.generation import stream_replies
from caft.models.reply_rules import ReplyRules, has_ended
from caft.records import Question
from caft.store.measure import measured
from caft.text.config import PromptConfig, PromptStyle
from caft.text.prompts import Wanted, write_prompt
from models import choose_dtype, embedded_tokenizer, make_model
from processor import describe_processor
from scoring import Clock, read_questions, resident_bytes, start_parser

BATCHES = (1, 8, 32, 128)
_PROBED, _PROBED_TOKENS = 16, 96


@dataclass(frozen=True, slots=True)
class Part:
    """Prompts, and when their replies end."""

    prompts: list[tuple[int, ...]]
    rules: ReplyRules


def main() -> None:
    """Measure and print."""
    asked = read_arguments()
    if asked.clock == "cpu":
        torch.set_num_threads(1)
    tokenizer = embedded_tokenizer(asked.tokenizer)
    dtype = choose_dtype(asked.dtype, asked.device)
    print(
        f"{asked.model} in {dtype} on {asked.device}, seconds of {asked.clock}, "
        f"{asked.beside} busy processes beside, load {os.getloadavg()[0]:.1f}"
    )
    figures: dict[str, Any] = {"processor": describe_processor(asked.device)}
    with torch.inference_mode(), busy_processes(asked.beside):
        for name in asked.parts:
            part = make_part(name, tokenizer, asked)
            figures[name] = measure_part(name, part, tokenizer, dtype, asked)
    print(json.dumps(figures))


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = start_parser(__doc__)
    parser.set_defaults(rounds=2)
    parser.add_argument("--parts", nargs="*", choices=list("abcde"), default=list("abc"))
    parser.add_argument("--rows", type=int, default=128, help="replies that caft writes at once")
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES, help="of generate")
    parser.add_argument("--prompts", type=int, help="at most so many a part")
    parser.add_argument(
        "--agreement", type=int, default=24, help="prompts compared in float32; 0: none"
    )
    parser.add_argument("--beside", type=int, default=0, help="busy processes beside")
    return parser.parse_args()


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Processes that compute without a pause."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()


def make_part(name: str, tokenizer: Any, asked: argparse.Namespace) -> Part:
    """The prompts of one part as token ids."""
    end = (tokenizer.eos_token_id,)
    if name in "bde":
        questions = read_questions(asked.data)[: 512 if name == "d" else 50]
        prompt, shots, wanted = PromptConfig(), (), Wanted.rationale
        ends = tuple(random.Random(0).sample(range(len(tokenizer)), len(tokenizer) // 256))
        rules = ReplyRules(
            max_new_tokens={"b": 256, "d": 512, "e": 32}[name], end_ids=ends if name == "d" else end
        )
    else:
        prompt = PromptConfig(
            style=PromptStyle.completion,
            shots=8,
            shot_separator="\n",
            completion_answer="{question} =",
            completion_rationale="{question}\nSteps:",
        )
        splits = load_arithmetic(
            ArithmeticConfig(
                name="arithmetic", prompt=prompt, test=200 if name == "a" else 1500, train=40
            )
        )
        questions, shots = splits.test, splits.shots
        wanted = Wanted.rationale if name == "a" else Wanted.answer
        rules = (
            ReplyRules(max_new_tokens=80, end_ids=end)
            if name == "a"
            else ReplyRules(
                max_new_tokens=16, end_ids=end, stop_after_marker=False, stop_after_line=True
            )
        )
    prompts = encode(questions[: asked.prompts], prompt, shots, wanted, tokenizer)
    return Part([each for each in prompts for _ in range(8 if name == "e" else 1)], rules)


def encode(
    questions: Sequence[Question],
    prompt: PromptConfig,
    shots: Sequence[Question],
    wanted: Wanted,
    tokenizer: Any,
) -> list[tuple[int, ...]]:
    """Prompts as a run writes them."""
    chat = prompt.style is PromptStyle.chat
    return [
        encode_prompt(write_prompt(each, prompt, wanted, chat=chat, shots=shots), tokenizer)
        for each in questions
    ]


def measure_part(
    name: str, part: Part, tokenizer: Any, dtype: torch.dtype, asked: argparse.Namespace
) -> dict[str, float | int | None]:
    """Both ways on one part."""
    clock = Clock(asked)
    plain = make_model(asked.model, asked.device, dtype, tiny=asked.tiny, plain=True)
    rates = {size: probe(plain, tokenizer, part, size, clock) for size in asked.batches}
    best = max(rates, key=lambda size: rates[size])
    lengths = [len(prompt) for prompt in part.prompts]
    print(
        f"{name}: {len(lengths)} prompts of {min(lengths)} to {max(lengths)} tokens; generate, "
        "tokens/s by batch: " + ", ".join(f"{size}: {rate:.1f}" for size, rate in rates.items()),
        flush=True,
    )
    ours = make_model(asked.model, asked.device, dtype, tiny=asked.tiny)
    reorder_weights(ours)
    ways = {
        "generate": lambda: write_plain(plain, tokenizer, part, best),
        "caft": lambda: write_ours(ours, tokenizer, part, asked.rows),
    }
    if asked.device == "cuda":
        ways["continuous"] = lambda: write_continuously(plain, tokenizer, part)
        ways["caft"]()  # kernels are compiled once
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    peaks: dict[str, list[int]] = {way: [] for way in ways}
    read: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(asked.rounds):
        for way, work in ways.items():
            release_memory()
            held = resident_bytes(asked)
            with measured() as effort, counted_bytes(ours) as counted:
                seconds, replies = clock.time(work)
            speeds[way].append(sum(map(len, replies)) / seconds)
            peaks[way].append(effort.peak_memory_bytes - held)
            read[way].append(counted[0] / seconds)
            print(
                f"{name}, {way}: {speeds[way][-1]:.1f} tokens/s, {seconds:.1f} s, "
                f"{peaks[way][-1] / 1e6:.0f} MB",
                flush=True,
            )
    rate = {way: statistics.median(speeds[way]) for way in ways}
    bandwidth = measure_bandwidth(asked.device, clock)
    share = statistics.median(read["caft"]) / bandwidth
    print(f"{name}: {share:.3f} of {bandwidth / 1e9:.0f} GB/s in one-token steps", flush=True)
    return {
        "ratio_vs_hf": round(rate["caft"] / rates[min(rates)], 2),
        "ratio_vs_hf_best_batch": round(rate["caft"] / rate["generate"], 2),
        "ratio_vs_hf_continuous": round(rate["caft"] / rate["continuous"], 2)
        if rate.get("continuous")
        else None,
        "best_batch": best,
        "agreement_fp32": measure_agreement(part, tokenizer, best, asked),
        "tokens_per_second": round(rate["caft"], 1),
        "memory_ratio": round(max(peaks["caft"]) / max(peaks["generate"]), 2),
        "share_of_bandwidth": round(share, 3),
    }


@contextmanager
def counted_bytes(model: Any) -> Iterator[list[int]]:
    """Counts what one-token steps read in the body: weights but the embedding, and the cache."""
    total, run = [0], TokenSteps.run
    # A tied embedding is the head, too, and is read whole.
    unread = model.get_input_embeddings().weight
    tied = model.get_output_embeddings().weight is unread
    weights = [each for each in model.parameters() if tied or each is not unread]
    of_weights = sum(each.numel() * each.dtype.itemsize for each in weights)

    def count(steps: TokenSteps, tokens: torch.Tensor) -> torch.Tensor:
        logits = run(steps, tokens)
        total[0] += of_weights + bytes_read(steps.cache)
        return logits

    TokenSteps.run = count  # type: ignore[method-assign]
    try:
        yield total
    finally:
        TokenSteps.run = run  # type: ignore[method-assign]


def bytes_read(cache: Any) -> int:
    """What a step reads of the cache: the prefix once, and every row's own or all blocks whole."""
    if isinstance(cache, RowCache):
        columns = sum(cache.lengths) + cache.prefix.length
        tensors = [*cache.keys.values(), *cache.values.values()]
        return sum(each.nbytes // cache.columns * columns for each in tensors)
    parts = [cache.prefix, *cache.blocks]
    return sum(each.nbytes for part in parts for kept in (part.keys, part.values)
               for each in kept.values())  # fmt: skip


def measure_bandwidth(device: str, clock: Clock) -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.ones(2**28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copies = [clock.time(lambda: target.copy_(source))[0] for _ in range(7)]
    return 2 * source.nbytes / statistics.median(copies)


def probe(model: Any, tokenizer: Any, part: Part, size: int, clock: Clock) -> float:
    """Tokens a second of `generate` in batches of `size`, on two batches or so."""
    step = max(1, len(part.prompts) // max(_PROBED, 2 * size))
    few = part.prompts[::step][: max(4, min(2 * size, 256))]
    fewer = Part(
        few, replace(part.rules, max_new_tokens=min(part.rules.max_new_tokens, _PROBED_TOKENS))
    )
    seconds, replies = clock.time(lambda: write_plain(model, tokenizer, fewer, size))
    return sum(map(len, replies)) / seconds


def measure_agreement(
    part: Part, tokenizer: Any, batch: int, asked: argparse.Namespace
) -> float | None:
    """Share of the replies, spread over all lengths, that both ways write alike in float32."""
    ordered = sorted(part.prompts, key=len)
    fewer = min(asked.agreement, len(ordered))
    if not fewer:
        return None
    part = replace(part, prompts=[ordered[k * len(ordered) // fewer] for k in range(fewer)])
    plain = make_model(asked.model, asked.device, torch.float32, tiny=asked.tiny, plain=True)
    theirs = write_plain(plain, tokenizer, part, batch)
    del plain
    ours = make_model(asked.model, asked.device, torch.float32, tiny=asked.tiny)
    reorder_weights(ours)
    same = map(eq, theirs, write_ours(ours, tokenizer, part, asked.rows))
    return round(statistics.fmean(same), 4)


def write_ours(model: Any, tokenizer: Any, part: Part, rows: int) -> list[list[int]]:
    """B: the tokens of every reply."""
    replies = dict(stream_replies(model, tokenizer, part.prompts, part.rules, rows=rows))
    return [list(replies[place].ids) for place in range(len(part.prompts))]


def write_plain(model: Any, tokenizer: Any, part: Part, size: int) -> list[list[int]]:
    """A: the tokens of every reply, in the order of the prompts."""
    from transformers import StoppingCriteriaList

    order = sorted(range(len(part.prompts)), key=lambda place: len(part.prompts[place]))
    replies: dict[int, list[int]] = {}
    for at in range(0, len(order), size):
        places = order[at : at + size]
        prompts = [part.prompts[place] for place in places]
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(each)) + list(each) for each in prompts])
        mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts])
        written = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=part.rules.max_new_tokens,
            do_sample=False,
            eos_token_id=list(part.rules.end_ids),
            pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([Ended(tokenizer, part.rules, width)]),
        )
        for place, row in zip(places, written[:, width:].tolist(), strict=True):
            replies[place] = cut(row, tokenizer, part.rules)
    return [replies[place] for place in range(len(order))]


def write_continuously(model: Any, tokenizer: Any, part: Part) -> list[list[int]]:
    """The tokens of every reply by transformers' continuous batching; none where it fails."""
    from transformers import GenerationConfig

    config = GenerationConfig(
        max_new_tokens=part.rules.max_new_tokens,
        do_sample=False,
        eos_token_id=list(part.rules.end_ids),
        pad_token_id=0,
    )
    prompts = [list(ids) for ids in part.prompts]
    try:
        with torch.inference_mode(False), torch.no_grad():  # it writes in a thread of its own
            written = model.generate_batch(prompts, generation_config=config)
    except Exception as error:  # whatever it needs and does not find
        print(f"continuous batching of transformers: {error!r}", flush=True)
        return []
    return [cut(each.generated_tokens, tokenizer, part.rules) for each in written.values()]


class Ended:
    """Our rules as a stopping criterion of transformers; end tokens are its own to find."""

    def __init__(self, tokenizer: Any, rules: ReplyRules, width: int) -> None:
        self.tokenizer, self.rules, self.width = tokenizer, rules, width

    def __call__(self, ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        """Which rows have ended: [rows]."""
        rows = ids[:, self.width :].tolist()
        ended = [has_ended(self.tokenizer, row, self.rules) for row in rows]
        return torch.tensor(ended, device=ids.device)


def cut(row: Sequence[int], tokenizer: Any, rules: ReplyRules) -> list[int]:
    """A row of `generate` without what follows its end."""
    for count in range(1, len(row)):
        if has_ended(tokenizer, row[:count], rules):
            return list(row[:count])
    return list(row)


if __name__ == "__main__":
    main()
