"""A run in Weights & Biases: offline without a login, never a prompt, and no leftover state."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import wandb
from pydantic import ValidationError

from caft.errors import UserError
from caft.trainers.config import WandbLoggerConfig
from caft.trainers.tracker import Product, RunIdentity, RunLogger
from caft.trainers.wandb_login import find_server, wandb_mode

MOST_ROWS = 20_000
"""Rows of one table: W&B shows no more, and uploading replies takes long."""
_LONGEST_TAG = 64
_LONGEST_NAME = 128


def open_wandb(config: WandbLoggerConfig, identity: RunIdentity) -> WandbRunLogger:
    """Start the run, or resume the one that the same job began earlier."""
    # A name of wandb's own, or what the user has set, which wandb checks.
    mode: Any = wandb_mode(config.mode)
    try:
        run = wandb.init(
            project=clean_project(config.project),
            entity=config.entity,
            group=_cut(config.group or identity.sweep),
            job_type=_cut(identity.kind),
            tags=make_tags(config.tags, identity.overrides),
            name=_cut(identity.name),
            id=name_run(identity),
            resume="allow",
            dir=str(identity.folder),
            mode=mode,
            config=dict(identity.config),
            # Without this, the next job of one process would write into this run.
            reinit="finish_previous",
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


def name_run(identity: RunIdentity) -> str:
    """The run id: the same for the same job in the same folder, however often it is started."""
    place = f"{identity.folder.resolve()}\n{identity.run_id}"
    return hashlib.sha256(place.encode()).hexdigest()[:20]


def make_tags(own: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The config's tags, then the job's own overrides; W&B takes up to 64 letters each."""
    words = [word for word in overrides if not word.startswith(("hydra.", "store.", "logger"))]
    # Shortened tags may be equal, and W&B refuses blank ones.
    cut = [tag.strip()[:_LONGEST_TAG].strip() for tag in [*own, *words]]
    return [tag for tag in dict.fromkeys(cut) if tag]


class WandbRunLogger(RunLogger):
    """A run of W&B."""

    def __init__(self, run: wandb.Run, *, artifacts: bool) -> None:
        self.run = run
        self._artifacts = artifacts
        self._stages: set[int] = set()

    def log_step(self, stage: int, metrics: Mapping[str, float], step: int) -> None:
        """As tune_1/loss, tune_1/learning_rate and so on over tune_1/step."""
        prefix = f"tune_{stage}"
        if stage not in self._stages:
            self._stages.add(stage)
            self.run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/step")
        named = {f"{prefix}/{key.removeprefix('train/')}": v for key, v in metrics.items()}
        self.run.log({**named, f"{prefix}/step": step + 1})

    def log_stage(self, name: str, numbers: Mapping[str, float]) -> None:
        """As stages/tune_1/seconds and so on, in the summary."""
        place = f"stages/{name.replace(' ', '_')}"
        self.run.summary.update({f"{place}/{key}": value for key, value in numbers.items()})

    def log_table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """At most MOST_ROWS rows, evenly taken."""
        if not rows:
            return
        count = min(len(rows), MOST_ROWS)
        shown = [rows[place * len(rows) // count] for place in range(count)]
        columns = list(rows[0])
        data = [[row.get(column) for column in columns] for row in shown]
        self.run.log({name: wandb.Table(columns=columns, data=data, allow_mixed_types=True)})

    def log_series(self, step: str, rows: Sequence[Mapping[str, float]]) -> None:
        """History rows over an axis of their own."""
        for name in rows[0] if rows else ():
            if name != step:
                self.run.define_metric(name, step_metric=step)
        for row in rows:
            self.run.log(dict(row))

    def log_product(self, product: Product) -> None:
        """An artifact; what came from the store is an input of the run, the rest its output."""
        if not self._artifacts:
            return
        artifact = wandb.Artifact(
            re.sub(r"[^\w.-]+", "-", product.name)[:128],
            type=product.kind,
            metadata={
                **product.metadata,
                "fingerprint": product.fingerprint,
                "made_from": dict(product.made_from),
            },
        )
        for path in product.files:
            if path.is_dir():
                artifact.add_dir(str(path))
            else:
                artifact.add_file(str(path))
        # Offline, W&B cannot record inputs; there the lineage is in the fingerprints of the
        # metadata.
        if product.taken and not self.run.offline:
            self.run.use_artifact(artifact)
        else:
            self.run.log_artifact(artifact)

    def log_summary(self, numbers: Mapping[str, float]) -> None:
        """Under the same names as in summary.json."""
        self.run.summary.update(dict(numbers))

    def finish(self, status: int) -> None:
        """A run that failed is shown as failed."""
        self.run.finish(exit_code=status)
