"""Writes docs/how-to/models.md from conf/model and the dry run's estimate of memory.

python docs/models.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from caft.hydra_bridge import compose, find_conf
from caft.pipeline.footprint import KNOWN, estimate_memory
from caft.run_config import RunConfig

PAGE = Path(__file__).parent / "how-to" / "models.md"
TUNINGS = ("lora", "qlora", "full")
INTRODUCTION = """\
# Models and their memory

For those who choose a student: `model=NAME` takes one of these, each pinned to a commit of the hub.
[Your model](model.md) is about any other.

| `model=` | what it is | LoRA, GB | QLoRA, GB | full, GB |
|---|---|---|---|---|
"""
NOTES = """
- "can think": with `evaluation.thinking=true` or `score.chain.thinking=true`, or where the method
  trains `thinking`; "thinks": always; the others do not.
- The dtype is bfloat16 where the device multiplies it natively, else float32 (`model.dtype`).
- LoRA is on all linear layers of the decoder; `tuning.lora.modules` names others.
- Memory is the highest of the whole default run on a GPU, in bfloat16, with passes of 4,096 tokens:
  what `dry_run=true` tells, before it knows the rows. QLoRA computes activations again in the
  backward pass, as `tuning.gradient_checkpointing=true` lets the others do, which then need less,
  as with shorter rows or a smaller `tuning.batch_tokens`. Of the embedded model, measured peaks of
  tuning were 5 to 15% lower; random models of the shapes of Llama-3.2-3B and Phi-3 took 18 to 19
  and 24 GB ([benchmarks](../benchmarks.md)); the others were not measured.

## Other architectures

Models of the Llama, Mistral, Qwen, Phi, Gemma, SmolLM, OLMo, Granite, Cohere, GLM, gpt-oss, GPT-2
and GPT-NeoX families run many rows in a pass. Soft caps (Gemma 2) and sinks (gpt-oss) are computed
as plain matrix products. Falcon, MPT, BLOOM, GPT-Neo, StableLM, Nemotron, Mamba and LFM2 run one
row in a pass, with their own attention and without a cache; the run says so in one line. It is
exact and slow: keep `evaluation.max_new_tokens` small. `tests/models/test_architectures.py`
compares each of them with plain transformers.

Phi-3.5-mini and Phi-4-mini have one set of rotary angles for rows up to 4,096 tokens and another
for longer ones. Rows of both kinds are in different passes, and a reply that comes to the other
side is read again with its prompt, as in transformers: no row depends on what is beside it.

This page is written by `docs/models.py`.
"""


def write_page() -> str:
    """The page's text."""
    configs = [compose([f"tuning={each}"]) for each in TUNINGS]
    files = sorted((find_conf() / "model").glob("*.yaml"), key=lambda file: file.stem)
    return INTRODUCTION + "".join(_list_models(files, configs)) + NOTES


def _list_models(files: list[Path], configs: list[RunConfig]) -> Iterator[str]:
    for file in files:
        text = file.read_text(encoding="utf-8")
        if shape := KNOWN.get(yaml.safe_load(text)["id"]):
            needed = [estimate_memory(config, shape, "cuda", "bfloat16") for config in configs]
            cells = [file.stem, _purpose(text), *(f"{each.peak / 1e9:.0f}" for each in needed)]
            yield f"| `{cells[0]}` | {' | '.join(cells[1:])} |\n"


def _purpose(text: str) -> str:
    """The comment that the file begins with, up to its commands."""
    return text.partition("#   ")[0].replace("\n#", "").lstrip("# ").strip()


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
