"""The command `caft`, which is also `python -m caft`.

    caft model=phi3 method=complexity_aware    one run, as `python train.py` does it
    caft -m method=sft,distill                 a sweep, one job a value
    caft report SWEEP_DIR                      the report of a sweep (python -m caft.report)
    caft store list                            finished stages (python -m caft.store)
    caft export RUN --to trl                   a run's training rows for another tool
    caft ledger show LEDGER                    what was bought of each model, and its cost
    caft ledger copy FROM TO                   paid replies, to another file or database
    caft ledger check LEDGER                   whether they are as they were written
    caft ledger forget LEDGER BATCH            give up a provider's batch that is lost
    caft doctor                                what is installed here, and what is missing

`python -m caft job FOLDER` runs one job, from the config that its sweep saved in that folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from caft.console import tell
from caft.errors import did_you_mean
from caft.program import COMMAND, name_version
from caft.run_config import RunConfig, RunContext
from caft.signals import DONE, USER_MUST_ACT, say
from caft.threads import set_up_threads

_COMMANDS = {
    "report": "caft.report.__main__",
    "store": "caft.store.__main__",
    "export": "caft.export.__main__",
    "ledger": "caft.teachers.ledger.__main__",
    "doctor": "caft.doctor",
}
"""The module of each command but a run's. Imported only then: each is a program of its own."""


def run(config: RunConfig, context: RunContext) -> int:
    """One run. Imported only now: torch takes seconds, and a wrong config is reported at once."""
    set_up_threads()
    from caft.pipeline import run_pipeline

    return run_pipeline(config, context)


def _suggest_commands() -> None:
    """For the shell's completion of the first word: Hydra's own knows overrides alone."""
    words = os.environ.get("COMP_LINE", "").split(" ")
    if len(words) == 2:
        tell(" ".join(name for name in _COMMANDS if name.startswith(words[1])))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of `caft`; returns the exit status. A first word of letters is a command."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    name, *rest = given or [""]
    if name in _COMMANDS:
        command: Callable[..., int] = import_module(_COMMANDS[name]).main
        return command(rest, program=f"{COMMAND} {name}")
    if name == "job":
        if len(rest) != 1:
            say(f"{COMMAND} job takes one folder: that of a sweep's job")
            return USER_MUST_ACT
        from caft.hydra_bridge import main_job

        return main_job(run, Path(rest[0]))
    if name == "--version":
        tell(name_version())
        return DONE
    if "query=bash" in rest or "query=fish" in rest:
        _suggest_commands()
    from caft.hydra_bridge import is_setting_or_option
    from caft.hydra_bridge import main as main_run

    if name.isalpha() and not is_setting_or_option(name):
        say(
            f"there is no command {name}; there are {', '.join(_COMMANDS)}"
            f"{did_you_mean(name, _COMMANDS)}; a run is {COMMAND} key=value ..., see "
            f"{COMMAND} --help"
        )
        return USER_MUST_ACT
    return main_run(run, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
