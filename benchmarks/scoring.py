"""How fast questions are scored, against the paper's loop, side by side in one run.

    python benchmarks/scoring.py                        # the embedded model on this machine's CPU
    python benchmarks/scoring.py --clock cpu            # a busy machine: one thread, CPU seconds
    python benchmarks/scoring.py --device cuda --model phi3        # or qwen2, llama: 3B-shaped
    python benchmarks/scoring.py --model llama --tiny --rows 12 --questions 40     # a smoke test

A is the loop of the paper's authors: `generate(max_new_tokens=1)`, one prompt at a time, in the
same dtype, of the model as transformers loads it. B is `caft score`. Every pack of B is measured
right after A on the pack's own rows, in order A B A B, and each takes its median; ratios are those
of the sums. A product of two matrices of 2048 x 2048 (8192 on an accelerator) is measured between
them, so that all three see the same machine. Operations are counted where linear layers run them
(2 x inputs x outputs a token), never where they are saved.

The questions are the first of ../shared/data/mmlu_pro_qwen_test.jsonl (`--data`). On an
accelerator a randomly initialised model of 3B shape is timed, and padded batches beside it.

The last line is one JSON object:
    ratio_vs_loop    A's seconds over B's
    share_of_peak    of the product's rate, that B reaches
    prefix_ratio     arithmetic questions behind 8 solved ones: packs without reuse over packs with
    error_ratio      mean distance in nats of B's entropies to those of the float32 loop, over the
                     same distance of A's; in float32 null, `error_nats` is then what matters
    extra_memory_mb  peak of `--questions` questions (MMLU-Pro's own, again and again where there
                     are too few), above the loaded model; of the packs a spread sample is run, the
                     largest with it, or all of them with --all-packs
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from caft.data.arithmetic import load_arithmetic
from caft.data.config import ArithmeticConfig
from caft.kernels.linear import reorder_weights
from caft.models.config import Dtype
from caft.models.estimates import entropy_of
from caft.records import Question
from caft.score.config import ModelScoreConfig
from caft.score.module import ScoringModule, ScoringPack, plan_scoring
from caft.score.prepare import ScoringRow, prepare_rows
from caft.store.measure import measured
from caft.text.config import PromptConfig, PromptStyle
from models import CLASSES, choose_dtype, embedded_tokenizer, make_model, product_side
from processor import describe_processor

PADDED = (16, 64)
DATA = Path(__file__).parents[1] / "../shared/data/mmlu_pro_qwen_test.jsonl"


def main() -> None:
    """Measure and print."""
    told = read_arguments()
    if told.clock == "cpu":
        torch.set_num_threads(1)
    clock = Clock(told)
    tokenizer = embedded_tokenizer(told.tokenizer)
    rows = prepare_rows(read_questions(told.data)[: told.rows], PromptConfig(), tokenizer, ())
    dtype = choose_dtype(told.dtype, told.device)
    tokens = ModelScoreConfig(batch_tokens=told.batch_tokens).tokens_a_pass(told.device)
    model = make_model(told.model, told.device, dtype, tiny=told.tiny)
    reorder_weights(model)
    print(
        f"{told.model} in {dtype} on {told.device}, seconds of {told.clock}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    processor = describe_processor(told.device)
    with torch.inference_mode():
        # First: what other parts leave behind would be taken again and not counted.
        memory = measure_memory(model, tokenizer, tokens, told)
        plain = make_model(told.model, told.device, dtype, tiny=told.tiny, plain=True)
        speed, distributions = measure_speed((plain, model), rows, clock, tokens, told)
        prefix = measure_prefix(model, tokenizer, clock, tokens, told)
        if told.device != "cpu":
            for size in PADDED:
                rate = measure_padded(plain, rows, clock, size)
                print(f"padded batches of {size}: {rate:.2f} questions/s")
        errors = measure_errors(distributions, plain, rows, told)
    print(json.dumps(speed | prefix | errors | memory | {"processor": processor}))


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = start_parser(__doc__)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--batch-tokens", type=int, help="of a pass; default: caft's own")
    parser.add_argument("--questions", type=int, default=12_000, help="of the memory part")
    parser.add_argument("--all-packs", action="store_true")
    return parser.parse_args()


def start_parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments of everything that runs the models here side by side."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", choices=["smollm2", *CLASSES], default="smollm2")
    parser.add_argument("--tiny", action="store_true", help="a small model of that class")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=[each.value for each in Dtype], default="auto")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument(
        "--tokenizer",
        type=Path,
        help="where the embedded model is not at hand: a folder with its tokenizer",
    )
    return parser


def read_questions(path: Path) -> list[Question]:
    """The rows of an MMLU-Pro file."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        Question(
            id=str(row["question_id"]),
            text=row["question"],
            options=tuple(row["options"]),
            gold_index=row["answer_index"],
            subject=row["category"],
        )
        for row in rows
    ]


class Clock:
    """Seconds of a piece of work: of the wall, or of one thread's processor."""

    def __init__(self, told: argparse.Namespace) -> None:
        self.read = time.thread_time if told.clock == "cpu" else time.perf_counter
        self.wait: Callable[[], None] = (
            torch.cuda.synchronize if told.device.startswith("cuda") else lambda: None
        )

    def time(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds, and what the work gave back."""
        self.wait()
        start = self.read()
        result = work()
        self.wait()
        return self.read() - start, result


@dataclass(slots=True)
class Told:
    """What a way of scoring says about one question: the token, and ln p [vocabulary]."""

    token: int
    log_p: torch.Tensor


def run_loop(model: Any, rows: Sequence[ScoringRow]) -> list[Told]:
    """A: the authors' loop."""
    told = []
    for row in rows:
        ids = torch.tensor([row.prompt_ids], device=model.device)
        said = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=1,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        log_p = torch.log_softmax(said.logits[0][0].float(), dim=-1)
        told.append(Told(int(said.sequences[0, -1]), log_p.cpu()))
    return told


def measure_speed(
    models: tuple[Any, Any],
    rows: Sequence[ScoringRow],
    clock: Clock,
    tokens: int,
    told: argparse.Namespace,
) -> tuple[dict[str, float], tuple[dict[str, Told], dict[str, Any]]]:
    """Ratio and share; with them what A and B said, by question id."""
    plain, model = models
    prefix_ids, packs = plan_scoring(rows, tokens)
    module = ScoringModule(model, prefix_ids).to(model.device)
    loop, ours, peaks, operations = [0.0], [0.0], [], 0
    by_loop: dict[str, Told] = {}
    by_us: dict[str, Any] = {}
    side = product_side(told.device)
    square = torch.randn(side, side, device=model.device).to(model.dtype)
    clock.time(lambda: module.predict_step(packs[0], 0))
    clock.time(lambda: run_loop(plain, packs[0].rows[:1]))
    for number, pack in enumerate(packs):
        with counted_operations(model) as counted:
            module.predict_step(pack, 0)
        operations += counted[0]
        a, b = [], []
        for _ in range(told.rounds):
            seconds, said = clock.time(lambda pack=pack: run_loop(plain, pack.rows))
            a.append(seconds)
            by_loop |= {row.question_id: each for row, each in zip(pack.rows, said, strict=True)}
            seconds, said = clock.time(lambda pack=pack: module.predict_step(pack, 0))
            b.append(seconds)
            by_us |= {each.question_id: each for each in said}
            peaks.append(2 * side**3 / clock.time(lambda: square @ square)[0])
        loop.append(statistics.median(a))
        ours.append(statistics.median(b))
        print(
            f"pack {number + 1} of {len(packs)}, {len(pack.rows)} rows: loop {loop[-1]:.2f} s, "
            f"ours {ours[-1]:.2f} s",
            flush=True,
        )
    peak, rate = statistics.median(peaks), operations / sum(ours)
    print(
        f"loop {len(rows) / sum(loop):.2f} questions/s, ours {len(rows) / sum(ours):.2f}; linear "
        f"layers {rate / 1e9:.0f} GFLOP/s of {peak / 1e9:.0f}"
    )
    figures = {
        "ratio_vs_loop": round(sum(loop) / sum(ours), 3),
        "share_of_peak": round(rate / peak, 3),
    }
    return figures, (by_loop, by_us)


@contextmanager
def counted_operations(model: Any) -> Iterator[list[int]]:
    """Counts what linear layers run in the body."""
    total = [0]

    def count(layer: torch.nn.Linear, inputs: tuple[torch.Tensor], _: torch.Tensor) -> None:
        total[0] += 2 * inputs[0].numel() * layer.out_features

    layers = [each for each in model.modules() if isinstance(each, torch.nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    yield total
    for hook in hooks:
        hook.remove()


def measure_errors(
    said: tuple[dict[str, Told], dict[str, Any]],
    model: Any,
    rows: Sequence[ScoringRow],
    told: argparse.Namespace,
) -> dict[str, float | None]:
    """Distance to the same loop in float32."""
    by_loop, by_us = said
    if told.model == "smollm2":
        exact_model = make_model(told.model, told.device, torch.float32, plain=True)
    else:
        exact_model = model.float()  # drawn in its dtype
    exact = {row.question_id: run_loop(exact_model, [row])[0] for row in rows}
    truth = {name: float(entropy_of(each.log_p)) for name, each in exact.items()}
    ours = {name: each.estimates["answer_entropy"] for name, each in by_us.items()}
    plain = {name: float(entropy_of(each.log_p)) for name, each in by_loop.items()}

    def distance(entropies: dict[str, float]) -> float:
        return statistics.fmean(abs(entropies[name] - truth[name]) for name in truth)

    def lead(name: str, log_p: torch.Tensor) -> float:
        first, second = exact[name].log_p.topk(2).indices
        return float(log_p[first] - log_p[second])

    # Noise: how far the plain loop moves the best token's lead over the second one.
    leads = {name: lead(name, each.log_p) for name, each in exact.items()}
    noise = statistics.fmean(abs(lead(n, by_loop[n].log_p) - leads[n]) for n in leads)
    differ = [name for name in truth if by_us[name].token != exact[name].token]
    clear = [name for name in differ if leads[name] > 2 * noise]
    print(
        f"entropies against the float32 loop, mean: ours {distance(ours):.5f} nats, the loop in "
        f"the same dtype {distance(plain):.5f}; {len(differ)} other tokens, {len(clear)} of them "
        f"where the lead exceeds twice the noise of {noise:.3f} nats"
    )
    rough = distance(plain) > 1e-6
    return {
        "error_ratio": round(distance(ours) / distance(plain), 3) if rough else None,
        "error_nats": round(distance(ours), 7),
        "clear_disagreements": len(clear),
    }


def measure_prefix(
    model: Any, tokenizer: Any, clock: Clock, tokens: int, told: argparse.Namespace
) -> dict[str, float]:
    """Few-shot prompts: packs that share their solved examples, against packs that do not."""
    prompt = PromptConfig(
        style=PromptStyle.completion, shots=8, shot_separator="\n", completion_answer="{question} ="
    )
    data = ArithmeticConfig(name="arithmetic", prompt=prompt, test=told.rows // 4)
    splits = load_arithmetic(data)
    rows = prepare_rows(splits.test, prompt, tokenizer, splits.shots)
    prefix_ids, packs = plan_scoring(rows, tokens)
    alone = [unshared(pack, tokens) for pack in packs]
    seconds: dict[str, list[float]] = {"shared": [], "alone": []}
    for _ in range(told.rounds):
        for name, work in (("alone", [p for ps in alone for p in ps]), ("shared", packs)):
            module = ScoringModule(model, prefix_ids if name == "shared" else ()).to(model.device)
            took, _said = clock.time(lambda m=module, w=work: [m.predict_step(p, 0) for p in w])
            seconds[name].append(took)
    ratio = statistics.median(seconds["alone"]) / statistics.median(seconds["shared"])
    print(f"{len(rows)} prompts behind {len(prefix_ids)} shared tokens: {ratio:.2f} times faster")
    return {"prefix_ratio": round(ratio, 3)}


def unshared(pack: ScoringPack, most_tokens: int) -> list[ScoringPack]:
    """The same rows, each with all of its prompt."""
    a_pass = max(1, most_tokens // max(len(row.prompt_ids) for row in pack.rows))
    rows = sorted(pack.rows, key=lambda row: len(row.prompt_ids))
    pieces = [tuple(rows[at : at + a_pass]) for at in range(0, len(rows), a_pass)]
    return [ScoringPack(piece, ((0, len(piece)),), prefix=0) for piece in pieces]


def measure_padded(model: Any, rows: Sequence[ScoringRow], clock: Clock, size: int) -> float:
    """Questions a second of batches of `size`, padded on the left, in order of length."""
    ordered = sorted(rows, key=lambda row: len(row.prompt_ids))
    total = 0.0
    for at in range(0, len(ordered), size):
        prompts = [row.prompt_ids for row in ordered[at : at + size]]
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(each)) + list(each) for each in prompts])
        mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts])
        ids, mask = ids.to(model.device), mask.to(model.device)
        total += clock.time(
            lambda ids=ids, mask=mask: model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=1, do_sample=False
            )
        )[0]
    return len(rows) / total


def measure_memory(
    model: Any, tokenizer: Any, tokens: int, told: argparse.Namespace
) -> dict[str, float]:
    """Peak above what the process holds before the questions are read."""
    before = resident_bytes(told)
    with measured() as effort:
        questions = list(islice(cycle(read_questions(told.data)), told.questions))
        renamed = [replace(each, id=str(number)) for number, each in enumerate(questions)]
        rows = prepare_rows(renamed, PromptConfig(), tokenizer, ())
        prefix_ids, packs = plan_scoring(rows, tokens)
        module = ScoringModule(model, prefix_ids).to(model.device)
        chosen = packs if told.all_packs else sample(packs)
        said = [each for pack in chosen for each in module.predict_step(pack, 0)]
    extra = (effort.peak_memory_bytes - before) / 1e6
    print(f"{len(rows)} questions in {len(packs)} packs, {len(said)} of them run")
    return {"extra_memory_mb": round(extra, 1)}


def sample(packs: Sequence[ScoringPack]) -> list[ScoringPack]:
    """Some twelve packs: spread ones, the one with most rows and the one with the longest row."""
    spread = list(packs[:: max(1, len(packs) // 10)])
    most = max(packs, key=lambda pack: len(pack.rows))
    longest = max(packs, key=lambda pack: max(len(row.prompt_ids) for row in pack.rows))
    return [*spread, most, longest]


def resident_bytes(told: argparse.Namespace) -> int:
    """What is held now: of the accelerator, or of the process."""
    if told.device.startswith("cuda"):
        return int(torch.cuda.memory_allocated())
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
