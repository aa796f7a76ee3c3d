"""Signs of life of the processes of a launch, so that one that was killed is not waited for.

Each process counts up in the store where they met, from a thread of its own: it does so through
work of any length, and Python's lock is not held for minutes. Only changes of a count are compared,
so that clocks may differ, and only looks that found none are counted, so that a watcher which slept
blames nobody.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import count

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from caft.trainers.launched import Launch

_BEAT_SECONDS = 5.0
_SILENT_BEATS = 24
"""How many looks at a process that has not moved make it a lost one: two minutes."""


class Heartbeat:
    """Shows that this process lives. The leader watches all others, and each of those the leader.

    `lost(reason)` is called once, in a thread of its own, when one is silent that was heard before.
    `order` is the number of the leader's last order; a follower that `has_lost_track` of it, since
    the leader went on without it, takes it for gone, too.
    """

    def __init__(
        self,
        launch: Launch,
        order: Callable[[], int],
        has_lost_track: Callable[[int], bool],
        lost: Callable[[str], None],
    ) -> None:
        self._rank, self._order, self._has_lost_track = launch.rank, order, has_lost_track
        self._lost, self._over = lost, threading.Event()
        self._watched = range(1, launch.count) if launch.rank == 0 else range(1)
        self._heard: dict[int, tuple[int, int, str]] = {}
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._beat, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Neither show nor watch any longer."""
        self._over.set()
        for thread in self._threads:
            # A thread that comes back from the store in a process that is ending would abort it.
            thread.join(timeout=_BEAT_SECONDS)

    def stops_within(self, seconds: float) -> bool:
        """Whether it does, waited for."""
        return self._over.wait(seconds)

    def name(self, rank: int) -> str:
        """Such as "process 1 on node7", or without the host where it was never heard."""
        host = f" on {self._heard[rank][2]}" if rank in self._heard else ""
        return f"process {rank}{host}"

    def _beat(self) -> None:
        # A connection of its own: the other one may wait for a message for hours. And a thread of
        # its own: where a host is cut off, this one may hang, and the other notices.
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        patience = timedelta(seconds=_BEAT_SECONDS * _SILENT_BEATS)
        with suppress(RuntimeError):  # the store is gone: nobody is heard any more
            server = TCPStore(address, port, timeout=patience, wait_for_workers=False)
            store = PrefixStore("caft-alive", server)
            for beat in count():
                own = (beat, self._order(), socket.gethostname())
                store.set(str(self._rank), json.dumps(own))
                for rank in self._watched:
                    if store.check([str(rank)]):
                        number, order, host = json.loads(store.get(str(rank)))
                        self._heard[rank] = (number, order, host)
                if self._over.wait(_BEAT_SECONDS):
                    return

    def _watch(self) -> None:
        last: dict[int, tuple[int, int, str] | None] = {}
        silent = dict.fromkeys(self._watched, 0)
        while not self._over.wait(_BEAT_SECONDS):
            for rank in self._watched:
                heard, before = self._heard.get(rank), last.get(rank)
                still = heard is None or heard == before or self._has_lost_track(heard[1])
                silent[rank] = silent[rank] + 1 if still else 0
                last[rank] = heard
                if silent[rank] >= _SILENT_BEATS:
                    waited = _BEAT_SECONDS * _SILENT_BEATS
                    self._lost(f"{self.name(rank)} is gone, unheard of for {waited:.0f} seconds")
                    return
