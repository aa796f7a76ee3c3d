"""TensorBoard's and MLflow's own readers find what a run has sent, also after a second start."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from caft.errors import UserError
from caft.trainers.config import LoggerConfig, MlflowLoggerConfig, TensorboardLoggerConfig
from caft.trainers.loggers import check_logger, list_commands, name_viewer, open_logger
from caft.trainers.tracker import Product, RunIdentity

LOSSES = [3.0, 2.0, 1.0, 0.5]
HEADLINE = {"accuracy": 0.75, "best_mode": "rationale", "teacher_usd": 0.5}


def start_twice(config: LoggerConfig, folder: Path) -> RunIdentity:
    """A run that fails after two of its four steps, and ends well when it is started again."""
    identity = RunIdentity(
        name="tiny, seed 1", folder=folder, run_id="1a2b", sweep="night", kind="sft",
        config={"seed": 1, "model": {"kind": "tiny"}, "method": {"stages": [{"epochs": 2}]}},
    )  # fmt: skip
    folder.mkdir()
    page, scores = folder / "report.html", folder / "scores.parquet"
    page.write_text("<!doctype html>")
    scores.write_bytes(b"rows")
    with pytest.raises(ZeroDivisionError), open_logger(config, identity) as logger:  # noqa: PT012
        send_steps(logger, 2)
        raise ZeroDivisionError
    with open_logger(config, identity) as logger:
        send_steps(logger, 4)
        logger.log_step(1, {"validation/accuracy": 0.25, "epoch": 0}, 3)
        logger.log_table("predictions", [{"question_id": "q1", "correct": None}])
        logger.log_product(Product(kind="scores", name="s", fingerprint="f1", files=[scores]))
        logger.log_report(page)
        logger.log_summary(HEADLINE)
        assert logger.works
    return identity


def send_steps(logger: Any, count: int) -> None:
    for step, loss in enumerate(LOSSES[:count]):
        logger.log_step(1, {"train/loss": loss, "epoch": 0}, step)


def test_tensorboard_reads_each_step_once_and_the_hyperparameters(tmp_path: Path) -> None:
    reading = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra [tensorboard]"
    )
    from tensorboard.plugins.hparams import plugin_data_pb2

    start_twice(TensorboardLoggerConfig(), tmp_path / "run")
    events = reading.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    curve = [(point.step, point.value) for point in events.Scalars("tune_1/loss")]
    assert curve == list(enumerate(LOSSES, start=1))
    assert [point.value for point in events.Scalars("accuracy")] == [0.75]
    (text,) = events.Tensors("report/text_summary")
    assert str(tmp_path / "run" / "report.html") in text.tensor_proto.string_val[0].decode()
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    started = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    given = {name: value.string_value or value.number_value
             for name, value in started.hparams.items()}  # fmt: skip
    assert given == {"seed": 1, "model/kind": "tiny", "method/stages/0/epochs": 2}
    assert list_commands(tmp_path) == [f"tensorboard --logdir {tmp_path}"]
    assert name_viewer(TensorboardLoggerConfig()) == []
    # In a folder of the user's own, each run has one, whatever its job is called.
    own = TensorboardLoggerConfig(folder=str(tmp_path / "own"))
    for sweep in ("first", "second"):
        (tmp_path / sweep).mkdir()
        start_twice(own, tmp_path / sweep / "seed=0")
    folders = sorted((tmp_path / "own").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert folder.name.startswith("seed=0-")
        curve = reading.EventAccumulator(str(folder)).Reload().Scalars("tune_1/loss")
        assert [point.value for point in curve] == LOSSES
    assert name_viewer(own) == [f"tensorboard --logdir {tmp_path / 'own'}"]


@pytest.mark.slow
def test_mlflow_has_one_run_with_its_curve_parameters_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra [mlflow]")
    # Before a run is opened: MLflow keeps the last run's address for the whole process.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@h/x")
    assert name_viewer(MlflowLoggerConfig()) == ["https://h/x"]
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    # MLflow keeps the files of a database's runs in the current folder.
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    identity = start_twice(MlflowLoggerConfig(tracking_uri=uri), tmp_path / "run")
    config = MlflowLoggerConfig(tracking_uri=uri)
    assert name_viewer(config) == [f"mlflow ui --backend-store-uri {uri}"]
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("caft")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("tiny, seed 1", "FINISHED")
    history = client.get_metric_history(run.info.run_id, "tune_1/loss")
    assert [(point.step, point.value) for point in history] == list(enumerate(LOSSES, start=1))
    assert run.data.metrics["tune_1/validation/accuracy"] == 0.25
    assert (run.data.metrics["accuracy"], run.data.metrics["teacher_usd"]) == (0.75, 0.5)
    assert run.data.params == {"seed": "1", "model/kind": "tiny", "method/stages/0/epochs": "2"}
    tags = {"caft.run": identity.key, "sweep": "night", "kind": "sft", "best_mode": "rationale"}
    assert tags.items() <= run.data.tags.items()
    files = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, tracking_uri=uri))
    assert (files / "report.html").is_file()
    assert (files / "scores" / "scores.parquet").read_bytes() == b"rows"
    assert json.loads((files / "lineage" / "scores.json").read_text())["fingerprint"] == "f1"
    table = json.loads((files / "tables" / "predictions.json").read_text())
    assert table == {"columns": ["question_id", "correct"], "data": [["q1", None]]}

    with (
        pytest.raises(UserError, match=r"MLflow does not start: .*logger\.tracking_uri"),
        open_logger(MlflowLoggerConfig(tracking_uri="http://127.0.0.1:1"), identity),
    ):
        pass


@pytest.mark.parametrize("config", [TensorboardLoggerConfig(), MlflowLoggerConfig()])
def test_a_missing_package_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, config: LoggerConfig
) -> None:
    monkeypatch.setitem(sys.modules, config.kind, None)
    with pytest.raises(UserError, match=rf"not installed; pip install '.*\b{config.kind}\b"):
        check_logger(config)


def test_an_address_that_is_none_is_refused_unseen() -> None:
    with pytest.raises(UserError, match="tracking_uri is no address; give one") as caught:
        MlflowLoggerConfig(tracking_uri="http://me:word@[bad")
    assert "word" not in str(caught.value)


def test_a_password_in_a_config_is_refused() -> None:
    with pytest.raises(UserError, match="set MLFLOW_TRACKING_URI") as caught:
        MlflowLoggerConfig(tracking_uri="https://me:word@mlflow.example.org")
    assert "word@" not in str(caught.value)
