"""What was probably meant: names that other tools use, and names that are nearly ours."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from caft.errors import did_you_mean
from caft.hydra_bridge.groups import list_options_of
from caft.hydra_bridge.overrides import dial_types
from caft.run_config import KINDS

ALIASES: dict[str, tuple[str, ...]] = {
    "lr": ("tuning.learning_rate",),
    "scheduler": ("tuning.schedule",),
    "lr_scheduler": ("tuning.schedule",),
    "lr_scheduler_type": ("tuning.schedule",),
    "warmup": ("tuning.warmup_steps",),
    "warmup_ratio": ("tuning.warmup_steps",),
    "wd": ("tuning.weight_decay",),
    "max_grad_norm": ("tuning.clip",),
    "grad_clip": ("tuning.clip",),
    "gradient_accumulation_steps": ("tuning.batch_size",),
    "grad_accum": ("tuning.batch_size",),
    "batch": ("tuning.batch_size", "evaluation.batch_size", "score.chain.batch_size"),
    "batch_size": ("tuning.batch_size", "evaluation.batch_size"),
    "bs": ("tuning.batch_size", "evaluation.batch_size"),
    "train_batch_size": ("tuning.batch_size",),
    "per_device_train_batch_size": ("tuning.batch_size",),
    "micro_batch_size": ("tuning.batch_tokens",),
    "eval_batch_size": ("evaluation.batch_size",),
    "per_device_eval_batch_size": ("evaluation.batch_size",),
    "epoch": ("method.epochs",),
    "epochs": ("method.epochs",),
    "n_epochs": ("method.epochs",),
    "num_epochs": ("method.epochs",),
    "num_train_epochs": ("method.epochs",),
    "max_epochs": ("method.epochs",),
    "r": ("tuning.lora.r",),
    "rank": ("tuning.lora.r",),
    "lora_r": ("tuning.lora.r",),
    "lora_rank": ("tuning.lora.r",),
    "alpha": ("tuning.lora.alpha",),
    "lora_alpha": ("tuning.lora.alpha",),
    "dropout": ("tuning.lora.dropout",),
    "lora_dropout": ("tuning.lora.dropout",),
    "target_modules": ("tuning.lora.modules",),
    "peft": ("tuning.adapter",),
    "load_in_4bit": ("tuning.adapter",),
    "max_seq_length": ("tuning.max_length",),
    "cutoff_len": ("tuning.max_length",),
    "early_stopping_patience": ("tuning.patience",),
    "max_tokens": ("teacher.max_tokens", "dataset.max_new_tokens"),
    "max_new_tokens": ("dataset.max_new_tokens",),
    "temperature": ("evaluation.sampling.temperature", "teacher.temperature"),
    "num_fewshot": ("dataset.prompt.shots",),
    "n_shots": ("dataset.prompt.shots",),
    "fewshot": ("dataset.prompt.shots",),
    "few_shot": ("dataset.prompt.shots",),
    "n_train": ("dataset.train",),
    "train_size": ("dataset.train",),
    "max_train_samples": ("dataset.train",),
    "limit": ("dataset.test",),
    "n_test": ("dataset.test",),
    "test_size": ("dataset.test",),
    "max_eval_samples": ("dataset.test",),
    "train_file": ("dataset.train_path",),
    "data_path": ("dataset.train_path",),
    "threshold": ("split.thresholds",),
    "quantile": ("split.quantiles",),
    "model_id": ("model.id",),
    "model_name": ("model.id",),
    "base_model": ("model.path", "model.id"),
    "model_path": ("model.path",),
    "model_name_or_path": ("model.path", "model.id"),
    "torch_dtype": ("model.dtype",),
    "dtype": ("model.dtype",),
    "precision": ("model.dtype",),
    "bf16": ("model.dtype",),
    "fp16": ("model.dtype",),
    "gpus": ("trainer.devices",),
    "num_gpus": ("trainer.devices",),
    "device": ("trainer.accelerator",),
    "budget": ("teacher.budget_usd",),
    "max_usd": ("teacher.budget_usd",),
    "api_key": ("teacher.api_key_env",),
    "out": ("hydra.run.dir",),
    "out_dir": ("hydra.run.dir",),
    "output": ("hydra.run.dir",),
    "output_dir": ("hydra.run.dir",),
    "report_to": ("logger",),
    "wandb_project": ("logger.project",),
    "stop_after": ("until",),
    "stage": ("until",),
}
"""What trl, transformers, axolotl, LLaMA-Factory and lm-eval call it, and what it is here."""

_OTHER_OPTIONS = {
    "model": "any other model is a folder, as model.path={name} model.name={last}, or on the hub, "
    "as model=phi3 model.id={name} model.name={last} model.revision=main",
    "dataset": "your own file is dataset=local dataset.train_path={name}, one of the hub is "
    "dataset=hub dataset.id={name}",
    "teacher": "another model is teacher=openai teacher.model={name}",
}

_SURELY_MEANT = 0.8


def suggest_setting(owner: str, key: str, names: Collection[str]) -> str:
    """A hint at the setting that `owner`.`key` is meant to be; `names` are those of `owner`."""
    known = dial_types()
    if f"{owner}.{key}" in known:
        return _name_own_or_other(owner, key, names)
    meant = [*ALIASES.get(key, ()), *(each for each in known if each.endswith(f".{key}"))]
    inside = [each for each in meant if each.startswith(f"{owner}.") or not owner]
    if near := _pick(inside or (meant if owner in known else ())):
        return near
    if hint := did_you_mean(key, names):
        return hint
    within = [each for each in known if each.startswith(f"{owner}.") or not owner]
    last = {each.rpartition(".")[2]: each for each in reversed(within)}
    close = difflib.get_close_matches(key, list(last), n=1, cutoff=0.8)
    return f"; did you mean {last[close[0]]}?" if close else ""


def _pick(meant: Collection[str]) -> str:
    """The first two, which the table has in order of how likely they are."""
    chosen = list(dict.fromkeys(meant))[:2]
    return f"; did you mean {' or '.join(chosen)}?" if chosen else ""


def suggest_option(group: str, option: str) -> str:
    """How something that is no option of a group is named, where the group allows it."""
    form = _OTHER_OPTIONS.get(group)
    named = option.isprintable() and not set(option) & set(" =,'\"")
    if not form or not named:
        return ""
    return f"; {form.format(name=option, last=option.rstrip('/').rpartition('/')[2])}"


def _name_own_or_other(group: str, key: str, names: Collection[str]) -> str:
    """A near name of the chosen option goes before the options that have the key itself."""
    near = difflib.get_close_matches(key, names, n=1, cutoff=_SURELY_MEANT)
    near = near or [name for name in names if name.endswith(f"_{key}")]
    meant, others = _pick([f"{group}.{name}" for name in near[:1]]), _name_other_kinds(group, key)
    return f"{meant} {others.removeprefix('; ')}".rstrip() if meant else others


def _name_other_kinds(group: str, key: str) -> str:
    """A hint at kinds of the group that have the key: `teacher.base_url` with teacher=worked."""
    kinds = KINDS.get(group, {}).items()
    having = [kind for kind, schema in kinds if key in schema.__dataclass_fields__]
    options = list_options_of(group)
    such = next((f", such as {group}={kind}" for kind in having if kind in options), "")
    return f"; {group} of kind {' or '.join(having)} has it{such}" if having else ""
