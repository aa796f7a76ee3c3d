"""The front door as a process: exit statuses, one line for errors, signals, help."""

from __future__ import annotations

import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

JOBS = '''
"""Jobs that end in every possible way, by the name of their method."""
import logging
import sys
import time
from functools import partial
from pathlib import Path
from caft.errors import UserError
from caft.hydra_bridge import main, main_job, start_child

def run(config, context):
    logging.getLogger("caft").info("started %s", config.method.name)
    if config.method.name == "sft":
        raise UserError("the file rows.jsonl\\nhas no rows")
    if config.method.name == "distill":
        raise KeyError("a fault")
    if config.method.name == "curriculum":
        for _ in range(6000):  # a signal just before one long sleep would be seen after it
            time.sleep(0.1)
    if config.method.name == "reversed":
        sys.exit(1)
    return 0

if __name__ == "__main__":
    if sys.argv[1] == "--job":
        sys.exit(main_job(run, Path(sys.argv[2])))
    command = [sys.executable, __file__, "--job"]
    sys.exit(main(run, start=partial(start_child, command=command)))
'''


def call(
    *words: str, folder: Path, script: Path = ROOT / "train.py"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    script = tmp_path / "jobs.py"
    script.write_text(JOBS)
    return script


def test_a_wrong_option_exits_2_with_one_line(tmp_path: Path) -> None:
    done = call("method=sftt", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "did you mean sft?" in done.stderr
    assert not list(tmp_path.iterdir())


def test_help_copies_the_configs_no_more_than_once_a_group(tmp_path: Path) -> None:
    """Hydra copies all of them for every group that it looks into, Hydra's own included: 150 times,
    of which each takes a hundredth of a second."""
    code = (
        "import sys; from caft.hydra_bridge import main; from train import run; "
        "from hydra._internal.config_repository import CachingConfigRepository as Copy; "
        "copies, make = [], Copy.__init__; "
        "Copy.__init__ = lambda *given: copies.append(1) or make(*given); "
        "assert main(run, ['--help']) == 0; sys.exit(f'{len(copies)} copies')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert int(done.stderr.removesuffix(" copies\n")) < 40


def test_help_and_a_refusal_import_nothing_heavy(tmp_path: Path) -> None:
    """Help fits 80 columns and names every option."""
    code = (
        "import sys; from caft.__main__ import main; "
        "assert main(['seed=a']) == 2; assert main(['--help']) == 0; "
        "heavy = {'torch', 'transformers', 'pytorch_lightning', 'peft', 'pyarrow', 'scipy', "
        "'openai', 'wandb', 'numpy'}; sys.exit(str(sorted(heavy & set(sys.modules))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[1:] == ["[]"]
    assert max(map(len, done.stdout.splitlines())) <= 80
    files = [*ROOT.glob("conf/*/*.yaml"), *ROOT.glob("multirun_sweeps/*.yaml")]
    shown = [file for file in files if file.parent.name != "hydra"]
    assert len(shown) >= 30
    assert [file.stem for file in shown if file.stem not in done.stdout] == []


def test_a_users_error_exits_2_and_is_logged(tmp_path: Path, jobs: Path) -> None:
    done = call("method=sft", "hydra.run.dir=out", folder=tmp_path, script=jobs)
    assert (done.returncode, done.stdout) == (2, "started sft\n")
    assert done.stderr == "the file rows.jsonl has no rows\n"
    assert "ERROR caft.outcome: the file rows.jsonl" in (tmp_path / "out/run.log").read_text()


def test_a_fault_of_ours_exits_1_with_its_traceback_in_the_log(tmp_path: Path, jobs: Path) -> None:
    done = call("method=distill", "hydra.run.dir=out", folder=tmp_path, script=jobs)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("a bug in CAFT: KeyError: 'a fault'; its traceback is in ")
    log = (tmp_path / "out/run.log").read_text()
    assert "Traceback" in log
    assert "INFO caft: started distill" in log


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_with_the_shells_status(
    tmp_path: Path, jobs: Path, number: signal.Signals, status: int
) -> None:
    command = [sys.executable, str(jobs), "method=curriculum"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("started curriculum" in line for line in process.stdout)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)  # a busy machine
    assert process.returncode == status
    assert errors.count("\n") == 1
    assert errors.startswith(f"stopped by {number.name}")


def test_an_exit_that_no_signal_asked_for_keeps_its_status(tmp_path: Path, jobs: Path) -> None:
    assert call("method=reversed", folder=tmp_path, script=jobs).returncode == 1


@pytest.mark.slow
def test_the_wheel_runs_without_the_project(tmp_path: Path) -> None:
    """Installed into a folder of its own, `caft` runs and sweeps in an empty one."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "-w", str(tmp_path)]
    if find_spec("hatchling"):
        build.append("--no-build-isolation")
    subprocess.run([*build, str(ROOT)], check=True)
    site, empty = tmp_path / "site", tmp_path / "empty"
    wheel = next(tmp_path.glob("caft-*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    empty.mkdir()
    assert (site / "caft/report/schemas/summary.run.json").is_file()

    def caft(*words: str) -> str:
        done = subprocess.run(
            # -P: the current folder stays off the path, and PYTHONPATH comes first.
            [sys.executable, "-P", str(site / "bin/caft"), *words],
            cwd=empty,
            env={
                "PYTHONPATH": str(site),
                "PATH": "/usr/bin:/bin",
                "OMP_NUM_THREADS": "1",
                "CAFT_CACHE": str(tmp_path / "cache"),
                "HF_HUB_OFFLINE": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    help_text = caft("--help")
    assert "\n  caft method=sft" in help_text
    assert "train.py" not in help_text
    small = ["model=tiny", "dataset=arithmetic", "dataset.train=20", "dataset.test=5"]
    small += ["dataset.validation=5", "dataset.max_new_tokens=8", "trainer.progress=false"]
    caft(*small, "method=complexity_aware", "hydra.run.dir=outputs/one")
    assert (empty / "outputs/one/report.html").is_file()
    caft("-m", *small, "method=sft,base", "until=score")
    assert len(list(empty.glob("outputs/multirun/*/*/scores.parquet"))) == 2
    assert "score " in caft("store", "list")
    assert str(empty / ".caft_store") in "".join(caft("doctor").split())
    assert sorted(path.name for path in empty.iterdir()) == [".caft_store", "outputs"]
    assert "caft" in caft("--shell-completion", "install=bash")
