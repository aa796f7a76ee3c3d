"""The time, memory and downloads of a plan, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from caft.distill.local import name_model
from caft.errors import count_of
from caft.models.config import HubModelConfig, ModelConfig
from caft.models.loading import name_dtype
from caft.models.sources.locate import find_model
from caft.pipeline.footprint import (
    Memory,
    download_size,
    estimate_memory,
    estimate_teacher,
    shape_of,
)
from caft.pipeline.planned import RUNS, PlannedStage
from caft.pipeline.steps import asks_local_teacher
from caft.pipeline.workload import Rates, measure_rates, seconds_of
from caft.pipeline.workspace import Workspace
from caft.report.wording import duration, memory
from caft.run_config import RunConfig
from caft.store import StageKind
from caft.teachers.config import LocalModelTeacherConfig

_NO_RATE = "not known"


def tell_needs(
    workspace: Workspace, plan: Sequence[PlannedStage]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The time of every stage by its name, and what the whole plan needs."""
    rates = measure_rates(workspace.store)
    times = {stage.name: describe_time(stage, rates) for stage in plan}
    return times, list(list_needs(workspace, plan, rates))


def describe_time(stage: PlannedStage, rates: Rates) -> str:
    """What a stage would take, such as "up to 2 min 05 s"; empty where nothing runs."""
    if stage.state != RUNS or stage.kind is None:
        return ""
    seconds = seconds_of(stage.load, rates)
    if seconds is None or stage.load is None:
        return _NO_RATE
    return f"{'up to ' if stage.load.at_most else ''}{duration(seconds)}"


def list_needs(
    workspace: Workspace, plan: Sequence[PlannedStage], rates: Rates
) -> Iterator[tuple[str, str]]:
    """Time, memory and downloads, each with its name."""
    yield "Time", describe_whole_time(plan, rates, len(workspace.questions.train))
    tuned = [each.load for each in plan if each.kind is StageKind.tune and each.state == RUNS]
    longest = [load.longest for load in tuned if load]
    # Rationales that are not there yet may be longer than all that is known.
    yield "Memory", describe_memory(workspace, max(longest, default=0) if all(tuned) else 0)
    yield "Download", describe_downloads(workspace.config)


def describe_whole_time(plan: Sequence[PlannedStage], rates: Rates, questions: int) -> str:
    """The sum over stages that run, and those whose pace no finished stage has told."""
    running = [stage for stage in plan if stage.state == RUNS and stage.kind]
    known = {stage.name: seconds_of(stage.load, rates) for stage in running}
    unknown = [name for name, seconds in known.items() if seconds is None]
    sure = [stage.name for stage in running if stage.load and not stage.load.at_most]
    most = sum(seconds for seconds in known.values() if seconds is not None)
    least = sum(seconds for name, seconds in known.items() if seconds is not None and name in sure)
    if not running:
        return "none: every stage is in the store"
    if len(unknown) == len(running):
        return (
            f"{_NO_RATE}: the store has no finished stage of this model and kind yet; run with "
            f"fewer questions first, such as dataset.train={min(50, (questions + 1) // 2)}"
        )
    whole = duration(most) if least == most else f"{duration(least)} to {duration(most)}"
    without = f", without {', '.join(unknown)}, whose pace is {_NO_RATE}" if unknown else ""
    return f"about {whole} at the pace of the store's finished stages{without}"


def describe_memory(workspace: Workspace, longest: int) -> str:
    """The peak, by the models' shapes and dtypes, batches, the longest row and what is trained."""
    from caft.trainers.devices import pick_device

    config, device = workspace.config, pick_device(workspace.config.trainer)
    needs: list[Memory] = []
    unknown = ""
    for model in list_models(config):
        shape, dtype = shape_of(model.id, find_model(model)), name_dtype(model, device)
        if shape is None:
            when = "after its download" if isinstance(model, HubModelConfig) else "once it is made"
            named = model.path or model.id
            if model is config.model:
                return f"{_NO_RATE}: the shape of {named} is known {when}"
            unknown = f", without the teacher {named}, whose shape is known {when}"
        elif model is config.model:
            needs.append(estimate_memory(config, shape, device, dtype, longest))
        elif isinstance(config.teacher, LocalModelTeacherConfig):
            needs.append(estimate_teacher(config, config.teacher, shape, device, dtype))
    most = max(needs, key=lambda each: each.peak)
    return (
        f"about {memory(round(most.peak))} on {device} at the highest, in {most.part} "
        f"({_count_weights(most.shape.parameters)} in {most.dtype}: "
        f"{memory(round(most.weights))}){unknown}"
    )


def _count_weights(count: int) -> str:
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if count >= 0.9995 * size:  # so that three digits are never 1e+03
            return f"{count / size:.3g} {word} weights"
    return count_of(count, "weight")


def list_models(config: RunConfig) -> list[ModelConfig]:
    """Those that this process loads: the student, and a local teacher that a stage asks."""
    models: list[ModelConfig] = [config.model]
    if isinstance(config.teacher, LocalModelTeacherConfig) and asks_local_teacher(config):
        models.append(name_model(config.teacher))
    return models


def describe_downloads(config: RunConfig) -> str:
    """The hub models that are not in the cache, with their sizes."""
    hub = [model for model in list_models(config) if isinstance(model, HubModelConfig)]
    missing = [model for model in hub if find_model(model) is None]
    return "; ".join(_describe_download(model.id) for model in missing) or "nothing"


def _describe_download(model_id: str) -> str:
    size = download_size(model_id)
    named = f"{size / 1e9:.1f} GB" if size else f"size {_NO_RATE} (a dry run asks no hub)"
    return f"{model_id}, {named}"
