"""What was probably meant: names that other tools use, and names that are nearly ours."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from caft.errors import UserError, did_you_mean
from caft.hydra_bridge.groups import find_conf, list_options_of
from caft.hydra_bridge.overrides import dial_types, is_setting, pick_value
from caft.run_config import KINDS

OTHER_NAMES = {
    "tuning.learning_rate": "lr",
    "tuning.schedule": "scheduler lr_scheduler lr_scheduler_type",
    "tuning.warmup_steps": "warmup warmup_ratio",
    "tuning.weight_decay": "wd",
    "tuning.clip": "max_grad_norm grad_clip",
    "tuning.batch_size": "gradient_accumulation_steps grad_accum batch batch_size bs "
    "train_batch_size per_device_train_batch_size",
    "tuning.batch_tokens": "micro_batch_size",
    "tuning.lora.r": "r rank lora_r lora_rank",
    "tuning.lora.alpha": "alpha lora_alpha",
    "tuning.lora.dropout": "dropout lora_dropout",
    "tuning.lora.modules": "target_modules",
    "tuning.adapter": "peft load_in_4bit",
    "tuning.max_length": "max_seq_length cutoff_len",
    "tuning.patience": "early_stopping_patience",
    "method.epochs": "epoch epochs n_epochs num_epochs num_train_epochs max_epochs",
    "evaluation.batch_size": "batch batch_size bs eval_batch_size per_device_eval_batch_size",
    "evaluation.sampling.temperature": "temperature",
    "score.chain.batch_size": "batch",
    "split.thresholds": "threshold",
    "split.quantiles": "quantile",
    "teacher.temperature": "temperature",
    "teacher.max_tokens": "max_tokens",
    "teacher.budget_usd": "budget max_usd",
    "teacher.api_key_env": "api_key",
    "dataset.max_new_tokens": "max_tokens max_new_tokens",
    "dataset.prompt.shots": "num_fewshot n_shots fewshot few_shot",
    "dataset.train": "n_train train_size max_train_samples",
    "dataset.train_path": "train_file data_path",
    "dataset.test": "limit n_test test_size max_eval_samples",
    "model.path": "base_model model_path model_name_or_path",
    "model.id": "model_id model_name base_model model_name_or_path",
    "model.dtype": "torch_dtype dtype precision bf16 fp16",
    "trainer.devices": "gpus num_gpus",
    "trainer.accelerator": "device",
    "hydra.run.dir": "out out_dir output output_dir",
    "logger": "report_to",
    "logger.project": "wandb_project",
    "until": "stop_after stage",
}
"""What trl, transformers, axolotl, LLaMA-Factory and lm-eval call it; the likelier ones first."""

_NOTHING_TO_SET = {
    "resume resume_from_checkpoint ckpt_path": "the same command goes on where it ended",
}
"""Settings of other tools for what happens here by itself."""

_OTHER_OPTIONS = {
    "model": "any other model is a folder, as model.path={name} model.name={last}, or on the hub, "
    "as model=phi3 model.id={name} model.name={last} model.revision=main",
    "dataset": "your own file is dataset=local dataset.train_path={name}, one of the hub is "
    "dataset=hub dataset.id={name}",
    "teacher": "another model is teacher=openai teacher.model={name}",
}

_SURELY_MEANT = 0.8
_ID = re.compile(r"^id: (\S+)$", re.MULTILINE)


def refuse_dashes(words: Sequence[str], flags: Collection[str]) -> None:
    """UserError for a setting that is written as a flag; `flags` are those that there are."""
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        name = flag.lstrip("-").replace("-", "_")
        if not word.startswith("-") or flag in flags:
            continue
        if is_setting(name):
            value = value if equals else pick_value(name, words[place + 1 :])
            raise UserError(f"settings have no dashes: {shlex.quote(f'{name}={value}')}")
        short = word[:2] in flags  # with its value attached, as in -cjob
        if not short and (hint := suggest_setting("", name, ())):
            raise UserError(f"there is no flag {flag}, and settings have no dashes{hint}")


def suggest_setting(owner: str, key: str, names: Collection[str]) -> str:
    """A hint at the setting that `owner`.`key` is meant to be; `names` are those of `owner`."""
    known = dial_types()
    for others, instead in _NOTHING_TO_SET.items():
        if key in others.split():
            return f"; nothing is to be set: {instead}"
    if f"{owner}.{key}" in known:
        return _name_own_or_other(owner, key, names)
    meant = [setting for setting, others in OTHER_NAMES.items() if key in others.split()]
    meant += [each for each in known if each.endswith(f".{key}")]
    inside = [each for each in meant if each.startswith(f"{owner}.") or not owner]
    if near := _pick(inside or (meant if owner in known else ())):
        return near + _name_owners(owner, inside, names)
    if hint := did_you_mean(key, names):
        return hint
    within = [each for each in known if each.startswith(f"{owner}.") or not owner]
    last = {each.rpartition(".")[2]: each for each in reversed(within)}
    close = difflib.get_close_matches(key, list(last), n=1, cutoff=0.8)
    meant = [last[each] for each in close]
    return _pick(meant) + _name_owners(owner, meant, names)


def _pick(meant: Collection[str]) -> str:
    """The first two, which the table has in order of how likely they are."""
    return _ask_for(list(dict.fromkeys(meant))[:2])


def _ask_for(names: Sequence[str]) -> str:
    *others, last = names or [""]
    listed = f"{', '.join(others)} or {last}" if others else last
    return f"; did you mean {listed}?" if listed else ""


def name_by_id(group: str, option: str) -> str:
    """The option for a repository of the hub that has one here; empty if none, or for a folder."""
    if "/" not in option or Path(option).is_dir():
        return ""
    for name in list_options_of(group):
        text = (find_conf() / group / f"{name}.yaml").read_text(encoding="utf-8")
        if option.casefold() in map(str.casefold, _ID.findall(text)):
            return name
    return ""


def suggest_begun(option: str, options: Collection[str]) -> str:
    """A hint at all options that begin with what was given, in whichever case and with dots."""
    word = re.sub(r"[.-]", "_", option.casefold())
    begun = [each for each in options if each.startswith(word)]
    return _ask_for(begun) if word else ""


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


def _name_owners(group: str, meant: Collection[str], names: Collection[str]) -> str:
    """The kinds that have the first of `meant` that the chosen option, with `names`, lacks."""
    parts = [each.removeprefix(f"{group}.").partition(".")[0] for each in [*meant][:2]]
    lacking = [part for part in parts if names and part not in names]
    others = _name_other_kinds(group, lacking[0]) if lacking else ""
    return others.replace("; ", " ", 1)


def _name_other_kinds(group: str, key: str) -> str:
    """A hint at kinds of the group that have the key: `teacher.base_url` with teacher=worked."""
    kinds = KINDS.get(group, {}).items()
    having = [kind for kind, schema in kinds if key in schema.__dataclass_fields__]
    options = list_options_of(group)
    such = next((f", such as {group}={kind}" for kind in having if kind in options), "")
    return f"; {group} of kind {' or '.join(having)} has it{such}" if having else ""
