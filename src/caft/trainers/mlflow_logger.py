"""A run in MLflow, written by Lightning's logger: on a server, or in a database file."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from caft.errors import UserError, first_line
from caft.program import install_hint
from caft.trainers.config import MlflowLoggerConfig
from caft.trainers.tracker import Product, RunIdentity, RunLogger, default_variable, name_metrics

if TYPE_CHECKING:
    from pytorch_lightning.loggers import MLFlowLogger

log = logging.getLogger(__name__)
_KEY = "caft.run"
"""The tag by which a job that is started again finds its run."""


def check(_: MlflowLoggerConfig) -> None:
    """UserError without the package."""
    if find_spec("mlflow") is None:
        raise UserError(
            f"logger=mlflow needs mlflow, which is not installed; {install_hint('mlflow')}, "
            "or use logger=csv"
        )


def name_command(config: MlflowLoggerConfig) -> str:
    """The command that shows the runs; the address where a server already does."""
    uri = config.tracking_uri
    if not uri:
        import mlflow

        uri = mlflow.get_tracking_uri()
    uri = re.sub(r"://[^/@\s]*@", "://", uri)  # MLFLOW_TRACKING_URI may hold a password
    served = uri.startswith(("http:", "https:", "databricks"))
    return uri if served else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"


def open_run(config: MlflowLoggerConfig, identity: RunIdentity) -> MlflowRunLogger:
    """Start the run, or resume the one that the same job began earlier."""
    try:
        # A wrong address is told in seconds: MLflow's own seven retries take minutes.
        with default_variable("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"):
            logger = _connect(config, identity)
    except Exception as error:
        # MLflow's stores raise exceptions of many libraries: requests, SQLAlchemy, its own.
        # MLFLOW_TRACKING_URI may hold a password.
        reason = re.sub(r"://[^/@\s]*@", "://", first_line(error))
        raise UserError(
            f"MLflow does not start: {reason}; check logger.tracking_uri (or "
            "MLFLOW_TRACKING_URI) and logger.experiment, or use logger=csv"
        ) from error
    return MlflowRunLogger(logger, artifacts=config.artifacts)


def _connect(config: MlflowLoggerConfig, identity: RunIdentity) -> MLFlowLogger:
    import mlflow
    from pytorch_lightning.loggers import MLFlowLogger

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    uri = config.tracking_uri or mlflow.get_tracking_uri()
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(config.experiment)
    same = f"tags.`{_KEY}` = '{identity.key}'"
    earlier = client.search_runs([experiment.experiment_id], same) if experiment else []
    tags = {_KEY: identity.key, "sweep": identity.sweep, "kind": identity.kind}
    logger = MLFlowLogger(
        experiment_name=config.experiment,
        run_name=identity.name,
        tracking_uri=uri,
        run_id=earlier[0].info.run_id if earlier else None,
        tags={name: text for name, text in tags.items() if text},
    )
    client.update_run(logger.run_id, "RUNNING")
    log.info("MLflow: the run %s in the experiment %s", logger.run_id, config.experiment)
    # MLflow refuses a new value of a parameter: a resumed run keeps those of its first start.
    if not earlier:
        logger.log_hyperparams(identity.config)
    return logger


class MlflowRunLogger(RunLogger):
    """A run of MLflow. Tables are JSON, and the report is an artifact."""

    def __init__(self, logger: MLFlowLogger, *, artifacts: bool) -> None:
        self.client, self.run_id = logger.experiment, str(logger.run_id)
        self._logger = logger
        self._artifacts = artifacts
        self._last_steps: dict[str, int] = {}

    def log_step(self, stage: int, metrics: Mapping[str, float], step: int) -> None:
        """Steps count from 1 in each stage; what a resumed run has already is not sent again."""
        named = name_metrics(stage, metrics)
        fresh = {name: x for name, x in named.items() if step + 1 > self._last_step(name)}
        if fresh:
            self._logger.log_metrics(fresh, step + 1)

    def _last_step(self, name: str) -> int:
        if name not in self._last_steps:
            history = self.client.get_metric_history(self.run_id, name)
            self._last_steps[name] = max((point.step for point in history), default=0)
        return self._last_steps[name]

    def log_table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """As tables/NAME.json."""
        if rows:
            columns = list(rows[0])
            data = [[row.get(column) for column in columns] for row in rows]
            table = {"columns": columns, "data": data}
            self.client.log_dict(self.run_id, table, f"tables/{name}.json")

    def log_product(self, product: Product) -> None:
        """Its files, and its lineage."""
        if not self._artifacts:
            return
        self.client.log_dict(self.run_id, product.lineage, f"lineage/{product.kind}.json")
        for path in product.files:
            if path.is_dir():
                self.client.log_artifacts(self.run_id, str(path), product.kind)
            else:
                self.client.log_artifact(self.run_id, str(path), product.kind)

    def log_report(self, page: Path) -> None:
        """An artifact, which MLflow shows as a page."""
        self.client.log_artifact(self.run_id, str(page))

    def log_summary(self, numbers: Mapping[str, float | str]) -> None:
        """Metrics; names are tags."""
        for name, value in numbers.items():
            if isinstance(value, str):
                self.client.set_tag(self.run_id, name, value)
            else:
                self.client.log_metric(self.run_id, name, value)

    def finish(self, status: int) -> None:
        """A run that failed is shown as failed."""
        self._logger.finalize("success" if status == 0 else "failed")
