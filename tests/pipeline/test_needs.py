"""Time by the store's finished stages, memory by the model's shape, downloads by its size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from caft.hydra_bridge import compose, find_conf
from caft.pipeline import footprint
from caft.pipeline.dry_run import plan_run
from caft.pipeline.expected import count_prompt_tokens
from caft.pipeline.footprint import (
    KNOWN,
    Shape,
    download_size,
    estimate_memory,
    estimate_teacher,
    shape_of,
)
from caft.pipeline.needs import describe_downloads, describe_memory, tell_needs
from caft.pipeline.workload import Load, fit_rate, load_of_tuning, measure_rates, seconds_of
from caft.pipeline.workspace import Workspace
from caft.records import Target
from caft.store import StageKind, Store, Tokens
from caft.teachers.replies import BYTES_A_TOKEN
from caft.text.prompts import Wanted, write_prompt

Open = Callable[..., Workspace]

# As the model cards and the indices of their safetensors have them.
PUBLISHED = {
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "microsoft/Phi-3.5-mini-instruct": 3_821_079_552,
    "microsoft/phi-4": 14_659_507_200,
    "microsoft/Phi-4-reasoning": 14_659_507_200,
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-14B-Instruct": 14_770_033_664,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-3-4b-it": 4_300_079_472,
    "google/gemma-3-12b-it": 12_187_325_040,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
}


def test_shapes_have_the_published_numbers_of_weights() -> None:
    assert KNOWN.keys() == PUBLISHED.keys()
    for name, shape in KNOWN.items():
        # Without biases, which Qwen2.5 has a few of.
        assert shape.parameters == pytest.approx(PUBLISHED[name], rel=1e-4)
    assert download_size("Qwen/Qwen3-4B") == pytest.approx(8.04e9, rel=1e-2)
    assert download_size("someone/else") is None


TYPES = {
    "Phi": "phi3",
    "phi": "phi3",
    "Qwen2.5": "qwen2",
    "Qwen3": "qwen3",
    "Llama": "llama",
    "gemma": "gemma3_text",
    "SmolLM2": "llama",
    "SmolLM3": "smollm3",
    "Mistral": "mistral",
}
"""The model type by the beginning of the hub's name."""
HEADS = {"Phi-3": 96, "Qwen2.5-0.5B": 64, "Llama-3.2-1B": 64, "gemma": 256, "SmolLM2": 64}
"""The size of a head where it is not 128."""


@pytest.mark.slow
def test_transformers_builds_the_published_numbers_of_these_shapes() -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    for name, shape in KNOWN.items():
        family = next(kind for start, kind in TYPES.items() if f"/{start}" in name)
        size = next((size for start, size in HEADS.items() if f"/{start}" in name), 128)
        config = AutoConfig.for_model(
            family, vocab_size=shape.vocabulary, hidden_size=shape.hidden, head_dim=size,
            intermediate_size=shape.inner, num_hidden_layers=shape.layers, pad_token_id=0,
            num_attention_heads=shape.heads // size, num_key_value_heads=shape.kv // size,
            tie_word_embeddings=shape.tied,
        )  # fmt: skip
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        assert sum(w.numel() for w in model.parameters()) + shape.beside == PUBLISHED[name], name


def test_every_hub_model_of_conf_is_known() -> None:
    files = [yaml.safe_load(file.read_text()) for file in (find_conf() / "model").glob("*.yaml")]
    hub = {each["id"] for each in files if "/schema/model/hub@_here_" in each["defaults"]}
    assert len(hub) == 25
    assert hub <= KNOWN.keys()


def test_a_shape_is_read_from_a_models_own_config(open_small: Open) -> None:
    student = open_small().student
    shape = shape_of("tiny", student.folder)
    assert shape is not None
    assert shape.parameters == student.parameters


def test_a_config_that_leaves_out_defaults_has_the_shape_of_its_name(tmp_path: Path) -> None:
    # As Gemma 3 (4B) has it.
    text = '{"text_config": {"hidden_size": 2560, "num_hidden_layers": 34}}'
    (tmp_path / "config.json").write_text(text)
    name = "google/gemma-3-4b-it"
    assert shape_of(name, tmp_path) == KNOWN[name]
    assert shape_of("someone/else", tmp_path) is None


def test_memory_grows_with_what_is_trained_and_kept() -> None:
    shape = Shape(hidden=100, inner=300, layers=10, heads=100, kv=50, vocabulary=1000)
    words = ["tuning.batch_size=40", "tuning.lora.r=16", "until=tune"]

    def peak(*more: str, device: str = "cuda") -> float:
        return estimate_memory(compose([*words, *more]), shape, device, "bfloat16", 50).peak

    # 40 rows of 50 tokens keep 10 * 100 + 4 * 300 numbers a layer, of 2 bytes each.
    kept = 2000 * 10 * 2200 * 2
    trained = 10 * 16 * (2 * 200 + 2 * 150 + 3 * 400)
    lora = 2 * shape.parameters + 16 * trained + kept + 0.2e9
    assert peak() == pytest.approx(lora)
    assert peak("tuning=full") == pytest.approx(18 * shape.parameters + kept + 0.2e9)
    assert peak("tuning.gradient_checkpointing=true") < peak() < peak("tuning.lora.r=64")
    assert peak(device="cpu") - peak() == pytest.approx(0.8e9)


def test_the_copy_of_the_best_weights_counts_where_it_is() -> None:
    shape = Shape(hidden=100, inner=300, layers=10, heads=100, kv=50, vocabulary=1000)

    def extra(*words: str, device: str = "cuda") -> float:
        last, best = (
            footprint._of_tuning(compose([*words, *more]), shape, device, "bfloat16", 50)
            for more in ([], ["tuning.select=best"])
        )
        return best - last

    four = ["trainer.devices=4", "trainer.strategy=fsdp"]
    full = 4 * shape.parameters
    assert [extra(), extra("tuning=full"), extra(*four)] == [0, 0, 0]  # in the host's memory
    assert extra("tuning=full", *four) == pytest.approx(full / 4)
    assert extra("tuning=full", device="cpu") == pytest.approx(full)
    assert extra("tuning.lora.r=2", device="cpu") == pytest.approx(4 * shape.adapter(2))


def test_an_adapter_to_start_from_has_its_own_rank(tmp_path: Path) -> None:
    shape = Shape(hidden=100, inner=300, layers=10, heads=100, kv=50, vocabulary=1000)

    def tuning(*words: str) -> float:
        return footprint._of_tuning(compose(words), shape, "cuda", "bfloat16", 50)

    start = f"tuning.start_from={tmp_path}"
    assert tuning(start, "tuning.lora.r=8") == tuning("tuning.lora.r=8")  # nothing is there yet
    (tmp_path / "adapter_config.json").write_text('{"r": 64}')
    assert tuning(start) == tuning("tuning.lora.r=64") > tuning()


def test_a_peak_is_of_what_is_written() -> None:
    shape = Shape(hidden=100, inner=300, layers=10, heads=100, kv=50, vocabulary=1000)

    def most(*words: str) -> tuple[str, float]:
        needed = estimate_memory(compose(words), shape, "cuda", "bfloat16")
        return needed.part, needed.peak

    answers = ["method=sft", "evaluation.modes=[answer]", "evaluation.batch_size=999999"]
    assert most(*answers)[0] == "tuning"
    assert most(*answers, "tuning.answer_target=bracketed")[0] == "writing replies"
    chains = ["until=score", "score.chain.batch_size=999", "score.chain.max_new_tokens=1000"]
    assert most(*chains)[0] == "scoring"
    part, peak = most(*chains, "score.estimators=[cot_mean_entropy]")
    # Keys and values, of 2 bytes each, of 50 numbers in 10 layers.
    assert part == "writing chains"
    assert peak == pytest.approx(2 * shape.parameters + 999_000 * 2 * 10 * 50 * 2 + 0.2e9)
    assert most(*chains, "score.estimators=[pass_rate]") == (part, peak)


LOCAL = ["teacher=local_model", "teacher.id=Qwen/Qwen2.5-14B-Instruct"]


def test_a_local_teacher_counts_where_it_is_asked(open_small: Open) -> None:
    assert open_small().student  # it is made here
    asks = ["method=distill", *LOCAL, "dry_run=true"]
    told = describe_memory(open_small(*asks), 0)
    assert "in the teacher's replies (14.8 billion weights" in told
    assert "scoring" in describe_memory(open_small("until=score", *asks), 0)
    gain = describe_memory(open_small("until=score", "score.estimators=[entropy_gain]", *asks), 0)
    assert "in the teacher's scoring" in gain
    told = describe_memory(open_small(*asks, "teacher.id=c/d"), 0)
    assert told.startswith("about ")
    assert told.endswith("), without the teacher c/d, whose shape is known after its download")
    config, shape = compose([*LOCAL, "teacher.batch_size=99"]), KNOWN[LOCAL[1][11:]]
    peak = estimate_teacher(config, config.teacher, shape, "cuda", "bfloat16").peak
    cached = 99 * 1024 * 2 * shape.layers * shape.kv * 2
    assert peak == pytest.approx(2 * shape.parameters + cached + 0.2e9)


def test_divided_weights_are_gathered_where_they_are_used() -> None:
    shape = Shape(hidden=100, inner=300, layers=10, heads=100, kv=50, vocabulary=1000, tied=False)
    words = ["tuning.batch_size=40", "tuning.lora.r=16", "until=tune"]
    four = ["trainer.devices=4", "trainer.strategy=fsdp"]

    def tuning(*more: str) -> float:
        config = compose([*words, *more])
        return footprint._of_tuning(config, shape, "cuda", "bfloat16", 50)

    layer = 2 * 100 * 100 + 2 * 100 * 50 + 3 * 100 * 300 + 2 * 100
    # Embeddings, head and last norm for the whole pass; a layer, and the one that is next.
    gathered = 2 * 1000 * 100 + 100 + 2 * layer
    parts = (2 * 1000 * 100 + 100 + 10 * layer) / 4
    trained = 10 * 16 * (2 * 200 + 2 * 150 + 3 * 400)
    kept = 2000 * 10 * 2200 * 2
    assert tuning(*four) == pytest.approx(2 * parts + 2 * gathered + 16 * trained + kept)
    # Float32, with their gradients; layers run again, and keep their inputs.
    again = 2000 * (2200 + 10 * 100) * 2
    full = tuning("tuning=full", *four)
    assert full == pytest.approx(18 * parts + 8 * gathered + again)
    assert full == tuning("tuning=full", "tuning.gradient_checkpointing=true", *four)
    assert tuning(*four[1:]) == tuning()  # one device has all


@dataclass
class Finished:
    """A stage of so many tokens that a model has read."""

    name: str
    tokens: Tokens
    kind: StageKind = StageKind.score
    resumable: bool = False
    scratch: tuple[str, ...] = ()
    student: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> dict[str, object]:
        return {"name": self.name, "student": self.student}

    def produce(self, folder: Path) -> Tokens:
        (folder / "made").write_text(self.name)
        return self.tokens

    @staticmethod
    def read(folder: Path) -> str:
        return (folder / "made").read_text()


def test_pace_is_that_of_the_same_model_and_kind(open_small: Open, tmp_path: Path) -> None:
    student, store = open_small().student, Store(tmp_path / "paces")
    made = [
        store.obtain(Finished(str(count), Tokens(read=count), student=student.key))
        for count in (100, 200)
    ]
    store.obtain(Finished("other", Tokens(read=10**9), student={"model": "another"}))
    rates = measure_rates(store)
    load = Load("read", 3e9, student)
    rate = fit_rate([(count, each.seconds) for count, each in zip((100, 200), made, strict=True)])
    assert seconds_of(load, rates) == pytest.approx(rate.setup + 3e9 * rate.token)
    assert seconds_of(Load("written", 1, student), rates) is None
    assert seconds_of(None, rates) is None


def test_a_pace_has_a_part_that_no_token_takes() -> None:
    # 20 s to load the model, 10 ms a token; one of them ran beside other work.
    seen = [(100, 21.0), (1000, 30.0), (2000, 40.0), (4000, 60.0), (5000, 700.0)]
    assert fit_rate(seen) == pytest.approx((20.0, 0.01))
    # Seen: a stage of 4,041 tokens was expected to take as long as the shortest of three main jobs.
    main = [(99_986, 2000.0), (99_986, 2100.0), (99_986, 2400.0)]
    assert fit_rate(main) == pytest.approx((0.0, 2100 / 99_986))
    # The smaller stage took longer a token, but all the same a stage of none takes no time.
    assert fit_rate([(100, 1.0), (200, 4.0)]) == pytest.approx((0.0, 0.015))
    assert fit_rate([(100, 9.0), (200, 4.0)]) == pytest.approx((0.0, (0.09 + 0.02) / 2))


def test_what_no_stage_has_told_is_not_known(open_small: Open) -> None:
    workspace = open_small("dry_run=true")
    plan = plan_run(workspace)
    times, needs = tell_needs(workspace, plan)
    assert times["score"] == "not known"
    assert times["split"] == ""
    assert dict(needs)["Time"].startswith("not known: the store has no finished stage")
    assert dict(needs)["Time"].endswith("first, such as dataset.train=4")  # half of them
    assert dict(needs)["Memory"].startswith("not known")  # the tiny model is not made yet
    assert dict(needs)["Download"] == "nothing"


def test_a_made_model_has_loads_for_all_that_is_not_paid(open_small: Open) -> None:
    student = open_small().student  # it is made here
    workspace = open_small("method.stages.1.rescore=true", "dry_run=true")
    plan = plan_run(workspace)
    loads = {line.name: line.load for line in plan if line.kind and "distill" not in line.name}
    assert "rescore 2" in loads
    assert None not in loads.values()
    score = workspace.base_scoring
    assert loads["score"].tokens == sum(len(row.prompt_ids) for row in score.rows)
    assert {load.pace[1] for load in loads.values()} == {student.fingerprint}


def test_rationales_to_be_bought_may_be_longer_than_every_known_row(open_small: Open) -> None:
    assert open_small().student  # it is made here
    paid = ["teacher=vllm", "teacher.model=a/b"]

    def told(*words: str) -> str:
        workspace = open_small("tuning.max_length=null", "dry_run=true", *words)
        return dict(tell_needs(workspace, plan_run(workspace))[1])["Memory"]

    assert told("teacher=worked") != told(*paid)
    assert told(*paid) == describe_memory(open_small("tuning.max_length=null", "dry_run=true"), 0)


def test_tokens_of_completions_are_of_what_is_asked(open_small: Open) -> None:
    chat, plain = (
        open_small(f"dataset.prompt.style={style}", "dataset.prompt.shots=0", "dry_run=true")
        for style in ("chat", "completion")
    )
    prompt, questions = plain.config.dataset.prompt, plain.every_question
    # The shared prefix is counted as one more prompt.
    texts = [
        write_prompt(each, prompt, Wanted.answer, chat=False).text
        for each in (*questions, questions[0])
    ]
    assert count_prompt_tokens(plain) == len("".join(texts).encode()) // BYTES_A_TOKEN
    assert count_prompt_tokens(plain) < count_prompt_tokens(chat)


def test_a_class_with_several_targets_has_rows_of_each(open_small: Open) -> None:
    # Its two targets have a dict of shares in the config, where others have a target.
    workspace = open_small("method=answer_and_rationale", "teacher=worked", "dry_run=true")
    stage = workspace.config.method.stages[0]
    both = load_of_tuning(workspace, workspace.student, stage, 12)
    assert both is not None
    answers = load_of_tuning(
        workspace, workspace.student, replace(stage, targets={"hard": Target.answer}), 12
    )
    assert answers is not None
    assert both.longest > answers.longest


def test_a_missing_hub_model_is_a_download_of_its_size(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("caft.pipeline.needs.find_model", lambda _model: None)
    known = describe_downloads(compose(["model=phi3"]))
    assert known == "microsoft/Phi-3-mini-4k-instruct, 7.6 GB"
    words = ["model=phi3", "model.id=a/b", "teacher=local_model", "teacher.id=c/d"]
    other = describe_downloads(compose(words))
    assert other.startswith("a/b, size not known (a dry run asks no hub); c/d, size not known")
    assert "c/d" not in describe_downloads(compose([*words, "until=score"]))
