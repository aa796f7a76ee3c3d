"""Memory of a vocabulary of 200,000: neither the prompt nor a long rationale multiplies it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from caft.models.adapters import add_lora
from caft.records import Example, Target
from caft.tune.batches import make_step
from caft.tune.config import TuningConfig
from caft.tune.module import TuningModule

prompt, completion = map(int, sys.argv[1:])
config = AutoConfig.for_model(
    "llama", vocab_size=200_000, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
    num_attention_heads=1, max_position_embeddings=2048,
)
model = add_lora(
    AutoModelForCausalLM.from_config(config), r=2, alpha=4, dropout=0.0, modules=(),
    use_dora=False, use_rslora=False,
)
module = TuningModule(model, TuningConfig(), steps=1, record=lambda row: None)
module.manual_backward = lambda loss: loss.backward()

def step(prompt, completion):
    row = Example(
        question_id="q", target=Target.rationale, complexity="hard",
        prompt_ids=tuple(range(prompt)), completion_ids=tuple(range(completion)),
    )
    module._accumulate(make_step([row], most_tokens=2048))

step(4, 4)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(prompt, completion)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
MIB_OF_A_TOKENS_LOGITS = 200_000 * 4 / 2**20


def grown(prompt: int, completion: int) -> int:
    """MiB that one step takes above the model and a first, small step."""
    command = [sys.executable, "-c", PROGRAM, str(prompt), str(completion)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_prompt_times_vocabulary() -> None:
    short, long = grown(50, 8), grown(1050, 8)
    assert long - short < 0.2 * 1000 * MIB_OF_A_TOKENS_LOGITS


def test_a_long_rationale_never_has_all_of_its_logits_at_once() -> None:
    assert grown(50, 900) < 0.5 * 900 * MIB_OF_A_TOKENS_LOGITS
