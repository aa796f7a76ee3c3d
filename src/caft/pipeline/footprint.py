"""What a run needs of this machine: memory by the model's shape, and what has to be downloaded.

Nothing is asked of the hub: the shapes of the models that conf/model names are written down here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from caft.models.adapters import read_rank
from caft.models.config import tokens_of_a_pass
from caft.pipeline.steps import asks_one_token, list_steps, scoring_of, steps_of, tunes
from caft.run_config import RunConfig, Until
from caft.store import StageKind
from caft.teachers.config import LocalModelTeacherConfig
from caft.tune.config import Adapter, Select, TuningConfig

BYTES = {"bfloat16": 2, "float32": 4}
_PROGRAM = 0.8e9
"""Bytes of Python with torch and transformers, which count where the processor computes."""
_FOUR_BITS = 0.55
"""Bytes a weight of NF4 with its scales (Dettmers et al. 2023)."""
_ADAM = 16
"""Bytes a trained weight: itself, its gradient and AdamW's two moments, all float32."""
_MOST_CACHED = 8192
"""Tokens that models/reply_cache.py caches at once on a CPU."""
_LOGITS = 0.2e9
"""Bytes of the logits that exist at once: both losses and scores are computed in chunks."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a decoder. `kv` is the width of its keys, that of its values as well.

    `beside` counts weights that text never reaches, such as those of a vision tower.
    """

    hidden: int
    inner: int
    layers: int
    heads: int
    kv: int
    vocabulary: int
    tied: bool = True
    beside: int = 0

    @property
    def parameters(self) -> int:
        """Weights of embeddings, attention, gated feed-forward layers and norms; no biases."""
        heads = 1 if self.tied else 2
        inside = heads * self.vocabulary * self.hidden + self.layers * self.layer + self.hidden
        return inside + self.beside

    @property
    def layer(self) -> int:
        """Weights of one decoder layer."""
        attention = 2 * self.hidden * self.heads + 2 * self.hidden * self.kv
        return attention + 3 * self.hidden * self.inner + 2 * self.hidden

    def adapter(self, rank: int) -> int:
        """Weights of LoRA at this rank on all linear layers."""
        h, i = self.hidden, self.inner
        sums = (h + self.heads) * 2 + (h + self.kv) * 2 + (h + i) * 3
        return self.layers * rank * sums


KNOWN = {
    "microsoft/Phi-3-mini-4k-instruct": Shape(3072, 8192, 32, 3072, 3072, 32_064, tied=False),
    "microsoft/Phi-4-mini-instruct": Shape(3072, 8192, 32, 3072, 1024, 200_064),
    "Qwen/Qwen2.5-3B-Instruct": Shape(2048, 11_008, 36, 2048, 256, 151_936),
    "Qwen/Qwen3-4B": Shape(2560, 9728, 36, 4096, 1024, 151_936),
    "meta-llama/Llama-3.2-3B-Instruct": Shape(3072, 8192, 28, 3072, 1024, 128_256),
    "HuggingFaceTB/SmolLM2-135M-Instruct": Shape(576, 1536, 30, 576, 192, 49_152),
    "microsoft/Phi-3.5-mini-instruct": Shape(3072, 8192, 32, 3072, 3072, 32_064, tied=False),
    "microsoft/phi-4": Shape(5120, 17_920, 40, 5120, 1280, 100_352, tied=False),
    "microsoft/Phi-4-reasoning": Shape(5120, 17_920, 40, 5120, 1280, 100_352, tied=False),
    "Qwen/Qwen2.5-0.5B-Instruct": Shape(896, 4864, 24, 896, 128, 151_936),
    "Qwen/Qwen2.5-1.5B-Instruct": Shape(1536, 8960, 28, 1536, 256, 151_936),
    "Qwen/Qwen2.5-7B-Instruct": Shape(3584, 18_944, 28, 3584, 512, 152_064, tied=False),
    "Qwen/Qwen2.5-14B-Instruct": Shape(5120, 13_824, 48, 5120, 1024, 152_064, tied=False),
    "Qwen/Qwen3-0.6B": Shape(1024, 3072, 28, 2048, 1024, 151_936),
    "Qwen/Qwen3-1.7B": Shape(2048, 6144, 28, 2048, 1024, 151_936),
    "Qwen/Qwen3-8B": Shape(4096, 12_288, 36, 4096, 1024, 151_936, tied=False),
    "Qwen/Qwen3-14B": Shape(5120, 17_408, 40, 5120, 1024, 151_936, tied=False),
    "meta-llama/Llama-3.1-8B-Instruct": Shape(4096, 14_336, 32, 4096, 1024, 128_256, tied=False),
    "meta-llama/Llama-3.2-1B-Instruct": Shape(2048, 8192, 16, 2048, 512, 128_256),
    "google/gemma-3-1b-it": Shape(1152, 6912, 26, 1024, 256, 262_144),
    "google/gemma-3-4b-it": Shape(2560, 10_240, 34, 2048, 1024, 262_208, beside=419_816_304),
    "google/gemma-3-12b-it": Shape(3840, 15_360, 48, 4096, 2048, 262_208, beside=421_290_864),
    "HuggingFaceTB/SmolLM2-360M-Instruct": Shape(960, 2560, 32, 960, 320, 49_152),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": Shape(2048, 8192, 24, 2048, 2048, 49_152),
    "HuggingFaceTB/SmolLM3-3B": Shape(2048, 11_008, 36, 2048, 512, 128_256),
    "mistralai/Mistral-7B-Instruct-v0.3": Shape(4096, 14_336, 32, 4096, 1024, 32_768, tied=False),
}
"""By hub id, from the config.json of each."""


def shape_of(model_id: str, folder: Path | None) -> Shape | None:
    """From the model's own config.json where it is here; None for one that nobody knows."""
    known = KNOWN.get(model_id)
    if folder is None:
        return known
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    values = values.get("text_config", values)
    try:
        heads = values["num_attention_heads"]
        hidden = values["hidden_size"]
        wide = values.get("head_dim") or hidden // heads
        return Shape(
            hidden,
            values["intermediate_size"],
            values["num_hidden_layers"],
            heads * wide,
            (values.get("num_key_value_heads") or heads) * wide,
            values["vocab_size"],
            tied=bool(values.get("tie_word_embeddings", True)),
            beside=known.beside if known else 0,
        )
    except (KeyError, TypeError):  # a family with other names, or one that leaves out defaults
        return known


def download_size(model_id: str) -> float | None:
    """Bytes of a known hub model, which is stored in bfloat16; None for any other."""
    shape = KNOWN.get(model_id)
    return 2.0 * shape.parameters if shape else None


@dataclass(frozen=True, slots=True)
class Memory:
    """The expected peak in bytes, the part of the run that has it, and the model there."""

    peak: float
    part: str
    shape: Shape
    dtype: str

    @property
    def weights(self) -> float:
        """Bytes of the model's weights."""
        return float(self.shape.parameters * BYTES[self.dtype])


def estimate_memory(
    config: RunConfig, shape: Shape, device: str, dtype: str, longest: int = 0
) -> Memory:
    """The student's highest of reading, writing and tuning, on one device.

    `longest` is the longest training row in tokens, where it is known. For the embedded model the
    measured peaks of tuning were 5 to 15% lower.
    """
    weights = shape.parameters * BYTES[dtype]
    peaks = {"scoring": weights + _of_reading(shape, device, dtype)}
    chain = scoring_of(config).chain
    if {step.kind for step in list_steps(config)} & {StageKind.chains, StageKind.samples}:
        tokens = chain.batch_size * chain.max_new_tokens
        peaks["writing chains"] = weights + _of_writing(tokens, shape, device, dtype)
    if tunes(config):
        peaks["tuning"] = _of_tuning(config, shape, device, dtype, longest)
    if tokens := _written_at_once(config):
        peaks["writing replies"] = weights + _of_writing(tokens, shape, device, dtype)
    part = max(peaks, key=lambda each: peaks[each])
    return Memory(_beside(device) + peaks[part], part, shape, dtype)


def estimate_teacher(
    config: RunConfig, teacher: LocalModelTeacherConfig, shape: Shape, device: str, dtype: str
) -> Memory:
    """A local teacher's, which is loaded while the student is not."""
    peak, part = _of_reading(shape, device, dtype), "the teacher's scoring"
    if any(step.kind is StageKind.distill for step in list_steps(config)):
        cached = _of_writing(teacher.batch_size * teacher.max_tokens, shape, device, dtype)
        peak, part = max(peak, cached), "the teacher's replies"
    return Memory(_beside(device) + shape.parameters * BYTES[dtype] + peak, part, shape, dtype)


def _beside(device: str) -> float:
    """Bytes of all that is no model."""
    return _LOGITS + (_PROGRAM if device == "cpu" else 0.0)


def _of_reading(shape: Shape, device: str, dtype: str) -> float:
    """A pass keeps one layer's activations."""
    return float(tokens_of_a_pass(device) * _of_layer(shape) * BYTES[dtype])


def _of_layer(shape: Shape) -> int:
    """Numbers a token that one layer keeps for its backward pass, counted in its operations."""
    return 10 * shape.hidden + 4 * shape.inner


def _of_tuning(config: RunConfig, shape: Shape, device: str, dtype: str, longest: int) -> float:
    tuning, trainer = config.tuning, config.trainer
    devices = trainer.processes if trainer.shards else 1
    again = tuning.runs_again(dtype, divided=trainer.shards)
    kept = 1 if again else shape.layers
    inputs = shape.layers * shape.hidden if again else 0
    rows = tuning.batch_size * (longest or tuning.max_length or tuning.tokens_a_pass(device))
    tokens = min(tuning.tokens_a_pass(device), rows)
    activations = tokens * (kept * _of_layer(shape) + inputs) * BYTES[dtype]
    # tuning.select=best copies weights into the host's memory, and divided ones on their device.
    copied = BYTES["float32"] if tuning.select is Select.best else 0
    if tuning.adapter is Adapter.full:
        trained = (shape.parameters - shape.beside) / devices
        # What text never reaches has no gradient, and so no moments.
        unused = shape.beside * BYTES["float32"] / devices
        gathered = _gathered(config, shape) * 2 * BYTES["float32"]  # with its gradient
        copy = copied * shape.parameters / devices if device == "cpu" or trainer.shards else 0
        return float(trained * (_ADAM + BYTES[dtype]) + unused + gathered + copy + activations)
    four_bits = tuning.adapter is Adapter.qlora
    weights = shape.parameters / devices * (_FOUR_BITS if four_bits else BYTES[dtype])
    gathered = _gathered(config, shape) * BYTES[dtype]
    state = _ADAM + (copied if device == "cpu" else 0)
    return float(weights + gathered + shape.adapter(rank_of(tuning)) * state + activations)


def rank_of(tuning: TuningConfig) -> int:
    """That of the adapter which tuning starts from, or of new ones."""
    start = tuning.start_from
    return (start and read_rank(Path(start).expanduser())) or tuning.lora.r


def _gathered(config: RunConfig, shape: Shape) -> int:
    """Weights of a divided model that a device has whole at once, beside its part of all.

    Two layers, since the next one is gathered while one runs; and all that is in no layer, such as
    embeddings and head, for the whole pass.
    """
    outside = shape.parameters - shape.layers * shape.layer
    return outside + 2 * shape.layer if config.trainer.shards else 0


def _written_at_once(config: RunConfig) -> int:
    """The most tokens of replies that an evaluation holds; 0 where it writes none."""
    evaluation = config.evaluation
    if all(asks_one_token(config, step) for step in steps_of(config, Until.evaluate)):
        return 0
    answers = [evaluation.max_new_tokens, *(each.max_new_tokens for each in config.further)]
    return evaluation.batch_size * (max(answers) + (evaluation.max_thinking_tokens or 0))


def _of_writing(tokens: int, shape: Shape, device: str, dtype: str) -> float:
    """Keys and values of all replies that are written at once."""
    if device == "cpu":
        tokens = min(tokens, _MOST_CACHED)
    return float(tokens * 2 * shape.layers * shape.kv * BYTES[dtype])
