"""A run in Weights & Biases: offline without a login, never a prompt, and no leftover state."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from caft.errors import UserError
from caft.trainers.config import WandbLoggerConfig
from caft.trainers.tracker import (
    MOST_ROWS,
    Product,
    RunIdentity,
    RunLogger,
    default_variable,
    name_metrics,
)
from caft.trainers.wandb_login import OFFLINE, check_wandb, find_server, wandb_mode

if TYPE_CHECKING:
    import wandb

_LONGEST_TAG = 64
_LONGEST_NAME = 128


check = check_wandb


def open_run(config: WandbLoggerConfig, identity: RunIdentity) -> WandbRunLogger:
    """Start the run, or resume the one that the same job began earlier."""
    import wandb

    # A name of wandb's own, or what the user has set, which wandb checks.
    mode: Any = wandb_mode(config.mode)
    # Our own screen is the last thing a run shows. Online, W&B still says where the run is and
    # whether the network fails; offline it has nothing to say but how to sync, which we do.
    offline = mode in OFFLINE
    settings = wandb.Settings(quiet=True, **{"silent": True} if offline else {})
    # Where the mode is given here alone, W&B sends its server how long its own calls take.
    reports = default_variable("WANDB_ERROR_REPORTING", "false") if offline else nullcontext()
    try:
        # W&B recommends Weave, silent or not, where openai or a like package is imported.
        with default_variable("WANDB_DISABLE_WEAVE", "true"), reports:
            run = wandb.init(
                project=clean_project(config.project),
                entity=config.entity,
                group=_cut(config.group or identity.sweep),
                job_type=_cut(identity.kind),
                tags=make_tags(config.tags, identity.overrides),
                name=_cut(identity.name),
                id=identity.key,
                resume="allow",
                dir=str(identity.folder),
                mode=mode,
                config=dict(identity.config),
                # Without this, the next job of one process would write into this run.
                reinit="finish_previous",
                settings=settings,
            )
    except (wandb.Error, ValueError) as error:
        raise UserError(
            f"W&B does not start: {_explain(error)}; check that WANDB_API_KEY or wandb login fits "
            f"{find_server()}, or give logger.mode=offline"
        ) from error
    return WandbRunLogger(run, artifacts=config.artifacts)


def _explain(error: Exception) -> str:
    """Without the values that a validator repeats: one of them may be a key."""
    if isinstance(error, ValidationError):
        problems = error.errors(include_input=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems)
    return str(error)


def clean_project(name: str) -> str | None:
    """A name that W&B takes: up to 128 letters, and none that would end a part of a URL."""
    return _cut(re.sub(r"[/\\#?%:]", "-", name))


def _cut(name: str) -> str | None:
    """One line of at most 128 letters, as W&B requires for names; None for an empty one."""
    return " ".join(name.split())[:_LONGEST_NAME].strip() or None


def make_tags(own: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The config's tags, then the job's own overrides; W&B takes up to 64 letters each."""
    words = [word for word in overrides if not word.startswith(("hydra.", "store.", "logger"))]
    # Shortened tags may be equal, and W&B refuses blank ones.
    cut = [tag.strip()[:_LONGEST_TAG].strip() for tag in [*own, *words]]
    return [tag for tag in dict.fromkeys(cut) if tag]


class WandbRunLogger(RunLogger):
    """A run of W&B. Its summary is the headline, the best validation accuracies and the tables."""

    def __init__(self, run: wandb.Run, *, artifacts: bool) -> None:
        self.run = run
        self._artifacts = artifacts
        self._stages: set[int] = set()
        self._sent = 0

    def log_step(self, stage: int, metrics: Mapping[str, float], step: int) -> None:
        """Over tune_1/step and so on."""
        axis = f"tune_{stage}/step"
        if stage not in self._stages:
            self._stages.add(stage)
            self.run.define_metric(axis, hidden=True, summary="none")
            self.run.define_metric(f"tune_{stage}/*", step_metric=axis, summary="none")
            best = f"tune_{stage}/validation/accuracy"
            self.run.define_metric(best, step_metric=axis, summary="max")
        self._sent += 1
        # A run that is resumed online has its first rows already.
        if self._sent > self.run.starting_step:
            self.run.log({**name_metrics(stage, metrics), axis: step + 1})

    def log_table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """At most MOST_ROWS rows, evenly taken."""
        import wandb

        if not rows:
            return
        count = min(len(rows), MOST_ROWS)
        shown = [rows[place * len(rows) // count] for place in range(count)]
        columns = list(rows[0])
        data = [[row.get(column) for column in columns] for row in shown]
        table = wandb.Table(columns=columns, data=data, allow_mixed_types=True)
        self.run.log({f"tables/{name}": table})

    def log_series(self, step: str, rows: Sequence[Mapping[str, float]]) -> None:
        """History rows over an axis of their own."""
        for name in rows[0] if rows else ():
            axis = {"step_metric": step} if name != step else {"hidden": True}
            self.run.define_metric(name, summary="none", **axis)
        for row in rows:
            self.run.log(dict(row))

    def log_product(self, product: Product) -> None:
        """An artifact; what came from the store is an input of the run, the rest its output."""
        import wandb

        if not self._artifacts:
            return
        name = re.sub(r"[^\w.-]+", "-", product.name)[:128]
        artifact = wandb.Artifact(name, type=product.kind, metadata=product.lineage)
        for path in product.files:
            # Not add_dir, which prints.
            for file in filter(Path.is_file, path.rglob("*") if path.is_dir() else [path]):
                artifact.add_file(str(file), str(file.relative_to(path)) if file != path else None)
        # Offline, W&B cannot record inputs; there the lineage is in the fingerprints of the
        # metadata.
        if product.taken and not self.run.offline:
            self.run.use_artifact(artifact)
        else:
            self.run.log_artifact(artifact)

    def log_report(self, page: Path) -> None:
        """A panel that shows the page, as it is."""
        import wandb

        self.run.log({"report": wandb.Html(str(page), inject=False)})

    def log_summary(self, numbers: Mapping[str, float | str]) -> None:
        """Keys of W&B's summary, which are the columns of its table of runs; `a/b` is nested."""
        nested: dict[str, Any] = {}
        for name, value in numbers.items():
            *groups, last = name.split("/")
            into = nested
            for group in groups:
                into = into.setdefault(group, {})
            into[last] = value
        self.run.summary.update(nested)

    def finish(self, status: int) -> None:
        """A run that failed is shown as failed."""
        self.run.finish(exit_code=status)
