"""The weights that a run delivers: `adapter/` with its model card, and `merged/` on request."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

from caft.data.config import HubConfig
from caft.models.adapters import ADAPTER_CONFIG, is_adapter, merge_adapter, save_tuned
from caft.models.chat_template import pinned_date, reply_bridge, template_switches
from caft.models.encoding import render_prompt, uses_chat_template
from caft.models.loading import resolve_dtype
from caft.models.serving import save_for_serving
from caft.models.student import Student
from caft.records import Question, Target
from caft.report.run.model_card import Recipe, Weights
from caft.run_config import RunConfig
from caft.store import Artifact
from caft.text.prompts import Wanted, write_prompt
from caft.tune.config import Adapter
from caft.tune.examples import wanted_of
from caft.tune.stage import copy_tuned

log = logging.getLogger(__name__)
DELIVERED = ("adapter", "merged")
"""The folders of weights that a run may leave."""


def deliver(
    tuned: Student,
    artifact: Artifact,
    folder: Path,
    card: Callable[[Weights], str | None],
    *,
    merge: bool,
    chat: bool,
) -> list[str]:
    """Copy the tuned weights to `folder`/adapter; with `merge`, a whole model to `folder`/merged.

    Tokenizer and generation config go with them; `chat` says whether turns were trained.
    The merged model needs neither peft nor the base model: transformers, vLLM and lm-eval load it.
    `card` writes the model card of each kind of weights, or returns None if it cannot. Returns the
    names of the folders. UserError if the weights are no longer those taken from `artifact`.
    """
    assert tuned.tuned is not None
    weights = Weights.adapter if is_adapter(tuned.tuned) else Weights.full
    parts = {"adapter": weights}
    if merge:
        parts["merged"] = Weights.full if weights is Weights.full else Weights.merged
    for name, kind in parts.items():
        earlier = {path: path.stat().st_ctime_ns for path in _weights_in(folder / name)}
        if kind is Weights.merged:
            log.info("merging the adapter into the model's weights")
            dtype = resolve_dtype(tuned.config, tuned.device)
            merged = merge_adapter(tuned.load(), dtype)
            save_tuned(merged, folder / name, dtype=dtype, base=tuned.base)
        else:
            copy_tuned(artifact, folder / name)
        save_for_serving(tuned, folder / name, chat=chat)
        # Loaders would take an earlier run's weights of another form in place of these.
        for path, written in earlier.items():
            if path.exists() and path.stat().st_ctime_ns == written:
                set_aside(path)
        if text := card(kind):
            (folder / name / "README.md").write_text(text, encoding="utf-8")
    return [*parts]


def _weights_in(folder: Path) -> list[Path]:
    patterns = ("*.safetensors", "*.safetensors.index.json", ADAPTER_CONFIG)
    return [path for pattern in patterns for path in folder.glob(pattern)]


def set_aside(path: Path) -> None:
    """Rename a file that is not of this run: an earlier run's, or the user's own. No error."""
    if not path.exists():
        return
    names = (path.with_name(f"{path.name}.before{n or ''}") for n in count())
    free = next(name for name in names if not name.exists())
    path.rename(free)
    log.warning("%s is not of this run; its name is %s now", path, free.name)


def describe_recipe(config: RunConfig, tuned: Student, question: Question) -> Recipe:
    """The recipe of `tuned`; `question` is any question that it was trained on."""
    assert tuned.tuned is not None
    tokenizer = tuned.tokenizer
    chat = uses_chat_template(config.dataset.prompt.style, tokenizer)
    prompts = {
        name: render_prompt(
            write_prompt(_without_content(question), config.dataset.prompt, wanted, chat=chat),
            tokenizer,
            thinking=thinking,
        )
        for name, wanted, thinking in _trained_prompts(config)
    }
    dataset = config.dataset
    hub = dataset if isinstance(dataset, HubConfig) and dataset.path is None else None
    kinds, rank, alpha = _shape(tuned.tuned, config)
    template_date, template_bridge = describe_template(config, tuned)
    return Recipe(
        kinds=kinds,
        rank=rank,
        alpha=alpha,
        continues=config.tuning.start_from is not None,
        learning_rate=config.tuning.learning_rate,
        base_path=config.model.path,
        dataset_id=hub.id if hub else None,
        dataset_revision=hub.revision if hub else None,
        prompts=prompts,
        template_switches=template_switches() if chat else None,
        template_date=template_date,
        template_bridge=template_bridge,
        trust_remote_code=tuned.config.trust_remote_code,
    )


def describe_template(config: RunConfig, student: Student) -> tuple[str | None, str | None]:
    """The date that the chat template gets, and the text that closes its prompts."""
    if not uses_chat_template(config.dataset.prompt.style, student.tokenizer):
        return None, None
    return pinned_date(student.tokenizer), reply_bridge(student.tokenizer)


def _trained_prompts(config: RunConfig) -> list[tuple[str, Wanted, bool]]:
    """The name of each trained prompt, what it asks for, and whether the model thinks first."""
    found: dict[str, tuple[str, Wanted, bool]] = {}
    shares = (own for stage in config.method.stages for own in stage.shares.values())
    for target in (target for own in shares for target in own):
        wanted = wanted_of(target, config.tuning.answer_target)
        thinks = target is Target.thinking
        name = target.value if thinks else wanted.value
        found[name] = name, wanted, thinks
    return list(found.values())


def _without_content(question: Question) -> Question:
    """A question with names in place of its texts, because a model card quotes no data."""
    return replace(
        question,
        text="{question}",
        options=tuple(f"{{option {n}}}" for n, _ in enumerate(question.options, start=1)),
        subject="{subject}" if question.subject else "",
    )


def _shape(folder: Path, config: RunConfig) -> tuple[tuple[str, ...], int | None, int | None]:
    """Kinds, rank and alpha of the adapter itself: tuning may have started from another adapter."""
    if not is_adapter(folder):
        return (config.tuning.adapter.value,), None, None
    saved = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    # peft has other adapters than LoRA.
    in_four_bits = config.tuning.adapter is Adapter.qlora
    kinds = ["qlora" if in_four_bits else saved["peft_type"].lower()]
    kinds += [name for name in ("dora", "rslora") if saved.get(f"use_{name}")]
    return tuple(kinds), saved.get("r"), saved.get("lora_alpha")
