"""Tokens a second and memory of tuning, against TRL's SFTTrainer, side by side in one run.

    pip install -e '.[benchmarks]'
    python benchmarks/tuning.py                       # answers: rows 900 to 963 of the real rows
    python benchmarks/tuning.py --targets worked      # arithmetic with its worked solutions
    python benchmarks/tuning.py --targets long        # replies of 700 tokens
    python benchmarks/tuning.py --device cuda --model llama       # 3B-shaped, or qwen2, phi3
    python benchmarks/tuning.py --model llama --tiny --rows 8     # a smoke test

All train the same token rows in the same order with the same fresh adapters (LoRA, r = 16, all
linear layers), AdamW, steps of 8 rows, loss over the completion only. Every job is a process of
its own, in the order ours, TRL at batch 1, TRL at batch 8, and again; rates are medians, memory is
the process's peak.

The last line is one JSON object:
    ratio_vs_trl                our tokens a second, prompts included, over TRL's faster batch
    memory_ratio_vs_trl_batch8  our peak memory over TRL's at batch 8
    loss_difference             mean over steps of |our loss - TRL's| / TRL's, at batch 1
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

DATA = Path(__file__).parents[1] / "../shared/data/mmlu_pro_qwen_train.jsonl"
STEP_ROWS = 8
WAYS = ("ours", "trl1", "trl8")
Rows = list[tuple[list[int], list[int]]]


def read_rows(targets: str, count: int) -> Rows:
    """Prompt and completion tokens of every row, as the package writes them."""
    from caft.data.arithmetic import load_arithmetic
    from caft.data.config import ArithmeticConfig
    from caft.models.encoding import end_of_turn
    from caft.records import Question, Target
    from caft.text.config import PromptConfig, PromptStyle
    from caft.tune.config import AnswerTarget
    from caft.tune.examples import Lesson, encode_lesson
    from models import embedded_tokenizer

    tokenizer = embedded_tokenizer()
    if targets == "long":
        draw = Random(0)
        return [
            ([draw.randrange(100, 40_000) for _ in range(240)],
             [draw.randrange(100, 40_000) for _ in range(700)])
            for _ in range(count)
        ]  # fmt: skip
    if targets == "worked":
        questions = load_arithmetic(ArithmeticConfig(name="arithmetic", train=count)).train
        lessons = [Lesson(item, Target.rationale, "hard", item.rationale) for item in questions]
        prompt = PromptConfig(
            style=PromptStyle.completion, completion_rationale="{question}\nSteps:"
        )
    else:
        lines = DATA.read_text(encoding="utf-8").splitlines()[900 : 900 + count]
        rows = [json.loads(line) for line in lines]
        lessons = [
            Lesson(
                Question(
                    id=str(number), text=row["question"], options=tuple(row["options"]),
                    gold_index=row["answer_index"], subject=row["category"],
                ),
                Target.answer, "easy",
            )
            for number, row in enumerate(rows)
        ]  # fmt: skip
        prompt = PromptConfig()
    chat = targets != "worked"
    end_id = end_of_turn(tokenizer, chat=chat)
    examples = [
        encode_lesson(lesson, prompt, AnswerTarget.bare, tokenizer, chat=chat, end_id=end_id)
        for lesson in lessons
    ]
    return [(list(row.prompt_ids), list(row.completion_ids)) for row in examples]


def adapt(model: Any, *, lean: bool) -> Any:
    """The same fresh adapters for all."""
    import torch

    from caft.models.adapters import add_lora

    torch.manual_seed(0)
    adapted = add_lora(
        model, r=16, alpha=32, dropout=0.0, modules=(), use_dora=False, use_rslora=False
    )
    if not lean:
        for layer in adapted.modules():
            vars(layer).pop("forward", None)
    return adapted.train()


def run_ours(model: Any, rows: Rows, options: argparse.Namespace) -> list[float]:
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
    config = TuningConfig(learning_rate=options.learning_rate, batch_tokens=options.batch_tokens)
    steps: Any = [
        make_step(examples[start : start + STEP_ROWS], config.batch_tokens)
        for start in range(0, len(examples), STEP_ROWS)
    ]
    losses: list[float] = []
    module = TuningModule(
        adapt(model, lean=True),
        config,
        steps=len(steps),
        record=lambda row: losses.append(row["loss"]),
    )
    trainer = build_trainer(
        TrainerConfig(accelerator=options.device, progress=False), folder=Path(options.folder)
    )
    trainer.fit(module, DataLoader(steps, batch_size=None))
    return losses


def run_trl(model: Any, rows: Rows, options: argparse.Namespace, batch: int) -> list[float]:
    """Losses by step of SFTTrainer on the same tokens."""
    import torch
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from trl import SFTConfig, SFTTrainer

    from models import embedded_tokenizer

    class InOrder(SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    trainer = InOrder(
        model=adapt(model, lean=False),
        args=SFTConfig(
            output_dir=options.folder,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=STEP_ROWS // batch,
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
        processing_class=embedded_tokenizer(),
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
    start = time.perf_counter()
    if ours:
        losses = run_ours(model, rows, options)
    else:
        losses = run_trl(model, rows, options, int(options.job.removeprefix("trl")))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "losses": losses, "peak": _peak(options.device)}))


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
    rows = read_rows(options.targets, options.rows)
    tokens = sum(len(prompt) + len(completion) for prompt, completion in rows)
    print(f"{len(rows)} rows, {tokens} tokens, {len(rows) // STEP_ROWS} steps of {STEP_ROWS} rows")
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        file.write_text(json.dumps(rows), encoding="utf-8")
        for _ in range(options.rounds):
            for way in WAYS:
                result = start_job(way, file, arguments)
                found[way].append(result)
                rate, peak = tokens / result["seconds"], result["peak"] / 1e9
                print(f"{way:5} {rate:7.0f} tokens/s  {peak:5.2f} GB", flush=True)
    rate = {way: tokens / statistics.median(r["seconds"] for r in found[way]) for way in WAYS}
    peak = {way: max(r["peak"] for r in found[way]) for way in WAYS}
    pairs = list(zip(found["ours"][0]["losses"], found["trl1"][0]["losses"], strict=True))
    return {
        "ratio_vs_trl": rate["ours"] / max(rate["trl1"], rate["trl8"]),
        "memory_ratio_vs_trl_batch8": peak["ours"] / peak["trl8"],
        "loss_difference": statistics.fmean(abs(a - b) / b for a, b in pairs),
    }


def main(arguments: Sequence[str]) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", choices=("answers", "worked", "long"), default="answers")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", choices=("smollm2", "llama", "qwen2", "phi3"), default="smollm2")
    parser.add_argument("--tiny", action="store_true", help="a shape for a smoke test")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float32"), default="auto")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--batch-tokens", type=int, default=2048, help="of ours, a forward pass")
    for internal in ("--job", "--file", "--folder"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.job:
        run_job(options)
        return
    print(json.dumps({key: round(v, 4) for key, v in compare(options, arguments).items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
