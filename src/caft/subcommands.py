"""How the commands besides a run read their words and end: errors are one line, with status 2."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from caft.errors import UserError
from caft.signals import DONE, USER_MUST_ACT, say


class CommandParser(argparse.ArgumentParser):
    """A parser for `run_command`, as the parsers of its own sub-commands are.

    Flags are typed in full: one that deletes must not be meant by its first letter.
    """

    def __init__(self, **named: Any) -> None:
        super().__init__(allow_abbrev=False, **named)

    def error(self, message: str) -> NoReturn:
        """UserError in place of the usage, a second line and the end of the process."""
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def make_parser(program: str, description: str | None) -> CommandParser:
    """For the command that is called so, as its description's lines for `caft NAME` then say."""
    name = program.replace(".", " ").split()[-1]
    shown = re.sub(rf"^caft {name}\b", program, description or "", flags=re.MULTILINE)
    return CommandParser(
        prog=program, description=shown, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def refuse_empty_words(words: Sequence[str]) -> None:
    """UserError for a word that says nothing; as a path it would be the current folder."""
    if not all(word.strip() for word in words):
        raise UserError(
            'a word of the command is empty, as "$NAME" is where NAME is not set; leave it out, '
            "or give it a value"
        )


def run_command(
    parser: CommandParser,
    arguments: Sequence[str] | None,
    work: Callable[[argparse.Namespace], int | None],
) -> int:
    """`work` with what the words say; the exit status, which is 0 where `work` has none."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        refuse_empty_words(words)
        return work(parser.parse_args(words)) or DONE
    except UserError as error:
        say(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        say(f"{error.filename} cannot be used: {error.strerror}; give another, or make it writable")
    return USER_MUST_ACT
