"""Models are written once, whole, whoever else is writing them."""

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from caft.models.sources.cache import cache_folder, write_once


def test_the_choice_goes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CAFT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder(None) == tmp_path / "home" / ".cache" / "caft"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(None) == tmp_path / "xdg" / "caft"
    monkeypatch.setenv("CAFT_CACHE", str(tmp_path / "caft"))
    assert cache_folder(None) == tmp_path / "caft"
    assert cache_folder(str(tmp_path / "chosen")) == tmp_path / "chosen"


def test_a_failed_build_leaves_nothing_that_could_be_taken_for_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"

    def fail(part: Path) -> None:
        (part / "half").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_once(folder, fail)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    write_once(folder, lambda part: part.joinpath("whole").touch())
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", "whole"]


def test_what_killed_builds_have_left_is_removed_unless_somebody_builds(tmp_path: Path) -> None:
    for name in ("old.part", "busy.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("half")
    with FileLock(tmp_path / "busy.lock"):
        write_once(tmp_path / "model", lambda part: part.joinpath("whole").touch())
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folders == ["busy.part", "model"]


def test_a_folder_that_is_there_is_not_built_again(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()

    def refuse(part: Path) -> None:
        raise AssertionError("built twice")

    assert write_once(tmp_path / "model", refuse) == tmp_path / "model"


def test_jobs_at_the_same_time_build_once(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from caft.models.sources.cache import write_once\n"
        "def build(part):\n"
        "    with open(sys.argv[1] + '.builders', 'a') as file: file.write(f'{os.getpid()}\\n')\n"
        "    time.sleep(0.3)\n"
        "    (part / 'whole').touch()\n"
        "folder = write_once(Path(sys.argv[1]), build)\n"
        "assert (folder / 'whole').exists()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    jobs = [subprocess.Popen(command) for _ in range(3)]
    assert [job.wait(timeout=60) for job in jobs] == [0, 0, 0]
    assert len((tmp_path / "model.builders").read_text().splitlines()) == 1


def build_two(part: Path) -> None:
    (part / "config.json").write_text("{}")
    (part / "weights").write_bytes(bytes(range(100)))


@pytest.mark.parametrize("name", ["config.json", "weights"])
@pytest.mark.parametrize("how", ["flipped", "cut", "emptied", "removed"])
def test_what_has_changed_since_it_was_written_is_made_again(
    tmp_path: Path, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_once(tmp_path / "model", build_two) / name
    content = path.read_bytes()
    if how == "removed":
        path.unlink()
    else:
        flipped = bytes([content[0] ^ 4]) + content[1:]
        path.write_bytes({"flipped": flipped, "cut": content[:1], "emptied": b""}[how])
    assert write_once(tmp_path / "model", build_two) == tmp_path / "model"
    assert path.read_bytes() == content
    assert caplog.messages == [f"{path} is not what was written there: it is made again"]
    write_once(tmp_path / "model", build_two)
    assert len(caplog.messages) == 1


def test_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    folder = write_once(tmp_path / "model", build_two)
    subprocess.run(["sha256sum", "--strict", "--check", "SHA256SUMS"], cwd=folder, check=True)
    (folder / "SHA256SUMS").write_bytes(b"\xff no line of sums\n")
    write_once(folder, build_two)
    subprocess.run(["sha256sum", "--strict", "--check", "SHA256SUMS"], cwd=folder, check=True)
