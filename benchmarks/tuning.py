"""Tokens a second and memory of tuning, against TRL's SFTTrainer, side by side in one run.

    pip install -e '.[benchmarks]'
    python benchmarks/tuning.py                       # answers: rows 900 to 963 of the real rows
    python benchmarks/tuning.py --targets worked      # arithmetic with its worked solutions
    python benchmarks/tuning.py --targets long        # replies of 700 tokens
    python benchmarks/tuning.py --device cuda --model llama       # 3B-shaped, or qwen2, phi3
    python benchmarks/tuning.py --data FILE --tokenizer FOLDER    # where the defaults are not here
    python benchmarks/tuning.py --model llama --tiny --rows 24    # a smoke test

All train the same token rows in the same order with the same fresh adapters (LoRA, r = 16, all
linear layers), AdamW, steps of 8 rows (16 on an accelerator), loss over the completion only. Every
job is a process of its own, in the order ours, TRL at batch 1, TRL at batch 8, and again; rates
are medians, memory is the process's peak, or on an accelerator the device's.

On CUDA, where liger-kernel is installed, TRL runs with it, too, at batch 8 and with whole steps:
when training starts, the Trainer puts liger's rotary embedding, norms and MLP into the model that
the adapters wrap, by its class (llama, qwen2 and phi3 are among them); the loss stays TRL's own.

The first quarter of the steps, at least two, loads kernels and is not timed. Beside the steps'
rate, each line tells the seconds of the whole job from the loaded model on, imports and set-up
included.

The last line is one JSON object:
    ratio_vs_trl                our tokens a second, prompts included, over TRL's fastest way
    ratio_with_setup            TRL's shortest whole job over ours
    memory_ratio_vs_trl_batch8  our peak memory over TRL's at batch 8
    loss_difference             mean over steps of |our loss - TRL's| / TRL's, at batch 1; TRL loses
                                in bfloat16 what fresh adapters say (docs/decisions/0040)
    share_of_peak               what the frozen linear layers run in our timed steps, forward and
                                for the gradients of their inputs (4 x inputs x outputs a token,
                                the head at trained tokens only), over what a product of two
                                matrices of 2048 x 2048 (8192 on an accelerator) would reach
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

DATA = Path(__file__).parents[1] / "../shared/data/mmlu_pro_qwen_train.jsonl"
Rows = list[tuple[list[int], list[int]]]


def list_ways(options: argparse.Namespace) -> list[str]:
    """Ours, and TRL's by batch."""
    if options.ways:
        return ["ours", *options.ways]
    ways = ["ours", "trl1", "trl8"]
    if options.device == "cuda" and find_spec("liger_kernel") is not None:
        ways += [f"trl{batch}-liger" for batch in sorted({8, options.step_rows})]
    return ways


def untimed_steps(rows: Rows, options: argparse.Namespace) -> int:
    """A quarter, at least two."""
    return max(2, -(-len(rows) // options.step_rows) // 4)


def count_tokens(rows: Rows) -> int:
    """Prompts included."""
    return sum(len(prompt) + len(completion) for prompt, completion in rows)


class Watch:
    """When training began, and when each of its steps ended, on the device, too."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.times: list[float] = []
        self.note()

    def note(self) -> None:
        """Now."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    def seconds_after(self, steps: int) -> float:
        """From the end of that step on."""
        return self.times[-1] - self.times[steps]


def read_rows(options: argparse.Namespace) -> Rows:
    """Prompt and completion tokens of every row, as the package writes them."""
    from caft.data.arithmetic import load_arithmetic
    from caft.data.config import ArithmeticConfig
    from caft.models.encoding import end_of_turn
    from caft.records import Question, Target
    from caft.text.config import PromptConfig, PromptStyle
    from caft.tune.config import AnswerTarget
    from caft.tune.examples import TrainingPair, encode_pair
    from models import embedded_tokenizer

    count: int = options.rows
    if options.targets == "long":
        draw = Random(0)
        return [
            ([draw.randrange(100, 40_000) for _ in range(240)],
             [draw.randrange(100, 40_000) for _ in range(700)])
            for _ in range(count)
        ]  # fmt: skip
    if options.targets == "worked":
        questions = load_arithmetic(ArithmeticConfig(name="arithmetic", train=count)).train
        pairs = [TrainingPair(item, Target.rationale, "hard", item.rationale) for item in questions]
        prompt = PromptConfig(
            style=PromptStyle.completion, completion_rationale="{question}\nSteps:"
        )
    else:
        with options.data.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in islice(lines, 900, 900 + count)]
        pairs = [
            TrainingPair(
                Question(
                    id=str(number), text=row["question"], options=tuple(row["options"]),
                    gold_index=row["answer_index"], subject=row["category"],
                ),
                Target.answer, "easy",
            )
            for number, row in enumerate(rows)
        ]  # fmt: skip
        prompt = PromptConfig()
    chat = options.targets != "worked"
    tokenizer = embedded_tokenizer(options.tokenizer)
    end_id = end_of_turn(tokenizer, chat=chat)
    examples = [
        encode_pair(pair, prompt, AnswerTarget.bare, tokenizer, chat=chat, end_id=end_id)
        for pair in pairs
    ]
    return [(list(row.prompt_ids), list(row.completion_ids)) for row in examples]


def adapt(model: Any, *, fused: bool) -> Any:
    """The same fresh adapters for all."""
    import torch

    from caft.models.adapters import add_lora

    torch.manual_seed(0)
    adapted = add_lora(
        model, r=16, alpha=32, dropout=0.0, modules=(), use_dora=False, use_rslora=False
    )
    if not fused:
        for layer in adapted.modules():
            vars(layer).pop("forward", None)
    return adapted.train()


def run_ours(model: Any, rows: Rows, options: argparse.Namespace, watch: Watch) -> list[float]:
    """Losses by step; Lightning and our module, as `caft tune` drives them."""
    from torch.utils.data import DataLoader

    from caft.records import Example, Target
    from caft.trainers.build import build_trainer
    from caft.trainers.config import TrainerConfig
    from caft.tune.batches import make_step
    from caft.tune.config import TuningConfig
    from caft.tune.module import TuningModule

    examples = [
        Example(
            question_id=str(number), target=Target.answer, complexity="easy",
            prompt_ids=tuple(prompt), completion_ids=tuple(completion),
        )
        for number, (prompt, completion) in enumerate(rows)
    ]  # fmt: skip
    steps: Any = [
        make_step(examples[start : start + options.step_rows], options.batch_tokens)
        for start in range(0, len(examples), options.step_rows)
    ]
    losses: list[float] = []

    def record(row: Any) -> None:
        losses.append(row["loss"])
        watch.note()

    module = TuningModule(
        adapt(model, fused=True),
        TuningConfig(learning_rate=options.learning_rate),
        steps=len(steps),
        record=record,
    )
    trainer = build_trainer(
        TrainerConfig(accelerator=options.device, progress=False), folder=Path(options.folder)
    )
    trainer.fit(module, DataLoader(steps, batch_size=None))
    return losses


def run_trl(model: Any, rows: Rows, options: argparse.Namespace, watch: Watch) -> list[float]:
    """Losses by step of SFTTrainer on the same tokens."""
    import torch
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from models import embedded_tokenizer

    class InOrder(SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    class Noting(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            watch.note()

    batch = int(options.job.removeprefix("trl").removesuffix("-liger"))
    trainer = InOrder(
        model=adapt(model, fused=False),
        args=SFTConfig(
            output_dir=options.folder,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=options.step_rows // batch,
            learning_rate=options.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            num_train_epochs=1,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            bf16=model.dtype == torch.bfloat16,
            use_cpu=options.device == "cpu",
            max_length=None,
            completion_only_loss=True,
            gradient_checkpointing=False,
            use_liger_kernel=options.job.endswith("-liger"),
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(
            [
                {
                    "input_ids": prompt + completion,
                    "completion_mask": [0] * len(prompt) + [1] * len(completion),
                }
                for prompt, completion in rows
            ]
        ),
        processing_class=embedded_tokenizer(options.tokenizer),
        callbacks=[Noting()],
    )
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def run_job(options: argparse.Namespace) -> None:
    """One way, alone in its process: seconds, losses and the peak of memory as one JSON line."""
    from models import choose_dtype, make_model

    rows: Rows = json.loads(Path(options.file).read_text(encoding="utf-8"))
    dtype = choose_dtype(options.dtype, options.device)
    ours = options.job == "ours"
    model = make_model(options.model, options.device, dtype, tiny=options.tiny, plain=not ours)
    untimed = untimed_steps(rows, options)
    operations = count_operations(model, rows[untimed * options.step_rows :])
    watch = Watch(options.device)
    losses = (run_ours if ours else run_trl)(model, rows, options, watch)
    seconds = watch.seconds_after(untimed)
    result = {
        "seconds": seconds,
        "in_all": time.perf_counter() - watch.times[0],
        "losses": losses,
        "peak": _peak(options.device),
    }
    if ours:
        result["share"] = operations / seconds / measure_product(options.device, dtype)
    print(json.dumps(result))


def count_operations(model: Any, rows: Rows) -> int:
    """What the frozen linear layers run to train `rows`."""
    import torch

    head = model.get_output_embeddings().weight.numel()
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    body = sum(layer.weight.numel() for layer in layers) - head
    trained = sum(len(completion) for _, completion in rows)
    return 4 * (body * count_tokens(rows) + head * trained)


def measure_product(device: str, dtype: Any) -> float:
    """Operations a second of a product of two matrices: the median of 20, after one."""
    import torch

    from models import product_side

    side = product_side(device)
    square = torch.randn(side, side, device=device).to(dtype)
    watch = Watch(device)
    for _ in range(21):
        square @ square
        watch.note()
    took = [end - start for start, end in pairwise(watch.times[1:])]
    return 2 * side**3 / statistics.median(took)


def _peak(device: str) -> int:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def start_job(way: str, file: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Run this file again for one way."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", __file__, *arguments]
        command += ["--job", way, "--file", str(file), "--folder", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(options: argparse.Namespace, arguments: Sequence[str]) -> dict[str, float]:
    """All ways in turn; what they took, and the ratios."""
    rows = read_rows(options)
    print(
        f"{len(rows)} rows, {count_tokens(rows)} tokens, {-(-len(rows) // options.step_rows)} "
        f"steps of {options.step_rows} rows"
    )
    tokens = count_tokens(rows[untimed_steps(rows, options) * options.step_rows :])
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in list_ways(options)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        file.write_text(json.dumps(rows), encoding="utf-8")
        for _ in range(options.rounds):
            for way, results in found.items():
                result = start_job(way, file, arguments)
                results.append(result)
                print(
                    f"{way:11} {tokens / result['seconds']:7.0f} tokens/s  "
                    f"{result['peak'] / 1e9:5.2f} GB  {result['in_all']:4.0f} s in all",
                    flush=True,
                )
    rates = {way: tokens / median(results, "seconds") for way, results in found.items()}
    in_all = {way: median(results, "in_all") for way, results in found.items()}
    peaks = {way: max(each["peak"] for each in results) for way, results in found.items()}
    # The first of TRL's ways: batch 1, if that is among them.
    pairs = list(zip(*(results[0]["losses"] for results in list(found.values())[:2]), strict=True))
    return {
        "ratio_vs_trl": rates.pop("ours") / max(rates.values()),
        "ratio_with_setup": min(in_all[way] for way in rates) / in_all["ours"],
        "memory_ratio_vs_trl_batch8": peaks["ours"] / peaks.get("trl8", math.nan),
        "loss_difference": statistics.fmean(abs(a - b) / b for a, b in pairs),
        "share_of_peak": median(found["ours"], "share"),
    }


def median(results: Sequence[dict[str, Any]], name: str) -> float:
    """Over the rounds."""
    return float(statistics.median(each[name] for each in results))


def main(arguments: Sequence[str]) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--targets", choices=("answers", "worked", "long"), default="answers")
    parser.add_argument("--rows", type=int, help="default: 64 on a CPU, else 192")
    parser.add_argument("--ways", nargs="*", help="some of TRL's ways: trl1, trl8, trl8-liger, ...")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", choices=("smollm2", "llama", "qwen2", "phi3"), default="smollm2")
    parser.add_argument("--tiny", action="store_true", help="a shape for a smoke test")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float32"), default="auto")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--step-rows", type=int, help="default: 8 on a CPU, else 16")
    parser.add_argument("--batch-tokens", type=int, help="of our passes; default: caft's own")
    parser.add_argument("--data", type=Path, default=DATA, help="of the answers")
    parser.add_argument(
        "--tokenizer",
        type=Path,
        help="where the embedded model is not at hand: a folder with its tokenizer",
    )
    for internal in ("--job", "--file", "--folder"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    on_cpu = options.device == "cpu"
    options.rows = options.rows or (64 if on_cpu else 192)
    options.step_rows = options.step_rows or (8 if on_cpu else 16)
    if options.batch_tokens is None:
        from caft.tune.config import TuningConfig

        options.batch_tokens = TuningConfig().tokens_a_pass(options.device)
    if options.rows <= 2 * options.step_rows:
        parser.error(f"--rows is {options.rows}; give more than {2 * options.step_rows}")
    if options.job:
        run_job(options)
        return
    from processor import describe_processor

    figures = {key: round(value, 4) for key, value in compare(options, arguments).items()}
    # Afterwards: it would take memory of the accelerator that the jobs are measured on.
    print(json.dumps(figures | {"processor": describe_processor(options.device)}))


if __name__ == "__main__":
    main(sys.argv[1:])
