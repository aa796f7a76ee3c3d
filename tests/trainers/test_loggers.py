"""Metrics arrive where they should, and a run never asks, leaks or pretends."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import wandb

from caft.errors import UserError
from caft.trainers.config import CsvLoggerConfig, WandbLoggerConfig, WandbMode
from caft.trainers.loggers import check_logger, list_commands, open_logger
from caft.trainers.tracker import Product, RunIdentity, RunLogger, default_variable
from caft.trainers.wandb_logger import WandbRunLogger, clean_project, make_tags
from caft.trainers.wandb_login import check_wandb, wandb_mode


def tune(logger: Any, stage: int) -> None:
    """Three steps of one stage."""
    for step in range(3):
        logger.log_step(stage, {"train/loss": 3.0 - step, "epoch": 0}, step)


def read_metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_csv_has_every_step_of_both_stages_in_the_runs_own_folder(tmp_path):
    with open_logger(CsvLoggerConfig(), RunIdentity(name="x", folder=tmp_path)) as logger:
        tune(logger, 1)
        tune(logger, 2)
        logger.log_summary({"accuracy": 0.5})
    *rows, last = read_metrics(tmp_path)
    assert [float(row["train/loss"]) for row in rows] == [3.0, 2.0, 1.0, 3.0, 2.0, 1.0]
    assert [row["stage"] for row in rows] == ["1"] * 3 + ["2"] * 3
    assert [int(row["step"]) for row in [*rows, last]] == [0, 1, 2, 3, 4, 5, 6]
    assert (last["accuracy"], last["stage"]) == ("0.5", "")


def fail_in(opened: Any) -> Any:
    """Log one number into the opened logger, and fail; returns what was opened."""
    with pytest.raises(ZeroDivisionError), opened as logger:  # noqa: PT012
        logger.log_step(1, {"train/loss": 1.5}, 0)
        raise ZeroDivisionError
    return logger


def test_csv_keeps_the_metrics_of_a_run_that_fails(tmp_path):
    fail_in(open_logger(CsvLoggerConfig(), RunIdentity(name="x", folder=tmp_path)))
    assert [float(row["train/loss"]) for row in read_metrics(tmp_path)] == [1.5]


def test_csv_takes_final_numbers_that_no_step_had(tmp_path):
    with open_logger(CsvLoggerConfig(), RunIdentity(name="x", folder=tmp_path)) as logger:
        tune(logger, 1)
        logger.log_summary({"accuracy": 0.75})
    rows = read_metrics(tmp_path)
    assert [row["accuracy"] for row in rows if row["accuracy"]] == ["0.75"]
    assert len([row for row in rows if row["train/loss"]]) == 3


class FullDisk(RunLogger):
    """Takes nothing but its end; knows how often it was asked."""

    asked = 0
    status: int | None = None

    def log_table(self, name: str, rows: Any) -> None:
        self.asked += 1
        raise OSError("No space left")

    def finish(self, status: int) -> None:
        self.status = status


def test_after_its_first_failure_a_logger_gets_nothing_but_the_end(tmp_path, caplog):
    with open_logger(CsvLoggerConfig(), RunIdentity(name="x", folder=tmp_path)) as logger:
        logger.inner = full = FullDisk()
        logger.log_summary({})
        assert logger.works
        for _ in range(3):
            logger.log_table("scores", [])
    assert (full.asked, full.status, logger.works) == (1, 0, False)
    assert [each.message.endswith("OSError: No space left") for each in caplog.records] == [True]


# W&B: nothing here reaches a network, and a question would fail the test for want of a terminal.


@pytest.fixture
def bare_home(tmp_path, monkeypatch):
    """No login anywhere, whatever the machine's own user has."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "NETRC"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for kind in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(home / kind))
    return home


def open_offline(folder: Path, name: str, run_id: str = "1a2b") -> Any:
    folder.mkdir(exist_ok=True)
    identity = RunIdentity(
        name=name,
        folder=folder,
        run_id=run_id,
        sweep="night",
        kind="sft",
        overrides=("method=sft", "seed=1", "store.path=/elsewhere"),
        config={"model": {"kind": "tiny"}, "seed": 1, "stages": [{"epochs": 2}]},
    )
    return open_logger(WandbLoggerConfig(tags=["a tag"]), identity)


def records_of(folder: Path, kind: str) -> list[Any]:
    """What offline runs wrote of one kind, as wandb's own reader prints it."""
    runs = sorted(folder.glob("wandb/offline-run-*"))
    return [record[kind] for run in runs for record in inspect(run) if record["type"] == kind]


@cache
def inspect(run: Path) -> list[Any]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def exit_code_of(folder: Path) -> int:
    (end,) = records_of(folder, "exit")
    return end.get("exit_code", 0)


def test_wandb_jobs_of_one_process_are_runs_of_their_own_and_leak_nothing(
    tmp_path, bare_home, capfd, monkeypatch
):
    # As after a run that asked a teacher: W&B then has another product to recommend.
    monkeypatch.setitem(sys.modules, "openai", ModuleType("openai"))
    before = dict(os.environ)
    folders = [tmp_path / name for name in ("first", "second", "failed")]
    ids = []
    for folder in folders[:2]:
        with open_offline(folder, folder.name) as logger:
            tune(logger, 1)
            tune(logger, 2)
            for step, accuracy in enumerate((0.5, 0.75, 0.25)):
                logger.log_step(2, {"validation/accuracy": accuracy, "epoch": 0}, step)
            logger.log_summary({"accuracy": 0.75, "best_mode": "answer"})
            ids.append(logger.inner.run.id)
    ids.append(fail_in(open_offline(folders[2], "failed")).inner.run.id)
    assert wandb.run is None
    assert len(set(ids)) == 3
    assert list_commands(tmp_path) == [f"wandb sync {tmp_path}/*/wandb/offline-run-*"]
    assert list_commands(folders[0]) == [f"wandb sync {folders[0]}/wandb/offline-run-*"]
    assert not list_commands(bare_home)
    said = capfd.readouterr()
    assert not said.out + said.err
    assert [exit_code_of(folder) for folder in folders] == [0, 0, 1]

    (run,) = records_of(folders[1], "run")
    assert (run["display_name"], run["run_group"], run["job_type"]) == ("second", "night", "sft")
    assert run["tags"] == ["a tag", "method=sft", "seed=1"]
    rows = [record["item"] for record in records_of(folders[1], "history")]
    for stage in ("tune_1", "tune_2"):
        own = [row for row in rows if f"{stage}/loss" in row]
        assert [row[f"{stage}/loss"] for row in own] == [3, 2, 1]
        assert [row[f"{stage}/step"] for row in own] == [1, 2, 3]
    # The headline, the best validation accuracy, and nothing else.
    summary = summary_of(folders[1])
    assert {name: value for name, value in summary.items() if not name.startswith("_")} == {
        "accuracy": 0.75,
        "best_mode": "answer",
        "tune_2/validation/accuracy": {"max": 0.75},
    }
    leaked = {name for name, value in os.environ.items() if before.get(name) != value}
    # wandb's own note of its background service, which its client library reads back.
    assert leaked <= {"WANDB_SERVICE"}


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in records_of(folder, "summary"):
        found |= record["update"]
    return found


OFFLINE_RUN = """
import sys
from pathlib import Path
from caft.trainers.config import WandbLoggerConfig, WandbMode
from caft.trainers.tracker import RunIdentity
from caft.trainers.wandb_logger import open_run
sys.addaudithook(lambda event, given: event == "socket.getaddrinfo" and print(given[0], flush=True))
identity = RunIdentity(name="run", folder=Path(sys.argv[1]), run_id="run")
logger = open_run(WandbLoggerConfig(mode=WandbMode.offline), identity)
logger.log_step(1, {"train/loss": 1.0}, 0)
logger.finish(0)
"""


def test_a_process_with_an_offline_run_calls_nobody(tmp_path, bare_home):
    command = [sys.executable, "-c", OFFLINE_RUN, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [*tmp_path.glob("wandb/offline-run-*")]


def test_a_job_that_is_started_again_goes_on_with_its_run(tmp_path, bare_home):
    folder = tmp_path / "job"
    fail_in(open_offline(folder, "x"))
    with open_offline(folder, "x"):
        pass
    first, second = records_of(folder, "run")
    assert first["run_id"] == second["run_id"]
    # Another job in this folder, and this job in another folder, are other runs.
    identity = RunIdentity(name="x", folder=folder, run_id="1a2b")
    assert first["run_id"] == identity.key
    others = (replace(identity, run_id="3c4d"), replace(identity, folder=tmp_path / "other"))
    assert len({item.key for item in (identity, *others)}) == 3


class ResumedRun:
    """A run whose server has two rows of its history, as W&B says when it resumes one."""

    starting_step = 2

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def define_metric(self, name: str, **_: Any) -> None:
        """Nothing to keep."""

    def log(self, row: dict[str, float]) -> None:
        self.rows.append(row)


def test_a_run_that_is_resumed_online_gets_only_the_rows_that_it_lacks():
    run: Any = ResumedRun()
    tune(WandbRunLogger(run, artifacts=True), 1)
    assert [row["tune_1/step"] for row in run.rows] == [3]


def test_tables_products_and_config_arrive_as_values(tmp_path, bare_home):
    scores = tmp_path / "scores.parquet"
    scores.write_bytes(b"rows")
    page = tmp_path / "report.html"
    page.write_text("<!doctype html><title>our page</title>")
    with open_offline(tmp_path / "run", "x") as logger:
        logger.log_table("scores", [{"question_id": "q1", "answer_entropy": None}] * 30_000)
        logger.log_table("nothing", [])
        logger.log_product(Product(kind="dataset", name="my data!", fingerprint="d1", taken=True))
        logger.log_product(
            Product(kind="scores", name="scores-tiny", fingerprint="s1", files=(scores,),
                    made_from={"dataset": "d1"})
        )  # fmt: skip
        logger.log_report(page)
    made = {record["name"]: record for record in records_of(tmp_path / "run", "artifact")}
    assert {"my-data-", "scores-tiny"} <= set(made)
    assert made["scores-tiny"]["type"] == "scores"
    metadata = json.loads(made["scores-tiny"]["metadata"])
    assert (metadata["fingerprint"], metadata["made_from"]) == ("s1", {"dataset": "d1"})
    rows = [record["item"] for record in records_of(tmp_path / "run", "history")]
    (table,) = [row for row in rows if "tables/scores.nrows" in row]
    assert (table["tables/scores._type"], table["tables/scores.nrows"]) == ("table-file", 20_000)
    (shown,) = (tmp_path / "run").glob("wandb/offline-run-*/files/media/html/report*.html")
    assert shown.read_text() == page.read_text()
    (run,) = records_of(tmp_path / "run", "run")
    config = run["config"]["update"]
    assert (config["model"], config["stages"]) == ({"kind": "tiny"}, [{"epochs": 2}])


def test_a_variable_is_only_set_where_it_is_not(monkeypatch):
    monkeypatch.delenv("CAFT_FREE", raising=False)
    monkeypatch.setenv("CAFT_TAKEN", "mine")
    with default_variable("CAFT_FREE", "1"), default_variable("CAFT_TAKEN", "1"):
        assert (os.environ["CAFT_FREE"], os.environ["CAFT_TAKEN"]) == ("1", "mine")
    assert (os.environ.get("CAFT_FREE"), os.environ["CAFT_TAKEN"]) == (None, "mine")


def test_tags_fit_into_what_wandb_takes():
    tags = make_tags(["mine", "mine"], ["hydra.verbose=true", "logger=wandb", "x=" + "y" * 90])
    assert tags == ["mine", "x=" + "y" * 62]


def test_names_are_cut_to_what_wandb_takes(tmp_path, bare_home):
    long = "n" * 300
    identity = RunIdentity(name=long, folder=tmp_path, sweep=long, kind=long, overrides=(long,))
    config = WandbLoggerConfig(project="a/b\\c#d?e%f:g" + long, tags=["t" * 64 + "1", "t" * 65])
    with open_logger(config, identity):
        pass
    (run,) = records_of(tmp_path, "run")
    assert run["project"] == clean_project(config.project) == "a-b-c-d-e-f-g" + "n" * 115
    assert [run["display_name"], run["run_group"], run["job_type"]] == ["n" * 128] * 3
    assert run["tags"] == ["t" * 64, "n" * 64]


def test_auto_is_online_with_a_login_and_offline_without(bare_home, monkeypatch):
    assert wandb_mode(WandbMode.auto) == "offline"
    assert wandb_mode(WandbMode.online) == "online"
    (bare_home / ".netrc").write_text("machine example.org login me password secret\n")
    (bare_home / ".netrc").chmod(0o600)
    assert wandb_mode(WandbMode.auto) == "offline"
    (bare_home / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert wandb_mode(WandbMode.auto) == "online"
    assert wandb_mode(WandbMode.offline) == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode(WandbMode.auto) == "disabled"


OWN = "https://wandb.example.org:8443"


def login_by_netrc(home, monkeypatch, host="wandb.example.org:8443"):
    (home / ".netrc").write_text(f"machine {host} login user password {'k' * 40}\n")
    monkeypatch.setenv("WANDB_BASE_URL", OWN)


def login_by_named_netrc(home, monkeypatch):
    (home / "mine").write_text(f"machine api.wandb.ai login user password {'k' * 40}\n")
    monkeypatch.setenv("NETRC", str(home / "mine"))


def login_by_settings(home, monkeypatch):
    (home / "CONFIG").mkdir()
    (home / "CONFIG" / "settings").write_text(
        f"[default]\nbase_url = {OWN}\napi_key = local-{'k' * 40}\n"
    )


def login_by_settings_and_netrc(home, monkeypatch):
    login_by_netrc(home, monkeypatch)
    monkeypatch.delenv("WANDB_BASE_URL")
    (home / "CONFIG").mkdir()
    (home / "CONFIG" / "settings").write_text(f"[default]\nbase_url = {OWN}/\n")


@pytest.mark.parametrize(
    "log_in",
    [login_by_netrc, login_by_named_netrc, login_by_settings, login_by_settings_and_netrc],
)
def test_logins_are_found_where_wandb_finds_them(bare_home, monkeypatch, log_in):
    log_in(bare_home, monkeypatch)
    assert wandb_mode(WandbMode.auto) == "online"
    check_wandb(WandbLoggerConfig())


def test_the_home_of_nobody_is_no_traceback(bare_home, monkeypatch):
    for name in ("WANDB_DIR", "WANDB_CONFIG_DIR", "NETRC"):
        monkeypatch.setenv(name, "~nobody_here/x")
    assert wandb_mode(WandbMode.auto) == "offline"
    check_wandb(WandbLoggerConfig())


def test_a_login_at_another_server_is_none(bare_home, monkeypatch):
    login_by_netrc(bare_home, monkeypatch, host="api.wandb.ai")
    assert wandb_mode(WandbMode.auto) == "offline"
    check_wandb(WandbLoggerConfig())
    with pytest.raises(UserError, match=rf"no login for {OWN}; run wandb login"):
        check_wandb(WandbLoggerConfig(mode=WandbMode.online))


def test_what_wandb_offline_has_set_is_kept(bare_home, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    (bare_home / "wandb").mkdir()
    (bare_home / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    monkeypatch.chdir(bare_home)
    assert wandb_mode(WandbMode.auto) == "offline"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("WANDB_MODE", "onlin", "WANDB_MODE is 'onlin'; give online, offline or disabled"),
        ("WANDB_MODE", "", "WANDB_MODE is ''"),
        ("WANDB_API_KEY", "k" * 39, "key in WANDB_API_KEY has 39 characters and needs 40 or more"),
        ("WANDB_API_KEY", f"{'k' * 40}\n", "key in WANDB_API_KEY has characters other"),
        ("WANDB_BASE_URL", "wandb.example.org", "server is 'wandb.example.org'; give WANDB_BASE"),
        (
            "WANDB_BASE_URL",
            "https://wandb.example.org:x",
            "server is 'https://wandb.example.org:x'",
        ),
    ],
)
def test_what_wandb_would_refuse_is_refused_before_anything_loads(
    bare_home, monkeypatch, name, value, expected
):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    check_logger(WandbLoggerConfig())
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        check_logger(WandbLoggerConfig())
    assert expected in str(caught.value)
    assert "kkk" not in str(caught.value)


def test_a_key_that_is_not_needed_is_not_judged(bare_home, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    check_logger(WandbLoggerConfig(mode=WandbMode.offline))
    check_logger(CsvLoggerConfig())


def test_a_key_that_the_server_refuses_is_the_users_to_fix(bare_home, monkeypatch, tmp_path):
    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        check_logger(WandbLoggerConfig())
        # A process of its own: wandb reads the environment once.
        command = [sys.executable, "-c", OPEN_AND_PRINT, str(tmp_path)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        server.shutdown()
    assert output.startswith("W&B does not start: ")
    assert "401" in output
    # W&B's own service adds where its logs are.
    assert output.splitlines()[0].endswith("or give logger.mode=offline")
    assert "kkk" not in output


OPEN_AND_PRINT = """
import sys
from pathlib import Path

from caft.errors import UserError
from caft.trainers.config import WandbLoggerConfig
from caft.trainers.loggers import RunIdentity, open_logger

try:
    with open_logger(WandbLoggerConfig(), RunIdentity(name="x", folder=Path(sys.argv[1]))):
        print("nobody let it in")
except UserError as error:
    print(error)
"""


def test_a_key_in_the_environment_is_a_login(bare_home, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "not a real one")
    assert wandb_mode(WandbMode.auto) == "online"
