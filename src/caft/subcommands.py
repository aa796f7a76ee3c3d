"""How the commands besides a run read their words and end: errors are one line, with status 2."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

from caft.errors import UserError
from caft.signals import DONE, USER_MUST_ACT, say


class CommandParser(argparse.ArgumentParser):
    """A parser for `run_command`, as the parsers of its own sub-commands are."""

    def error(self, message: str) -> NoReturn:
        """UserError in place of the usage, a second line and the end of the process."""
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def make_parser(program: str, description: str | None) -> CommandParser:
    """For the command that is called so; its description is shown as it is written."""
    return CommandParser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run_command(
    parser: CommandParser,
    arguments: Sequence[str] | None,
    work: Callable[[argparse.Namespace], int | None],
) -> int:
    """`work` with what the words say; the exit status, which is 0 where `work` has none."""
    try:
        return work(parser.parse_args(arguments)) or DONE
    except UserError as error:
        say(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        say(f"{error.filename} cannot be used: {error.strerror}; give another, or make it writable")
    return USER_MUST_ACT
