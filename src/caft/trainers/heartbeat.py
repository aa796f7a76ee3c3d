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
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from itertools import count

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from caft.trainers.launched import Launch

_BEAT_SECONDS = 5.0
_SILENT_BEATS = 24
"""How many looks at a process that has not moved make it a lost one: two minutes."""


def exchange_hosts(launch: Launch, store: Store) -> dict[int, str]:
    """The hosts, by rank, of those whom this process watches: of all others, or of the leader.

    Waits for them; DistError after the store's time.
    """
    store.set(f"host/{launch.rank}", socket.gethostname())
    watched = range(1) if launch.rank else range(1, launch.count)
    return {rank: store.get(f"host/{rank}").decode() for rank in watched}


class Heartbeat:
    """Shows that this process lives, and watches those of `hosts`, by rank.

    `lost(reason)` is called once, in a thread of its own, when one of them is silent.
    `order` is the number of the leader's last order; a follower that `has_lost_track` of it, since
    the leader went on without it, takes it for gone, too.
    """

    def __init__(
        self,
        rank: int,
        hosts: Mapping[int, str],
        order: Callable[[], int],
        has_lost_track: Callable[[int], bool],
        lost: Callable[[str], None],
    ) -> None:
        self._rank, self._hosts = rank, hosts
        self._order, self._has_lost_track = order, has_lost_track
        self._lost, self._over = lost, threading.Event()
        self._heard: dict[int, tuple[int, int]] = {}
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
        """Such as "process 1 on node7"."""
        return f"process {rank} on {self._hosts[rank]}"

    def _beat(self) -> None:
        # A connection of its own: the other one may wait for a message for hours. And a thread of
        # its own: where a host is cut off, this one may hang, and the other notices.
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        patience = timedelta(seconds=_BEAT_SECONDS * _SILENT_BEATS)
        with suppress(RuntimeError):  # the store is gone: nobody is heard any more
            server = TCPStore(address, port, timeout=patience, wait_for_workers=False)
            store = PrefixStore("caft-alive", server)
            for beat in count():
                store.set(str(self._rank), json.dumps([beat, self._order()]))
                for rank in self._hosts:
                    if store.check([str(rank)]):
                        number, order = json.loads(store.get(str(rank)))
                        self._heard[rank] = (number, order)
                if self._over.wait(_BEAT_SECONDS):
                    return

    def _watch(self) -> None:
        last: dict[int, tuple[int, int] | None] = {}
        silent = dict.fromkeys(self._hosts, 0)
        while not self._over.wait(_BEAT_SECONDS):
            for rank in self._hosts:
                heard, before = self._heard.get(rank), last.get(rank)
                still = heard is None or heard == before or self._has_lost_track(heard[1])
                silent[rank] = silent[rank] + 1 if still else 0
                last[rank] = heard
                if silent[rank] >= _SILENT_BEATS:
                    waited = _BEAT_SECONDS * _SILENT_BEATS
                    self._lost(f"{self.name(rank)} is gone, unheard of for {waited:.0f} seconds")
                    return
