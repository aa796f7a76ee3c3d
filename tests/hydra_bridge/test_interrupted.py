"""Ctrl-C in the middle of a library: what the library then raises is not what ends the command."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError

from caft.hydra_bridge import command, compose, main
from caft.hydra_bridge.running import end_on_signals, guard
from caft.run_config import RunContext
from caft.signals import watch_signals


@dataclass
class ReadAtCtrlC:
    """Its only field is being read when Ctrl-C is pressed."""

    number: int = 1

    def __getattribute__(self, name: str) -> object:
        if name == "number":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        return object.__getattribute__(self, name)


def interrupt_omegaconf(*_: object) -> int:
    OmegaConf.create({"defaults": [ReadAtCtrlC()]})
    return 0


def test_omegaconf_raises_an_error_of_its_own_in_place_of_ctrl_c() -> None:
    with pytest.raises(ConfigKeyError), watch_signals():
        interrupt_omegaconf()


def test_while_the_command_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "start_hydra", interrupt_omegaconf)
    assert main(interrupt_omegaconf, ["model=tiny"]) == 130
    said = capsys.readouterr().err
    kept = "what is bought and finished is kept, and the same command goes on"
    assert said == f"stopped by SIGINT; {kept}\n"


@pytest.mark.parametrize("when", ["while its config is built", "while it runs", "before either"])
def test_a_run_is_not_called_a_bug(
    tmp_path: Path, when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config, context = compose(["model=tiny"]), RunContext(folder=tmp_path)

    def build() -> object:
        return interrupt_omegaconf() if when == "while its config is built" else config

    work: Callable[[object], int] = (
        interrupt_omegaconf
        if when == "before either"
        else lambda _: guard(interrupt_omegaconf, build, context)  # type: ignore[arg-type]
    )
    assert end_on_signals(work, "it goes on") == 130
    assert capsys.readouterr().err == "stopped by SIGINT; it goes on\n"
