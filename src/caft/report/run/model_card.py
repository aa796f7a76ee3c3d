"""The model card that goes with the weights: data, method, base model, prompt, numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from caft.estimators import ESTIMATORS, Need
from caft.report.comparison import confidence_of, results_by_mode
from caft.report.headlines import routes_by_class
from caft.report.schema import (
    MODELS,
    MODES,
    Accuracy,
    AccuracyPart,
    DatasetPart,
    ModelPart,
    ScorePart,
    SplitPart,
    Summary,
)
from caft.report.wording import percent_between


class Weights(Enum):
    """What lies beside the card: an adapter, a model of which all was tuned, or both made one."""

    adapter = "adapter"
    full = "full"
    merged = "merged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the weights were made, beyond the run's summary.

    `kinds` are the adapter's, such as ("lora", "dora"), or ("full",) where there is none; `rank`
    and `alpha` are None there, and for adapters that are no LoRA. `went_on`: tuning started from
    an adapter, whose shape this is.
    `dataset_id` and `dataset_revision` are the hub's, None where the questions came from files.
    `prompts` are the rendered texts by what they ask for, with the names of its parts in braces
    instead of a question; `template_switches` are the chat template's arguments, None where none
    was used; `template_date` is the date that it was given, and `template_bridge` the text after
    its ending. `trust_remote_code`: the base model's folder holds code of its own.
    """

    kinds: Sequence[str]
    rank: int | None = None
    alpha: int | None = None
    went_on: bool = False
    learning_rate: float
    dataset_id: str | None = None
    dataset_revision: str | None = None
    prompts: Mapping[str, str]
    template_switches: Mapping[str, object] | None = None
    template_date: str | None = None
    template_bridge: str | None = None
    trust_remote_code: bool = False


def write_card(summary: Summary, recipe: Recipe, weights: Weights) -> str:
    """README.md in the hub's format, for the weights of a run that has tuned."""
    split, score = summary["split"], summary["score"]
    assert split is not None, "a run that has tuned has split its questions"
    assert score is not None, "a run that has tuned has scored its questions"
    parts = [
        _front_matter(summary["model"], recipe, weights),
        f"# {summary['run']['name']}",
        "Made with CAFT, complexity-aware fine-tuning ([arXiv 2506.21220]"
        f"(https://arxiv.org/abs/2506.21220)): {_routing(summary, split, score)}",
        "## Weights\n\n" + _weights(recipe, weights),
        "## Use\n\n" + _use(recipe, weights),
        "## Base model\n\n" + _base_model(summary["model"]),
        "## Data\n\n" + _data(summary["dataset"], recipe),
        "## Method\n\n" + _method(summary, recipe) + "\n\n" + _split(summary, split, score),
        "## Prompt\n\n" + _prompt(recipe),
        "## Accuracy\n\n" + _accuracy(summary["accuracy"]),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(model: ModelPart, recipe: Recipe, weights: Weights) -> str:
    is_adapter = weights is Weights.adapter
    lines = []
    # The hub refuses a base model that is no hub id.
    if "/" in model["id"] and not _is_path(model["id"]):
        relation = "adapter" if is_adapter else "finetune"
        lines += [f"base_model: {model['id']}", f"base_model_relation: {relation}"]
    if recipe.dataset_id:
        lines.append(f"datasets: [{recipe.dataset_id}]")
    lines += [
        # By this the hub offers a way to load it.
        f"library_name: {'peft' if is_adapter else 'transformers'}",
        "pipeline_tag: text-generation",
        f"tags: [{', '.join(['caft', *recipe.kinds])}]",
    ]
    return "---\n" + "\n".join(lines) + "\n---"


def _routing(summary: Summary, split: SplitPart, score: ScorePart) -> str:
    """How training questions got their targets, as the end of a sentence."""
    if not routes_by_class(summary):
        return "every training question has the same target, and none is routed by complexity."
    then = "into classes, and the method trains each class as the list below says."
    if _is_random(split):
        return f"training questions are drawn by lot {then} This is the control of routing."
    return f"{_name_estimate(score)} sorts training questions {then}"


def _is_random(split: SplitPart) -> bool:
    return split["strategy"].startswith("random")


def _name_estimate(score: ScorePart) -> str:
    estimator = ESTIMATORS[score["estimator"]]
    if score.get("source") == "published":
        return f"the {estimator.title} of the publisher's model, published with the questions,"
    if estimator.name == "answer_entropy":
        return "the base model's entropy at the answer token"
    whose = "the" if estimator.need in (Need.rationale, Need.judge) else "the base model's"
    return f"{whose} {estimator.title}"


def _weights(recipe: Recipe, weights: Weights) -> str:
    if weights is Weights.full:
        return "A whole model, of which every weight was tuned."
    size = f"; r {recipe.rank}, alpha {recipe.alpha}" if recipe.rank is not None else ""
    shape = ", ".join(recipe.kinds) + size
    went_on = (
        " Tuning went on from an adapter that was there before, and this is its shape."
        if recipe.went_on
        else ""
    )
    if weights is Weights.merged:
        return (
            f"A whole model: the adapter ({shape}) is merged into the base model's weights, and "
            f"PEFT is not needed.{went_on}"
        )
    return f"An adapter of the base model in PEFT's format ({shape}).{went_on}"


def _use(recipe: Recipe, weights: Weights) -> str:
    """Code that runs as it stands: it renders no template, and stops where training did."""
    kind, library = ("AutoModelForCausalLM", "transformers")
    if weights is Weights.adapter:
        kind, library = ("AutoPeftModelForCausalLM", "peft")
    trusted = ", trust_remote_code=True" if recipe.trust_remote_code else ""
    asked = next(iter(recipe.prompts.values()))
    adds_special = recipe.template_switches is None
    code = f"""\
from {library} import {kind}
from transformers import AutoTokenizer, GenerationConfig

folder = "."  # where this file lies
tokenizer = AutoTokenizer.from_pretrained(folder{trusted})
model = {kind}.from_pretrained(folder{trusted}, dtype="auto")
prompt = {asked!r}  # put your texts in the places of the names in braces
inputs = tokenizer(prompt, add_special_tokens={adds_special}, return_tensors="pt")
settings = GenerationConfig.from_pretrained(folder, do_sample=False, max_new_tokens=512)
reply = model.generate(**inputs, generation_config=settings)
print(tokenizer.decode(reply[0, inputs.input_ids.shape[1]:], skip_special_tokens=True))"""
    ends = (
        "`generation_config.json` names the token that the weights were trained to end a reply "
        "with; the base model's own may not, and replies would then run on."
    )
    return f"{_fenced(code, 'python')}\n\n{ends}"


def _base_model(model: ModelPart) -> str:
    name = model["id"].rstrip("/").rpartition("/")[2] if _is_path(model["id"]) else model["id"]
    revision = f" at revision `{model['revision']}`" if model["revision"] else ""
    total, trained = model["parameters"], model["trainable_parameters"]
    share = f"; {trained:,} of {total:,} parameters trained" if total and trained else ""
    return f"`{name}`{revision}{share}."


def _is_path(name: str) -> bool:
    return name.startswith(("/", ".", "~")) or name.count("/") > 1


def _data(dataset: DatasetPart, recipe: Recipe) -> str:
    source, counts = "", dataset["counts"]
    if recipe.dataset_id:
        source = f"`{recipe.dataset_id}` at revision `{recipe.dataset_revision}`, "
    return (
        f"`{dataset['name']}` ({source}fingerprint `{dataset['fingerprint']}`): {counts['train']} "
        f"training, {counts['validation']} validation and {counts['test']} test questions."
    )


def _method(summary: Summary, recipe: Recipe) -> str:
    method = summary["method"]
    lines = [
        f"`{method['name']}`, seed {summary['run']['seed']}, learning rate "
        f"{recipe.learning_rate:g}:",
        "",
    ]
    for number, stage in enumerate(method["stages"], start=1):
        targets = ", ".join(f"{name}: {target}" for name, target in stage["targets"].items())
        examples = f", {stage['examples']} rows" if stage["examples"] else ""
        lines.append(f"{number}. {targets}; {stage['epochs']} epochs{examples}")
    for number, part in enumerate(summary.get("tuning") or [], start=1):
        if part["best"] is not None:
            lines.append(
                f"   - stage {number} on {part['questions']} validation questions: best "
                f"{part['best']:.1%} after epoch {part['best_epoch']}, final {part['final']:.1%}; "
                f"the weights are those of epoch {part['selected']}"
            )
    return "\n".join(lines)


def _split(summary: Summary, split: SplitPart, score: ScorePart) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in split["counts"].items())
    estimate = "" if _is_random(split) else f" by `{score['estimator']}`"
    unused = "" if routes_by_class(summary) else ", which training did not look at"
    return f"Split `{split['strategy']}`{estimate}{unused}: {counts} training questions."


_ASKED = {
    "answer": "the bare answer",
    "bracketed": "the answer in brackets",
    "rationale": "a rationale",
}


def _prompt(recipe: Recipe) -> str:
    if recipe.template_switches is None:
        how = "No chat template was used; the reply follows after one space."
    else:
        switches = " and ".join(
            f"`{name}={value!r}`" for name, value in recipe.template_switches.items()
        )
        how = f"The chat template was rendered with {switches}; the reply follows at once."
        if recipe.template_date:
            how += f" It asks for the date, which is always {recipe.template_date}."
        if recipe.template_bridge:
            how += f" After its own ending comes `{recipe.template_bridge!r}`."
    parts = [f"Whoever serves these weights must render prompts as training did. {how}"]
    for asked_for, text in recipe.prompts.items():
        parts.append(f"Asked for {_ASKED[asked_for]}, the model reads:\n\n{_fenced(text)}")
    return "\n\n".join(parts)


def _fenced(text: str, language: str = "text") -> str:
    """A block of code that no backticks of the text can end."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _accuracy(accuracy: AccuracyPart | None) -> str:
    if not accuracy:
        return "Not measured: the run stopped before its evaluation."
    lines = [
        f"On test questions, with {confidence_of(accuracy):.0%} Wilson intervals; unparsable "
        "replies count as wrong.",
        "",
        "| mode | base | tuned |",
        "|---|---|---|",
    ]
    results = [results_by_mode(accuracy, model) for model in MODELS]
    for mode in MODES:
        cells = [_cell(result.get(mode)) for result in results]
        lines.append(f"| {mode} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(result: Accuracy | None) -> str:
    return f"{percent_between(result)}, n={result['n']}" if result else "not measured"
