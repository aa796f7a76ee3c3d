"""The configs of the tools that tune: a run's stages and settings in the words of each. Pure.

Settings as the tools document them (2026-11): docs.axolotl.ai/docs/config-reference.html, the
examples of LLaMA-Factory, swift.readthedocs.io/en/latest/Instruction/Command-line-parameters.html.
One that is None is left out.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from caft.tune.config import Adapter, Loss, MethodConfig, Schedule, Select, TuningConfig

_Settings = dict[str, object]
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage as a tool's config names it. `starts_from` is what it goes on from, if anything."""

    number: int
    epochs: int
    starts_from: str | None

    @property
    def name(self) -> str:
        """Of its files."""
        return f"stage{self.number}"

    @property
    def output(self) -> str:
        """The folder that the tool writes its weights to."""
        return f"out/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a config needs to know of a run; `longest` is that of its rows in tokens."""

    model: str
    revision: str | None
    trust_remote_code: bool
    end_token: str
    chat: bool
    longest: int
    bf16: bool
    tuning: TuningConfig
    seed: int
    stages: Sequence[StagePlan]

    def model_of(self, stage: StagePlan) -> str:
        """The whole model that a stage loads: that of the stage before it, in full tuning."""
        full = self.tuning.adapter is Adapter.full
        return stage.starts_from if full and stage.starts_from else self.model


def configure_trl(plan: Plan) -> dict[str, str]:  # noqa: ARG001
    """A script, which reads export.json: TRL's command line cannot go on from an adapter."""
    return {"train.py": (_TEMPLATES / "train_trl.txt").read_text(encoding="utf-8")}


def configure_axolotl(plan: Plan) -> dict[str, str]:
    """A config a stage, of rows that are tokens already."""
    tuning, lora = plan.tuning, plan.tuning.lora
    adapter: _Settings = {
        "adapter": tuning.adapter.value,
        "load_in_4bit": tuning.adapter is Adapter.qlora,
        "lora_r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        **({"lora_target_modules": lora.modules} if lora.modules else {"lora_target_linear": True}),
        "peft_use_dora": lora.use_dora,
        "peft_use_rslora": lora.use_rslora,
    }

    def configure(stage: StagePlan) -> _Settings:
        return {
            "base_model": plan.model_of(stage),
            "revision_of_model": plan.revision,
            "trust_remote_code": plan.trust_remote_code,
            "datasets": [{"path": f"{stage.name}.tokens.jsonl", "ds_type": "json", "type": None}],
            "val_set_size": 0,
            "output_dir": stage.output,
            "sequence_len": plan.longest,
            "sample_packing": False,
            **(adapter if tuning.adapter is not Adapter.full else {}),
            "lora_model_dir": _adapter_before(plan, stage),
            "micro_batch_size": tuning.batch_size,
            "gradient_accumulation_steps": 1,
            "num_epochs": stage.epochs,
            "optimizer": "adamw_torch",
            "learning_rate": tuning.learning_rate,
            "lr_scheduler": name_schedule(tuning),
            "warmup_steps": tuning.warmup_steps,
            "weight_decay": tuning.weight_decay,
            "max_grad_norm": tuning.clip,
            "gradient_checkpointing": tuning.gradient_checkpointing,
            "bf16": plan.bf16,
            "seed": plan.seed,
        }

    return _yaml_files(plan, "axolotl train", configure)


def configure_llama_factory(plan: Plan) -> dict[str, str]:
    """A config a stage, and dataset_info.json, which names the columns."""
    tuning, lora = plan.tuning, plan.tuning.lora
    full = tuning.adapter is Adapter.full
    adapter: _Settings = {**_lora(plan), "lora_target": ",".join(lora.modules) or "all"}

    def configure(stage: StagePlan) -> _Settings:
        return {
            "model_name_or_path": plan.model_of(stage),
            "model_revision": plan.revision,
            "trust_remote_code": plan.trust_remote_code,
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "full" if full else "lora",
            **({} if full else adapter),
            "quantization_bit": 4 if tuning.adapter is Adapter.qlora else None,
            "adapter_name_or_path": _adapter_before(plan, stage),
            "dataset_dir": ".",
            "dataset": stage.name,
            "template": "empty",
            "cutoff_len": plan.longest,
            "output_dir": stage.output,
            **_training_arguments(plan, stage),
            "disable_gradient_checkpointing": not tuning.gradient_checkpointing,
            "bf16": plan.bf16,
            "report_to": "none",
            "seed": plan.seed,
        }

    named = {
        stage.name: {
            "file_name": f"{stage.name}.jsonl",
            "formatting": "alpaca",
            "columns": {"prompt": "prompt", "response": "completion"},
        }
        for stage in plan.stages
    }
    files = _yaml_files(plan, "llamafactory-cli train", configure)
    return {"dataset_info.json": json.dumps(named, indent=1) + "\n", **files}


def configure_ms_swift(plan: Plan) -> dict[str, str]:
    """One script of all stages."""
    tuning, lora = plan.tuning, plan.tuning.lora
    full, four_bits = tuning.adapter is Adapter.full, tuning.adapter is Adapter.qlora
    adapter: _Settings = {
        "target_modules": lora.modules or "all-linear",
        **_lora(plan),
        "quant_method": "bnb" if four_bits else None,
        "quant_bits": 4 if four_bits else None,
    }

    def command(stage: StagePlan) -> str:
        before = stage.starts_from
        if before and stage.number > 1:
            before = _Shell(f'"$(last {before})"')
        settings: _Settings = {
            "model": before if full and before else plan.model,
            "model_revision": plan.revision,
            "use_hf": True,
            "tuner_type": "full" if full else "lora",
            **({} if full else adapter),
            "adapters": None if full else before,
            "dataset": f"{stage.name}.jsonl",
            "split_dataset_ratio": 0,
            "use_chat_template": plan.chat,
            "max_length": plan.longest,
            "output_dir": stage.output,
            "add_version": False,
            **_training_arguments(plan, stage),
            "gradient_checkpointing": tuning.gradient_checkpointing,
            "torch_dtype": "bfloat16" if plan.bf16 else "float32",
            "save_only_model": True,
            "seed": plan.seed,
        }
        words = [
            f"  --{name} {_as_word(value)}" for name, value in settings.items() if value is not None
        ]
        return " \\\n".join(["swift sft", *words])

    lines = ["#!/bin/sh", "# Tunes the exported rows with ms-swift 4: sh train.sh", "set -e"]
    # ms-swift saves into a folder checkpoint-STEPS of the output folder.
    last = '\nlast() { ls -d "$1"/checkpoint-* | sort -V | tail -n 1; }'
    blocks = "\n\n".join(map(command, plan.stages))
    return {"train.sh": "\n".join([*lines, last, "", blocks, ""])}


class _Shell(str):
    """A word that the shell is to read as it is."""

    __slots__ = ()


def _as_word(value: object) -> str:
    if isinstance(value, _Shell):
        return value
    if isinstance(value, list):
        return shlex.join(value)
    return shlex.quote(str(value).lower() if isinstance(value, bool) else str(value))


def _adapter_before(plan: Plan, stage: StagePlan) -> str | None:
    return None if plan.tuning.adapter is Adapter.full else stage.starts_from


def _lora(plan: Plan) -> _Settings:
    """As LLaMA-Factory and ms-swift both name them."""
    lora = plan.tuning.lora
    return {
        "lora_rank": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_dora": lora.use_dora,
        "use_rslora": lora.use_rslora,
    }


def _training_arguments(plan: Plan, stage: StagePlan) -> _Settings:
    """Those of transformers, which LLaMA-Factory and ms-swift pass on."""
    tuning, epochs = plan.tuning, stage.epochs
    return {
        "per_device_train_batch_size": tuning.batch_size,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": epochs,
        "learning_rate": tuning.learning_rate,
        "lr_scheduler_type": name_schedule(tuning),
        "warmup_steps": tuning.warmup_steps,
        "weight_decay": tuning.weight_decay,
        "max_grad_norm": tuning.clip,
    }


def name_schedule(tuning: TuningConfig) -> str:
    """As transformers names it, whose plain `constant` has no warm-up."""
    constant = tuning.schedule is Schedule.constant
    return "constant_with_warmup" if constant else tuning.schedule.value


def list_differences(name: str, method: MethodConfig, tuning: TuningConfig) -> Iterator[str]:
    """A line for whatever of a run's training the config for the tool `name` does not repeat."""
    if tuning.loss is not Loss.ce:
        loss = tuning.loss.value
        yield f"the run's loss is {loss}; the config for {name} has plain cross-entropy (ce)"
    if tuning.adapter is Adapter.full and tuning.weight_decay:
        yield f"the run decays every weight; {name} leaves out biases and the weights of norms"
    stages = range(len(method.stages))
    by_epoch = any(method.part(number).epochs > 1 for number in stages)
    if by_epoch and (tuning.warmup_steps or tuning.schedule is not Schedule.constant):
        yield (
            "the run's learning rate has one schedule over all epochs of a stage with "
            f"rescore=epoch; {name} begins it anew in each"
        )
    chosen = tuning.select is Select.best or tuning.patience is not None
    if chosen and any(stage.epochs > 1 for stage in method.stages):
        yield (
            "the run chooses the epoch that ends a stage (tuning.select=best or tuning.patience); "
            f"{name} trains all of them and keeps the last"
        )


def _yaml_files(
    plan: Plan, command: str, configure: Callable[[StagePlan], _Settings]
) -> dict[str, str]:
    """One config a stage; a setting of None is left out."""
    return {
        f"{stage.name}.yaml": write_yaml(configure(stage), f"{command} {stage.name}.yaml")
        for stage in plan.stages
    }


def write_yaml(settings: Mapping[str, object], command: str) -> str:
    """Flat settings as YAML; lists and tables are written as JSON, which is YAML, too."""
    lines = [f"{name}: {_write_value(value)}" for name, value in settings.items()
             if value is not None]  # fmt: skip
    return "\n".join([f"# Inside this folder: {command}", *lines, ""])


def _write_value(value: object) -> str:
    text = json.dumps(value)
    # YAML 1.1 reads 1e-05 as a text: it wants a point.
    exponent = isinstance(value, float) and "e" in text and "." not in text
    return text.replace("e", ".0e", 1) if exponent else text
