"""What is in a run's way in its folder is named before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from caft.errors import UserError
from caft.sums import is_finished, write_sums
from caft.sweeps.run_folders import refuse_unwritable_folder

FILES = ("summary.json", "report.html", "scores.parquet", "metrics.csv", "run.log")
FOLDERS = (".hydra", "adapter", "merged")


@pytest.mark.parametrize(
    "name", ["", *FILES, *FOLDERS, "adapter/adapter_config.json", "merged/config.json"]
)
def test_a_link_to_nowhere_is_named_with_the_way_out(tmp_path: Path, name: str) -> None:
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("nowhere")
    with pytest.raises(
        UserError, match=rf"^{re.escape(str(link))} is a link to nowhere, .*; remove the link, or"
    ):
        refuse_unwritable_folder(tmp_path / "run")
    link.unlink()
    refuse_unwritable_folder(tmp_path / "run")


def test_a_link_to_nowhere_on_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "outputs").symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match=r"outputs is a link to .*unmounted, which is not there"):
        refuse_unwritable_folder(tmp_path / "outputs" / "today" / "run")


def test_links_to_somewhere_and_links_that_no_run_writes_are_fine(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    run = tmp_path / "run"
    run.symlink_to(tmp_path / "disk")
    (run / "latest").symlink_to("nowhere")
    (tmp_path / "weights").mkdir()
    (run / "adapter").symlink_to(tmp_path / "weights")
    refuse_unwritable_folder(run)


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_a_file_for_a_folder_and_a_folder_for_a_file_are_named(tmp_path: Path, name: str) -> None:
    if name in FILES:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("")
    with pytest.raises(
        UserError, match=rf"{re.escape(name)} is not a (file|folder), .*; move it away, or"
    ):
        refuse_unwritable_folder(tmp_path)


def test_folders_on_the_way_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "run.log").mkdir()
    refuse_unwritable_folder(tmp_path / "run.log" / "run")


@pytest.mark.parametrize("name", ["summary.json", "predictions.parquet"])
def test_a_run_whose_numbers_have_changed_since_is_not_finished(tmp_path: Path, name: str) -> None:
    (tmp_path / "summary.json").write_text('{"accuracy": 0.61}')
    (tmp_path / "predictions.parquet").write_bytes(b"rows")
    assert is_finished(tmp_path)  # as earlier versions left it
    write_sums(tmp_path, ["summary.json", "predictions.parquet"])
    assert is_finished(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content.replace(b"0.61", b"0.71").replace(b"rows", b"sows"))
    assert not is_finished(tmp_path)
