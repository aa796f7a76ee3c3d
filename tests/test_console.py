"""Nothing that passes the door steers a terminal, and everything that passes can be read."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from io import StringIO
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

import caft
from caft.console import (
    CleanFormatter,
    OursOrErrors,
    TerminalHandler,
    clean,
    open_console,
    quiet_libraries,
    tell,
    tell_error,
)
from caft.signals import say
from caft.trainers.progress import open_bar

EVIL = "a\x1b]0;own\x07b\x1b[31mc\rd\x9b2Je\u202ef[red]g[/red]"
SHOWN = r"a\x1b]0;own\x07b\x1b[31mc\rd\x9b2Je\u202ef[red]g[/red]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (EVIL, SHOWN),
        ("plain \u00e9 \u6f22 \U0001f600 {x} \\x1b", "plain \u00e9 \u6f22 \U0001f600 {x} \\x1b"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x00\x08\x0b\x0c\x7f\x85", r"\x00\x08\x0b\x0c\x7f\x85"),
        ("\u2028\u2066\u2069\u200f\u061c", r"\u2028\u2066\u2069\u200f\u061c"),
        ("half \ud83d", r"half \ud83d"),
        ("\u0645\u0631\u062d\u0628\u0627", "\u0645\u0631\u062d\u0628\u0627"),  # Arabic by itself
    ],
)
def test_what_steers_is_written_out_and_all_else_stays(text: str, shown: str) -> None:
    assert clean(text) == shown
    assert clean(shown) == shown


def test_every_way_to_print_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    tell(EVIL)
    say(f"{EVIL}\nnext")
    tell_error(EVIL)
    printed = capsys.readouterr()
    assert printed.out == f"{SHOWN}\n"
    # What is printed in one line has its white space joined first.
    assert printed.err == f"{SHOWN.replace(chr(92) + 'r', ' ')} next\n{SHOWN}\n"


def test_a_line_of_the_log_and_its_traceback_are_clean() -> None:
    formatter = CleanFormatter("%(name)s: %(message)s")
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        record = logging.LogRecord(
            "caft", logging.INFO, "", 0, "%s", (EVIL,), (ValueError, error, error.__traceback__)
        )
    line = formatter.format(record)
    assert line.startswith(f"caft: {SHOWN}\nTraceback")
    assert line.endswith(f"ValueError: {SHOWN}")


@pytest.mark.parametrize("colours", ["0", "1"])
def test_a_table_has_richs_own_sequences_only(
    colours: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if colours == "1":
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
    console = open_console()
    table = Table()
    table.add_column(EVIL)
    table.add_row(EVIL)
    console.print(Text(f"bold {EVIL}", style="bold red"), width=200)
    console.print(EVIL, width=200, highlight=False)
    console.print(table, width=200)
    out = capsys.readouterr().out
    assert ("\x1b[1;31m" in out) is (colours == "1")
    plain = re.sub(r"\x1b\[[\d;]*m", "", out)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", plain)
    # rich itself takes some of the signs out of a Text; none of its markup is taken for markup.
    assert plain.count(r"a\x1b]0;own") == 4
    assert plain.count("f[red]g[/red]") == 4


def test_a_bars_title_is_no_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with open_bar() as bar:
        bar.add_task(EVIL, total=3)
        bar.refresh()
    err = capsys.readouterr().err
    assert SHOWN in err
    assert "\x1b]0;own" not in err


class Terminal(StringIO):
    """What a terminal is sent."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("piped", [False, True])
def test_lines_are_printed_above_a_bar_and_never_into_it(
    monkeypatch: pytest.MonkeyPatch, piped: bool
) -> None:
    """Standard output is the bar's terminal, or goes elsewhere: then it gets the lines alone."""
    terminal = Terminal()
    pipe = StringIO() if piped else terminal
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", pipe)
    record = logging.LogRecord("caft", logging.INFO, "", 0, "a line of the log", (), None)
    long = "a path that must not be broken: " + "/folder" * 12
    with open_bar() as bar:
        bar.add_task("scoring", total=3)
        bar.refresh()
        TerminalHandler().emit(record)
        tell(long)
    tell("after it")
    if piped:
        assert pipe.getvalue() == f"a line of the log\n{long}\nafter it\n"
        assert "a line of the log" not in terminal.getvalue()
        return
    sent = terminal.getvalue()
    for line in ("a line of the log", long):
        before, _, behind = sent.partition(line)
        # The bar's line has been erased, and is drawn again below.
        assert before.endswith("\r\x1b[2K")
        assert behind.startswith("\n")
        assert "scoring" in behind
    assert sent.endswith("after it\n")


def test_libraries_are_heard_on_the_terminal_where_they_err() -> None:
    passes = OursOrErrors().filter

    def record(name: str, level: int) -> logging.LogRecord:
        return logging.LogRecord(name, level, "", 0, "", (), None)

    assert passes(record("caft.score.stage", logging.INFO))
    assert passes(record("bitsandbytes.cextension", logging.ERROR))
    assert not passes(record("bitsandbytes.cextension", logging.WARNING))
    assert not passes(record("caftan", logging.WARNING))


def test_warnings_go_to_the_log(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with quiet_libraries():
        warnings.warn("this is old", FutureWarning, stacklevel=1)
    assert "this is old" in caplog.text
    assert capsys.readouterr().err == ""


def test_nobody_prints_beside_the_door() -> None:
    prints = re.compile(r"(?<![\w.])print\(|traceback\.print_|sys\.std(?:out|err)\.write|Console\(")
    package = Path(caft.__file__).parent
    found = [
        f"{path.relative_to(package)}:{number}"
        for path in package.rglob("*.py")
        if path.name not in ("console.py", "streams.py")  # the doors
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if prints.search(line) and "tokenizer.decode(reply" not in line  # the card's own code
    ]
    assert found == []
