"""An asking teacher that is killed, with its ledger in a file or in a database."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from signal import Signals
from typing import Any

from postgres_server import PostgresServer, find_binaries

from caft.errors import UserError
from caft.signals import watch_signals
from caft.teachers.ask import ask_all
from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.ledger import Ledger
from caft.teachers.ledger.opening import open_database
from caft.teachers.replies import Request
from torturing.forks import Child, fork
from torturing.kills import Ending, name_question, open_server
from torturing.tally import Tally
from torturing.watching import Watch

QUESTIONS = 300
_OF_POSTGRES = 100
"""Each needs several transactions of a dozen round trips: a run takes long enough with these."""


def torture_teacher(
    tally: Tally, at_once: int, endings: Sequence[Signals], work: Path, place: str = ""
) -> None:
    """Kill an asker of many questions; each time with an empty ledger, in a file or at `place`."""
    work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    whole = Asker(work, 1, at_once, place)
    assert whole.finish() == 0
    seconds = time.monotonic() - began
    for number, ending in enumerate(endings, start=2):
        moment = seconds * random.Random(f"{at_once}/{number}").random()
        # Another model is another ledger in the same place, without what was bought before.
        asker = Asker(work, number, at_once, place)
        while not asker.kill(tally, (ending, moment)):
            asker, moment = Asker(work, asker.number + 1000, at_once, place), moment / 2


def torture_postgres(tally: Tally, endings: Sequence[Signals], work: Path) -> None:
    """The same with PostgreSQL; said and left out where it is not installed."""
    if find_binaries() is None:
        print("PostgreSQL is not installed here: its client is not tried")
        return
    running = PostgresServer()
    try:
        torture_teacher(tally, 8, endings, work, running.address())
    finally:
        running.remove()


def torture_together(tally: Tally, processes: int, work: Path) -> None:
    """So many processes ask the same questions with one ledger: each reply is bought once."""
    work.mkdir(parents=True, exist_ok=True)
    asker = Asker(work, 1, 8, "")
    part = f"{processes} processes, ledger"
    with open_server(1) as server:
        children = [asker.start(server.base_url, number) for number in range(processes)]
        for child in children:
            if status := child.wait():
                tally.fail(part, "lost", f"{status}: {child.last_line()}")
        bought = server.bought()
    tally.add(part, "processes", processes)
    tally.add(part, "replies", len(bought))
    tally.add(part, "lost", QUESTIONS - len(bought))
    tally.add(part, "bought_twice_after_arrival", bought.total() - len(bought))


class Asker:
    """One who asks a server of its own; `number` seeds the server's faults."""

    def __init__(self, work: Path, number: int, at_once: int, place: str) -> None:
        self.work, self.number, self.at_once = work, number, at_once
        self.questions = _OF_POSTGRES if place else QUESTIONS
        self.place: Any = place or work / f"{number}.sqlite"
        self.part = f"kills, {'PostgreSQL' if place else 'teacher'} at {at_once}"

    def finish(self) -> int:
        """The exit status of an uninterrupted run."""
        with open_server(self.number) as server:
            return self.start(server.base_url).wait()

    def kill(self, tally: Tally, ending: Ending) -> bool:
        """Kill, ask again and see what was bought; False if it ended before."""
        with open_server(self.number) as server:
            child = self.start(server.base_url)
            status = child.kill_after(ending[1], ending[0])
            if status is None:
                return False
            name = f"{self.number}, {ending[0].name} after {ending[1]:.2f} s"
            watch = Watch(tally, self.part, name, server, self.at_once)
            watch.see_status(child, status, ending[0])
            watch.see_arrived(self._read_asked, ending[0])
            again = self.start(server.base_url)
            if status := again.wait():
                tally.fail(self.part, "lost", f"{name}: then {status}: {again.last_line()}")
            watch.see_bought_once()
            self._see_all_there(tally, name, server)
        return True

    def start(self, url: str, told: int = 0) -> Child:
        """Ask, in a child."""
        return fork(lambda: self._ask(url), self.work, self.work / f"told{self.number}-{told}")

    def _ask(self, url: str) -> int:
        config = OpenAITeacherConfig(
            name="fake", base_url=url, model=f"fake{self.number}", concurrency=self.at_once,
            max_tokens=100, timeout_seconds=30, backoff_seconds=0.01, api_key_env="OPENAI_API_KEY",
        )  # fmt: skip
        requests = [Request((("user", f"q{n}"),)) for n in range(self.questions)]
        with watch_signals() as caught:
            try:
                return self.questions - len(ask_all(requests, config, self.place))
            except UserError as error:
                print(error)
                return 2
            except (KeyboardInterrupt, SystemExit):
                return caught.status
        raise AssertionError

    def _read_asked(self) -> set[str]:
        if isinstance(self.place, Path) and not self.place.exists():
            return set()
        database = open_database(self.place, reads_only=True)
        query = f"SELECT request FROM replies WHERE model = 'fake{self.number}'"
        try:
            rows = database.transact(lambda: database.execute(query).fetchall(), writes=False)
        finally:
            database.close()
        return {name_question(row[0]) for row in rows}

    def _see_all_there(self, tally: Tally, name: str, server: Any) -> None:
        kept = len(self._read_asked())
        if not kept == len(server.bought()) == self.questions:
            tally.fail(self.part, "lost", f"{name}: {kept} of {self.questions} replies are kept")
        with Ledger(self.place, f"fake{self.number}") as ledger:
            if in_flight := ledger.spending().in_flight:
                tally.fail(self.part, "lost", f"{name}: {in_flight} claims are left")
