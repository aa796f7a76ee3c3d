"""`caft export`: the rows are those that the run trained, in the form that each tool reads."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from caft.__main__ import main
from caft.export import configs, tools
from caft.export.__main__ import describe_export
from caft.export.write import Exported, _count_classes, count_weighed
from caft.models.config import Dtype, TinyModelConfig
from caft.models.loading import _quantised, load_tokenizer
from caft.records import Target
from caft.tune.config import (
    Adapter,
    MethodConfig,
    Rescore,
    Schedule,
    Select,
    StageConfig,
    TuningConfig,
)

TOOLS = ("trl", "axolotl", "llama_factory", "ms_swift", "messages")
# docs.axolotl.ai/docs/config-reference.html: the type of each key that is written.
AXOLOTL = {
    "base_model": str, "trust_remote_code": bool, "datasets": list, "val_set_size": int,
    "output_dir": str, "sequence_len": int, "sample_packing": bool, "adapter": str,
    "load_in_4bit": bool, "lora_r": int, "lora_alpha": int, "lora_dropout": float,
    "lora_target_linear": bool, "peft_use_dora": bool, "peft_use_rslora": bool,
    "lora_model_dir": str, "micro_batch_size": int, "gradient_accumulation_steps": int,
    "num_epochs": int, "optimizer": str, "learning_rate": float, "lr_scheduler": str,
    "warmup_steps": int, "weight_decay": float, "max_grad_norm": float,
    "gradient_checkpointing": bool, "bf16": bool, "seed": int,
}  # fmt: skip
# github.com/hiyouga/LLaMA-Factory: examples/train_lora, src/llamafactory/hparams.
LLAMA_FACTORY = {
    "model_name_or_path": str, "trust_remote_code": bool, "stage": str, "do_train": bool,
    "finetuning_type": str, "lora_rank": int, "lora_alpha": int, "lora_dropout": float,
    "lora_target": str, "use_dora": bool, "use_rslora": bool, "adapter_name_or_path": str,
    "dataset_dir": str, "dataset": str, "template": str, "cutoff_len": int, "output_dir": str,
    "per_device_train_batch_size": int, "gradient_accumulation_steps": int,
    "num_train_epochs": int, "learning_rate": float, "lr_scheduler_type": str,
    "warmup_steps": int, "weight_decay": float, "max_grad_norm": float,
    "disable_gradient_checkpointing": bool, "bf16": bool, "report_to": str, "seed": int,
}  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tokenizer_of(folder: Path) -> Any:
    model = json.loads((folder / "export.json").read_text())["model"]["id"]
    return load_tokenizer(Path(model), TinyModelConfig(name="tiny", id="tiny"))


def export(run: Path, tool: str, out: Path) -> Path:
    assert main(["export", str(run), "--to", tool, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def chat_run(shared: Any, small: Any) -> Any:
    return shared.run(
        *small.words, "dataset.prompt.style=chat", small.two_stages, "until=distill",
        "tuning.learning_rate=1e-05", "tuning.schedule=constant",
    )  # fmt: skip


@pytest.fixture(scope="module")
def exports(whole_run: Any, chat_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("exports")
    for tool in TOOLS:
        if tool != "messages":
            export(whole_run.folder, tool, folder / "plain" / tool)
        export(chat_run.folder, tool, folder / "chat" / tool)
    return folder


def test_rows_are_those_that_the_run_trained(whole_run: Any, exports: Any) -> None:
    classes = {row["question_id"]: row["complexity"] for row in whole_run.rows("scores")}
    texts = {row["question_id"]: row for row in whole_run.rows("rationales") if not row["refusal"]}
    trained = [row for row in whole_run.summary["stages"] if row["kind"] == "tune"]
    wanted = [{"easy": "answer", "middle": "answer"}, {"hard": "rationale"}]
    for number, targets in enumerate(wanted, start=1):
        rows = lines(exports / f"plain/trl/stage{number}.jsonl")
        assert {row["class"]: row["target"] for row in rows} == targets
        tokens = sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows)
        assert tokens == trained[number - 1]["tokens_trained"]  # one epoch each
        for row in rows:
            assert row["class"] == classes[row["question_id"]]
            assert row["teacher"] == ("worked" if row["target"] == "rationale" else "")
            assert row["commit"] == (whole_run.summary["run"]["git_commit"] or "")
            if row["target"] == "rationale":
                assert texts[row["question_id"]]["text"] in row["completion"]
        assert len({row["id"] for row in rows}) == len(rows)
        assert len({row["run_id"] for row in rows}) == 1
        assert re.fullmatch("[0-9a-f]{20}", rows[0]["run_id"])


@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_tokens_are_masked_up_to_the_completion(exports: Any, kind: str) -> None:
    """docs.axolotl.ai/docs/dataset-formats/tokenized.html: exactly three columns of integers."""
    folder = exports / kind / "axolotl"
    tokenizer = tokenizer_of(folder)
    for stage in ("stage1", "stage2"):
        texts, tokens = lines(folder / f"{stage}.jsonl"), lines(folder / f"{stage}.tokens.jsonl")
        for text, row in zip(texts, tokens, strict=True):
            assert list(row) == ["input_ids", "attention_mask", "labels"]
            assert set(row["attention_mask"]) == {1}
            masked = row["labels"].count(-100)
            assert masked == text["prompt_tokens"]
            assert row["labels"][masked:] == row["input_ids"][masked:]
            assert len(row["labels"]) == masked + text["completion_tokens"]
            assert tokenizer.decode(row["input_ids"][masked:]) == text["completion"]
            whole = tokenizer(text["prompt"] + text["completion"], add_special_tokens=False)
            assert whole.input_ids == row["input_ids"]


@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_yaml_configs_have_documented_keys_of_the_right_types(exports: Any, kind: str) -> None:
    for tool, keys in (("axolotl", AXOLOTL), ("llama_factory", LLAMA_FACTORY)):
        configs = [
            yaml.safe_load((exports / kind / tool / f"stage{number}.yaml").read_text())
            for number in (1, 2)
        ]
        before = "lora_model_dir" if tool == "axolotl" else "adapter_name_or_path"
        assert (configs[0].get(before), configs[1][before]) == (None, configs[0]["output_dir"])
        for config in configs:
            # YAML 1.1 would read 1e-05 as a text.
            assert {name: type(value) for name, value in config.items()} == {
                name: keys[name] for name in config
            }
        constant = "lr_scheduler" if tool == "axolotl" else "lr_scheduler_type"
        assert configs[0][constant] == ("linear" if kind == "plain" else "constant_with_warmup")
    (dataset,) = yaml.safe_load((exports / kind / "axolotl/stage2.yaml").read_text())["datasets"]
    assert dataset == {"path": "stage2.tokens.jsonl", "ds_type": "json", "type": None}


def test_llama_factory_finds_its_columns(exports: Any) -> None:
    """Its data/README.md; the template `empty` adds nothing, so the texts have every token."""
    folder = exports / "chat/llama_factory"
    for name, entry in json.loads((folder / "dataset_info.json").read_text()).items():
        rows = lines(folder / entry["file_name"])
        assert set(entry["columns"].values()) <= rows[0].keys()
        assert entry["formatting"] == "alpaca"
        config = yaml.safe_load((folder / f"{name}.yaml").read_text())
        assert (config["dataset"], config["dataset_dir"]) == (name, ".")
        tokenizer, tokens = (
            tokenizer_of(folder),
            lines(exports / f"chat/axolotl/{name}.tokens.jsonl"),
        )
        for row, wanted in zip(rows, tokens, strict=True):
            ids = [
                tokenizer.encode(row[column], add_special_tokens=False)
                for column in ("prompt", "completion")
            ]
            assert ids[0] + ids[1] == wanted["input_ids"]
            assert len(ids[0]) == wanted["labels"].count(-100)


def test_messages_are_what_the_models_own_template_reads(exports: Any) -> None:
    for tool in ("messages", "ms_swift"):
        rows = lines(exports / f"chat/{tool}/stage2.jsonl")
        tokenizer = tokenizer_of(exports / f"chat/{tool}")
        for row, wanted in zip(
            rows, lines(exports / "chat/axolotl/stage2.tokens.jsonl"), strict=True
        ):
            assert [turn["role"] for turn in row["messages"]] == ["system", "user", "assistant"]
            ids = tokenizer.apply_chat_template(row["messages"], return_dict=True)["input_ids"]
            assert ids == wanted["input_ids"]


def test_ms_swifts_script_goes_on_from_the_stage_before(exports: Any) -> None:
    """swift.readthedocs.io/en/latest/Instruction/Command-line-parameters.html"""
    for kind in ("plain", "chat"):
        text = (exports / kind / "ms_swift/train.sh").read_text()
        first, second = (
            shlex.split(part.replace("\\\n", " ")) for part in text.split("swift sft")[1:]
        )
        flags = dict(zip(second[::2], second[1::2], strict=True))
        assert all(flag.startswith("--") for flag in flags)
        assert flags["--adapters"] == "$(last out/stage1)"
        assert "--adapters" not in first
        assert flags["--use_chat_template"] == ("true" if kind == "chat" else "false")
    reply = lines(exports / "plain/ms_swift/stage1.jsonl")[0]["messages"][-1]["content"]
    assert "<" not in reply  # its generation template writes the end of the text itself


@pytest.mark.parametrize("dtype", Dtype)
def test_trl_has_the_runs_four_bits(dtype: Dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bitsandbytes and TRL: the script's own settings, beside those of a run on CUDA."""
    from transformers import BitsAndBytesConfig

    monkeypatch.setattr("caft.models.loading.multiplies_bfloat16", lambda _device: True)
    named = "float32" if dtype is Dtype.float32 else "auto"
    theirs = trl_quantisation("qlora", named, BitsAndBytesConfig)
    ours = _quantised(TinyModelConfig(name="tiny", id="tiny", dtype=dtype), "cuda")
    assert theirs.to_dict() == ours["quantization_config"].to_dict()  # type: ignore[attr-defined]


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_trl_makes_no_four_bits_where_the_run_has_none(adapter: str) -> None:
    def needs_bitsandbytes(**_: object) -> None:
        raise AssertionError("transformers 4 looks for bitsandbytes here")

    assert trl_quantisation(adapter, "auto", needs_bitsandbytes) is None


def trl_quantisation(adapter: str, dtype: str, make: Callable[..., Any]) -> Any:
    """What open_model() of the script for TRL gives from_pretrained, with `make` in its call."""
    script = ast.parse((Path(configs.__file__).parent / "templates/train_trl.txt").read_text())
    body: list[ast.stmt] = [
        node for node in script.body
        if isinstance(node, ast.FunctionDef) and node.name == "open_model"
    ]  # fmt: skip
    known: dict[str, Any] = {
        "AutoModelForCausalLM": SimpleNamespace(from_pretrained=lambda _, **given: given),
        "BitsAndBytesConfig": make,
        "MODEL": {"id": "tiny", "dtype": dtype},
        "TUNING": {"adapter": adapter, "start_from": None},
        "SHARED": {},
    }
    exec(compile(ast.Module(body, []), "train.py", "exec"), known)
    return known["open_model"]()["quantization_config"]


def test_counts_of_classes_and_draws_read_as_those_of_rows() -> None:
    counts = {"easy": 12_000, "hard": 999}
    part = Exported("stage1.jsonl", 12_999, counts, {}, 5_000, 5_000, 0, 7, counts)
    told = [*describe_export([part], "trl", tools.TOOLS["trl"], Path("out"), ())]
    assert told[0].startswith("stage1.jsonl: 12,999 rows (12,000 easy, 999 hard), 5,000 prompt")
    assert told[1].endswith("trl does not read the weight in the loss that the run gave to 7 rows")
    assert told[2].startswith("  an epoch of the run drew 12,000 easy, 999 hard; trl")


def test_equal_weights_change_nothing_and_are_not_told() -> None:
    assert count_weighed([2.0, 2.0, 2.0]) == 0
    assert count_weighed([1.0, 2.0, 1.0, 3.0]) == 2


@pytest.mark.parametrize(
    ("stage", "tuning", "told"),
    [
        ({"epochs": 3, "rescore": Rescore.epoch}, {}, ["one schedule over all epochs"]),
        ({"epochs": 3, "rescore": Rescore.epoch}, {"schedule": Schedule.constant}, []),
        (
            {"epochs": 3, "rescore": Rescore.epoch},
            {"schedule": Schedule.constant, "warmup_steps": 2},
            ["one schedule over all epochs"],
        ),
        ({"epochs": 3}, {}, []),
        ({"epochs": 3}, {"select": Select.best}, ["keeps the last"]),
        ({"epochs": 3}, {"patience": 1}, ["keeps the last"]),
        ({"epochs": 1}, {"select": Select.best}, []),
        ({}, {"adapter": Adapter.full, "weight_decay": 0.1}, ["leaves out biases and"]),
        ({}, {"adapter": Adapter.full}, []),
        ({}, {"weight_decay": 0.1}, []),  # adapters have neither
    ],
)
def test_what_a_tool_trains_otherwise_is_told(
    stage: dict[str, Any], tuning: dict[str, Any], told: list[str]
) -> None:
    stages = [StageConfig(targets={"easy": Target.answer}, **stage)]
    method = MethodConfig(name="mine", stages=stages)
    lines = [*configs.list_differences("trl", method, TuningConfig(**tuning))]
    assert len(lines) == len(told)
    assert all(words in line for words, line in zip(told, lines, strict=True))


def test_classes_are_counted_in_the_order_of_the_split() -> None:
    rows: list[Any] = [
        SimpleNamespace(example=SimpleNamespace(complexity=name))
        for name in ("hard", "easy", "odd", "hard")
    ]
    counts = _count_classes(rows, ["easy", "middle", "odd", "hard"])
    assert [*counts.items()] == [("easy", 1), ("odd", 1), ("hard", 2)]


def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(
    whole_run: Any, chat_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = {}
    for name in ("unfinished", "other", "foreign", "classless", "sweep", "plain", "early", "base"):
        copies[name] = tmp_path / name
        without = shutil.ignore_patterns("adapter", "SHA256SUMS")  # as earlier versions left it
        shutil.copytree(whole_run.folder, copies[name], ignore=without)
    shutil.copytree(whole_run.folder, tmp_path / "changed")
    (tmp_path / "changed/scores.parquet").write_bytes(b"another")
    (copies["unfinished"] / ".hydra/unfinished").touch()
    (copies["classless"] / "scores.parquet").unlink()
    (copies["sweep"] / "jobs.json").write_text("{}")
    shutil.rmtree(copies["plain"] / ".hydra")
    summary = json.loads((copies["other"] / "summary.json").read_text())
    summary["dataset"]["fingerprint"] = "0"
    (copies["other"] / "summary.json").write_text(json.dumps(summary))
    (copies["foreign"] / "summary.json").write_text('{"schema": 99}')
    config = copies["early"] / ".hydra/config.yaml"
    config.write_text(config.read_text().replace("until: report", "until: score"))
    config = copies["base"] / ".hydra/config.yaml"
    changed = yaml.safe_load(config.read_text())
    changed["method"]["stages"] = []
    config.write_text(yaml.safe_dump(changed))
    filled = tmp_path / "filled"
    filled.mkdir()
    (filled / "mine.txt").touch()
    out = tmp_path / "out"
    cases = {
        (tmp_path / "gone", "trl", out): "there is no folder",
        (filled, "trl", out): "is not the folder of a run",
        (copies["plain"], "trl", out): "it is not the folder of a run",
        (copies["unfinished"], "trl", out): "is not finished",
        (tmp_path / "changed", "trl", out): "scores.parquet is not what the run left there",
        (copies["sweep"], "trl", out): "one of its jobs",
        (copies["other"], "trl", out): "are others than those of the run",
        (copies["foreign"], "trl", out): "is of another version of CAFT, or was changed",
        (copies["classless"], "trl", out): "scores.parquet is gone",
        (copies["early"], "trl", out): "until=distill",
        (copies["base"], "trl", out): "trains no row",
        (whole_run.folder, "tlr", out): "did you mean trl?",
        (whole_run.folder, "messages", out): "completions, not chats",
        (chat_run.folder, "trl", filled): "give another folder with --out",
        (chat_run.folder, "trl", filled / "mine.txt" / "x"): "cannot be written",
        (
            chat_run.folder,
            "trl",
            tmp_path / ("x" * 300),
        ): "cannot be used: File name too long; give another",
    }
    for (run, tool, where), words in cases.items():
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        assert main(["export", str(run), "--to", tool, "--out", str(where)]) == 2
        printed, errors = capsys.readouterr()
        assert (printed, errors.count("\n")) == ("", 1), errors
        assert words in errors
        assert sorted(tmp_path.rglob("*")) == before


def test_settings_that_a_tool_would_read_otherwise_are_its_own_or_told(
    whole_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    run = tmp_path / "run"
    without = shutil.ignore_patterns("adapter", "SHA256SUMS")
    shutil.copytree(whole_run.folder, run, ignore=without)
    config = yaml.safe_load((run / ".hydra/config.yaml").read_text())
    # The export's commands are run inside its folder.
    settings = {"schedule": "constant", "warmup_steps": 3, "loss": "dft", "start_from": "before"}
    config["tuning"] |= settings
    config["model"]["dtype"] = "float32"
    config["method"]["stages"][0]["weights"] = {"easy": 2.0, "middle": 2.0}
    (run / ".hydra/config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    plan = json.loads((export(run, "trl", tmp_path / "trl") / "export.json").read_text())
    script = (tmp_path / "trl/train.py").read_text()
    assert plan["scheduler"] == "constant_with_warmup"
    assert 'lr_scheduler_type=PLAN["scheduler"]' in script
    assert plan["model"]["dtype"] == "float32"
    assert 'dtype=MODEL["dtype"]' in script
    assert plan["tuning"]["start_from"] == str(tmp_path / "before")
    told = capsys.readouterr().out
    assert "loss is dft; the config for trl has plain cross-entropy" in told
    assert "does not read the weight" not in told
    axolotl = export(run, "axolotl", tmp_path / "axolotl")
    stage = yaml.safe_load((axolotl / "stage1.yaml").read_text())
    assert stage["lora_model_dir"] == str(tmp_path / "before")


@pytest.mark.slow
def test_a_rescored_stage_needs_the_store(
    workshop: Any, small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = (
        "method.stages=[{targets:{easy:answer,middle:answer},epochs:2},"
        "{targets:{easy:answer,hard:rationale},epochs:1,rescore:true}]"
    )
    run = workshop.run(*small.words, stages, "tuning.learning_rate=0.02")
    rows = lines(export(run.folder, "trl", tmp_path / "out") / "stage2.jsonl")
    (trained,) = (each for each in run.summary["stages"] if each["name"] == "tune 2")
    assert (
        sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows)
        == (trained["tokens_trained"])
    )
    shutil.rmtree(workshop.store / "score" / run.fingerprint("rescore 2"))
    capsys.readouterr()
    assert main(["export", str(run.folder), "--to", "trl", "--out", str(tmp_path / "two")]) == 2
    assert "has its scores no more" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_trl_trains_our_tokens_with_our_mask(
    exports: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exported script itself, up to the weights of its last stage; and TRL's own chats."""
    trl = pytest.importorskip("trl", reason="pip install -e '.[benchmarks]'")
    from datasets import Dataset
    from peft import PeftModel

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "trl"
    shutil.copytree(exports / kind / "trl", folder)
    script: dict[str, Any] = {"__file__": str(folder / "train.py"), "__name__": "exported"}
    exec((folder / "train.py").read_text(), script)
    model = script["open_model"]()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    for stage in script["PLAN"]["stages"]:
        name = stage["file"].removesuffix(".jsonl")
        wanted = lines(exports / kind / f"axolotl/{name}.tokens.jsonl")
        trainer = script["open_trainer"](stage, model)
        assert [row["input_ids"] for row in trainer.train_dataset] == [
            row["input_ids"] for row in wanted
        ]
        assert [row["labels"] for row in trainer.train_dataset] == [row["labels"] for row in wanted]
        trainer.train()
        model = trainer.model
        assert isinstance(model, PeftModel)
        assert model.peft_config["default"].r == 16
    tuned = dict(model.named_parameters())
    assert any("lora_B" in name and weight.abs().sum() > 0 for name, weight in tuned.items())
    assert len(before) < len(tuned)
    if kind == "chat":
        rows = lines(exports / "chat/messages/stage2.jsonl")
        chats = Dataset.from_list(
            [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows]
        )
        asked = trl.SFTTrainer(
            model=script["open_model"](),
            args=trl.SFTConfig(output_dir=str(tmp_path), report_to="none", bf16=False),
            train_dataset=chats,
            processing_class=tokenizer_of(folder),
        )
        for made, row in zip(asked.train_dataset, wanted, strict=True):
            assert (made["input_ids"], made["labels"]) == (row["input_ids"], row["labels"])
