"""The model card that goes with the weights: data, method, base model, numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def write_card(summary: Mapping[str, Any]) -> str:
    """README.md in the hub's format, from a run's summary."""
    parts = [
        _front_matter(summary),
        f"# {summary['run']['name']}",
        "Made by complexity-aware fine-tuning ([arXiv 2506.21220]"
        "(https://arxiv.org/abs/2506.21220)): the base model's entropy at the answer token sorts "
        "training questions into classes, and each class is trained on a target of its own.",
        "## Base model\n\n" + _base_model(summary["model"]),
        "## Data\n\n" + _data(summary),
        "## Method\n\n" + _method(summary),
        "## Accuracy\n\n" + _accuracy(summary.get("accuracy")),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(summary: Mapping[str, Any]) -> str:
    model = summary["model"]
    lines = ["library_name: peft", "pipeline_tag: text-generation"]
    # The hub refuses a base model that is no hub id.
    if str(model["id"]).count("/") == 1 and not str(model["id"]).startswith(("/", ".", "~")):
        lines.insert(0, f"base_model: {model['id']}")
    return "---\n" + "\n".join([*lines, "tags: [caft, lora]"]) + "\n---"


def _base_model(model: Mapping[str, Any]) -> str:
    name = str(model["id"]).rstrip("/").rpartition("/")[2] if _is_path(model["id"]) else model["id"]
    revision = f" at revision `{model['revision']}`" if model["revision"] else ""
    trained = ""
    if model["parameters"] and model["trainable_parameters"]:
        trained = (
            f"; {model['trainable_parameters']:,} of {model['parameters']:,} parameters trained"
        )
    return f"`{name}`{revision}{trained}."


def _is_path(name: str) -> bool:
    return str(name).startswith(("/", ".", "~")) or str(name).count("/") > 1


def _data(summary: Mapping[str, Any]) -> str:
    dataset, counts = summary["dataset"], summary["dataset"]["counts"]
    return (
        f"`{dataset['name']}` (fingerprint `{dataset['fingerprint']}`): {counts['train']} training,"
        f" {counts['validation']} validation and {counts['test']} test questions."
    )


def _method(summary: Mapping[str, Any]) -> str:
    method, split = summary["method"], summary.get("split")
    lines = [f"`{method['name']}`, seed {summary['run']['seed']}:", ""]
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
    if split:
        counts = ", ".join(f"{count} {name}" for name, count in split["counts"].items())
        lines += ["", f"Split `{split['strategy']}`: {counts} training questions."]
    return "\n".join(lines)


def _accuracy(accuracy: Mapping[str, Any] | None) -> str:
    if not accuracy:
        return "Not measured: the run stopped before its evaluation."
    share = f"{accuracy.get('confidence', 0.95):.0%}"
    lines = [
        f"On test questions, with {share} Wilson intervals; unparsable replies count as wrong.",
        "",
        "| mode | base | tuned |",
        "|---|---|---|",
    ]
    for mode in ("answer", "rationale", "routed"):
        cells = [_cell((accuracy.get(who) or {}).get(mode)) for who in ("base", "tuned")]
        lines.append(f"| {mode} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(part: Mapping[str, Any] | None) -> str:
    if not part:
        return "not measured"
    return f"{part['value']:.1%} ({part['low']:.1%} to {part['high']:.1%}, n={part['n']})"
