"""Whatever is given, a run does it or refuses it in one line: see bad_inputs.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from fake_server import FakeServer

from bad_inputs import Case, dial_cases, find_fault, folders_of, found_cases, list_cases


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFT_CACHE", str(tmp_path / "cache"))


def see_no_fault(cases: Iterable[Case]) -> Counter[int]:
    """How often each exit status was seen."""
    ended = [find_fault(case) for case in cases]
    assert [fault for _, fault in ended if fault] == []
    return Counter(status for status, _ in ended)


def test_a_dozen_settings(tmp_path: Path) -> None:
    assert see_no_fault(dial_cases(12, folders_of(tmp_path))).total() == 12


def test_those_that_were_once_taken_badly(tmp_path: Path) -> None:
    assert see_no_fault(found_cases(folders_of(tmp_path))).keys() == {2}


@pytest.mark.slow
def test_a_hundred_of_all_kinds(tmp_path: Path) -> None:
    with FakeServer() as server:

        def url(body: bytes) -> str:
            server.raw = body
            return server.base_url

        seen = see_no_fault(list_cases(100, tmp_path, url))
    assert seen.keys() == {0, 2}
    assert min(seen.values()) >= 10
