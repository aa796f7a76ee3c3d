"""The contract of every architecture: what a run computes is what plain transformers computes.

Small random weights go through score, tune, save, reload and evaluate. The reference is the model
as transformers loads it from the same folder, with its attention written out, one row in a pass.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from caft.kernels.packed_attention import runs_alone
from caft.models.config import Architecture, Dtype, HubModelConfig
from caft.models.reply_rules import ReplyRules
from caft.models.sources.locate import locate_model
from caft.models.sources.tiny_tokenizers import make_tokenizer
from caft.models.student import Student
from caft.records import Question, Target
from caft.score.module import ScoringModule, plan_scoring
from caft.score.prepare import ScoringRow, prepare_rows
from caft.store import Store
from caft.text.config import PromptConfig
from caft.trainers.config import TrainerConfig
from caft.tune.batches import make_step
from caft.tune.config import Adapter, TuningConfig
from caft.tune.examples import TrainingPair
from caft.tune.module import TuningModule
from caft.tune.stage import TuneInputs, encode_rows, read_tuned
from replies import generate_replies

HEAD = {"head_dim": 8}
WINDOW = {"sliding_window": 40}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": WINDOW,
    "mixtral": {"num_local_experts": 4},
    "qwen2": {},
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 16,
                  "shared_expert_intermediate_size": 16},
    "qwen3": HEAD,
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, **HEAD},
    "phi3": {},
    "phi": {},
    "gemma": HEAD,
    # Narrow caps: scores of random weights would hardly meet wide ones.
    "gemma2": {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0,
               "query_pre_attn_scalar": 8, **HEAD, **WINDOW},
    "gemma3_text": {"query_pre_attn_scalar": 8, **HEAD, **WINDOW},
    "gemma3": {},
    "smollm3": {},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters":
                {"rope_type": "default", "rope_theta": 10_000.0}, **HEAD, **WINDOW},
    "gpt2": {"n_positions": 512},
    "gpt_neox": {},
    "gpt_bigcode": {"n_positions": 512},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 512},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "olmo": {},
    "olmo2": {},
    "olmo3": WINDOW,
    "granite": {"logits_scaling": 2.0, "attention_multiplier": 0.5, "residual_multiplier": 0.7},
    "cohere": {"logit_scale": 0.5},
    "cohere2": {"logit_scale": 0.5, **HEAD, **WINDOW},
    "starcoder2": {},
    "glm4": HEAD,
    "exaone4": WINDOW,
    "deepseek_v3": {"num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 8,
                    "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
                    "first_k_dense_replace": 1, "n_routed_experts": 4, "num_experts_per_tok": 2,
                    "n_group": 1, "topk_group": 1, "moe_intermediate_size": 16},
    "falcon": {},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512},
    "bloom": {"n_layer": 2, "n_head": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 40,
                "num_layers": 2, "num_heads": 4},
    "stablelm": {},
    "nemotron": {},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba": {"state_size": 4},
}  # fmt: skip
ALONE = {"falcon", "mpt", "bloom", "gpt_neo", "stablelm", "nemotron", "lfm2", "mamba"}
"""Those that take no attention function of ours, or whose state runs along the sequence."""
QUICK = ("gemma2", "gpt_oss", "bloom")

QUESTIONS = [
    Question(id=f"q{n}", text=f"What is {n} + 3?" + " Mind the step." * (n % 3),
             options=("red", "blue", "green"), gold_index=n % 3, subject="math")
    for n in range(6)
]  # fmt: skip
PROMPT = PromptConfig()
# float32 beside float32, through two layers: no fault is this small, no rounding this large.
NEAR = {"rtol": 1e-3, "atol": 2e-4}


def write_model(architecture: str, folder: Path) -> None:
    tokenizer = make_tokenizer(Architecture.llama)
    shape = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "initializer_range": 0.2,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, **SHAPES[architecture],
    }  # fmt: skip
    if architecture == "gemma3":  # text and pictures, of which no run shows any
        text = {**shape, **SHAPES["gemma3_text"]}
        vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                  "num_attention_heads": 2, "image_size": 28, "patch_size": 14}  # fmt: skip
        shape = {"text_config": text, "vision_config": vision, "mm_tokens_per_image": 4}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **shape))
    for name, weight in model.named_parameters():
        if name.endswith("sinks"):
            torch.nn.init.normal_(weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(
    scope="module",
    params=[
        each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in SHAPES
    ],
)
def student(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Student:
    folder = tmp_path_factory.mktemp(request.param) / request.param
    write_model(request.param, folder)
    config = HubModelConfig(name="own", id="own", path=str(folder), dtype=Dtype.float32)
    return Student(config, locate_model(config), "cpu")


def read_plainly(folder: Path, tuned: Path | None = None) -> Any:
    from peft import PeftModel

    whole = tuned if tuned and not (tuned / "adapter_config.json").exists() else folder
    model = AutoModelForCausalLM.from_pretrained(
        whole, attn_implementation="eager", dtype=torch.float32
    )
    return (PeftModel.from_pretrained(model, tuned) if tuned and whole is folder else model).eval()


@torch.no_grad()
def log_p_plainly(model: Any, ids: Sequence[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].log_softmax(-1)


def rows_of(student: Student) -> list[ScoringRow]:
    return prepare_rows(QUESTIONS, PROMPT, student.tokenizer, QUESTIONS[:1])


def refuse_other_scores(model: Any, plain: Any, student: Student) -> None:
    """All prompts start alike, and their common start is run once."""
    rows = rows_of(student)
    prefix_ids, packs = plan_scoring(rows, 200)
    assert prefix_ids
    assert len(packs) > 1
    module = ScoringModule(model, prefix_ids, keeps_hidden=True)
    with torch.inference_mode():
        said = [item for pack in packs for item in module.predict_step(pack, 0)]
    assert len(said) == len(rows)
    by_id = {row.question_id: row for row in rows}
    for item in said:
        row = by_id[item.question_id]
        log_p = log_p_plainly(plain, row.prompt_ids)[list(row.label_ids)]
        torch.testing.assert_close(torch.tensor(item.label_log_p), log_p, **NEAR)
        assert item.hidden


def refuse_other_replies(model: Any, plain: Any, student: Student) -> None:
    """Greedy; a token may differ where the plain model's best two are as good as tied."""
    prompts = [list(row.prompt_ids) for row in rows_of(student)]
    rules = ReplyRules(
        max_new_tokens=4, end_ids=student.end_ids(chat=True), stop_after_marker=False
    )
    for prompt, reply in zip(
        prompts, generate_replies(model, student.tokenizer, prompts, rules, rows=4), strict=True
    ):
        for place, token in enumerate(reply.ids):
            log_p = log_p_plainly(plain, [*prompt, *reply.ids[:place]])
            assert float(log_p.max() - log_p[token]) < 1e-3


def tuning_of(student: Student, adapter: Adapter) -> TuneInputs:
    pairs = [TrainingPair(question, Target.answer, "easy") for question in QUESTIONS[:3]]
    pairs.append(TrainingPair(QUESTIONS[3], Target.rationale, "hard", "Step by step: [[A]]"))
    config = TuningConfig(
        adapter=adapter, batch_size=2, batch_tokens=500, learning_rate=1e-2, validate=False
    )
    quiet = TrainerConfig(accelerator="cpu", progress=False)
    return TuneInputs(student, pairs, 1, PROMPT, config, seed=0, trainer=quiet)


def test_scores_and_replies_are_the_plain_models(
    student: Student, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model, plain = student.load(), read_plainly(student.folder)
        student.load()
    alone = student.folder.name in ALONE
    assert runs_alone(model) is alone
    said = [text for text in caplog.messages if "runs one row at a time" in text]
    assert len(said) == alone  # once, however often it is loaded
    refuse_other_scores(model, plain, student)
    refuse_other_replies(model, plain, student)


def test_loss_and_gradients_are_the_plain_models(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, plain = student.load(), read_plainly(student.folder)
    rows = encode_rows(tuning_of(student, Adapter.full)).examples
    module = TuningModule(model, TuningConfig(), steps=1, record=print)
    monkeypatch.setattr(module, "manual_backward", torch.Tensor.backward)
    step = make_step(rows, 500)
    assert len(step.packs) < len(rows)
    found = module._accumulate(step)
    total = torch.zeros(())
    for row in rows:
        ids = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
        logits = plain(input_ids=ids, use_cache=False).logits[0, len(row.prompt_ids) - 1 : -1]
        total = total + cross_entropy(logits, torch.tensor(row.completion_ids), reduction="sum")
    (total / step.weight).backward()
    assert found == pytest.approx(float(total.detach()) / step.weight, rel=1e-4)
    norm = torch.stack([w.grad.norm() for w in plain.parameters() if w.grad is not None]).norm()
    for name, weight in model.named_parameters():
        wanted = plain.get_parameter(name).grad
        if wanted is None or weight.grad is None:
            assert (wanted is None or not wanted.any()) == (
                weight.grad is None or not weight.grad.any()
            )
            continue
        assert float((weight.grad - wanted).norm()) < 1e-3 * float(wanted.norm() + 1e-2 * norm)


@pytest.mark.parametrize("adapter", [Adapter.lora, Adapter.full], ids=lambda each: each.value)
def test_what_is_tuned_and_saved_is_read_alike_by_us_and_by_peft(
    student: Student, adapter: Adapter, tmp_path: Path
) -> None:
    tuning = tuning_of(student, adapter)
    if adapter is Adapter.full:
        tuning = replace(tuning, config=replace(tuning.config, gradient_checkpointing=True))
    artifact = Store(tmp_path).obtain(tuning)
    tuned = read_tuned(student, artifact)
    model = tuned.load()
    plain = read_plainly(student.folder, artifact.folder / "adapter")
    refuse_other_scores(model, plain, student)
    refuse_other_replies(model, plain, student)
    ids = rows_of(student)[0].prompt_ids
    before, after = (log_p_plainly(each, ids) for each in (read_plainly(student.folder), plain))
    assert float((before - after).abs().max()) > 1e-2
