"""Claims and caps across askers, and what a ledger does with files that are none."""

import os
import sqlite3
import subprocess
import sys
import time

import pytest

from caft.errors import UserError
from caft.teachers.ledger import Arrival, Caps, Ledger, Spending
from caft.teachers.replies import Reply


def arrival(key, usd=1.0, text="t"):
    return Arrival(
        reply=Reply(key=key, text=text, finish_reason="stop", usd=usd),
        attempt=0, request="{}", endpoint="e", usage_estimated=False,
    )  # fmt: skip


def claim(ledger, *keys, worst=1.0, **caps):
    return ledger.claim([(key, worst) for key in keys], Caps(**caps))


@pytest.fixture
def pair(tmp_path):
    with Ledger(tmp_path / "l", "m") as one, Ledger(tmp_path / "l", "m") as two:
        yield one, two


def test_what_one_asker_holds_the_other_cannot_take(pair):
    one, two = pair
    assert claim(one, "a", "b").taken == ["a", "b"]
    claimed = claim(two, "a", "b", "c")
    assert (claimed.held, claimed.taken) == (["a", "b"], ["c"])
    one.commit([arrival("a")])
    claimed = claim(two, "a", "b")
    assert ([reply.key for reply in claimed.bought], claimed.held) == (["a"], ["b"])


def test_both_askers_count_against_one_cap(pair):
    one, two = pair
    assert claim(one, "a", "b", usd=3.0).taken == ["a", "b"]
    claimed = claim(two, "c", "d", usd=3.0)
    assert (claimed.taken, claimed.capped) == (["c"], ["d"])
    one.commit([arrival("a", usd=0.25)])
    assert claim(two, "d", usd=3.0).capped == ["d"]  # 0.25 + 2 reserved + 1
    two.commit([arrival("c", usd=0.25)])
    assert claim(two, "d", usd=3.0).taken == ["d"]  # 0.5 + 1 reserved + 1
    assert one.spending() == Spending(calls=4, usd=0.5, reserved_usd=2.0, in_flight=2)


def test_askers_at_work_are_counted(tmp_path, pair):
    one, two = pair
    assert claim(one, "a").askers == 1
    assert claim(two, "b").askers == 2
    with Ledger(tmp_path / "l", "other") as other:
        assert claim(other, "z").askers == 1
    one.commit([arrival("a")])
    assert claim(two, "c").askers == 1


def test_another_model_has_its_own_spending(tmp_path, pair):
    claim(pair[0], "a", calls=1)
    with Ledger(tmp_path / "l", "other") as other:
        assert claim(other, "z", calls=1).taken == ["z"]


def test_a_released_claim_was_no_call_and_a_lost_one_was(pair):
    one, two = pair
    claim(one, "a", "b")
    one.release(["a"])
    assert one.spending().calls == 1
    assert not one.claim_again("b", "timeout", 1.0, 1.0, Caps(calls=1))
    assert one.spending() == Spending(calls=1, unsure_usd=1.0)
    assert claim(two, "b").taken == ["b"]


def test_committing_twice_counts_once(pair):
    one, _ = pair
    claim(one, "a")
    one.commit([arrival("a")])
    one.commit([arrival("a", text="later")])
    assert one.spending() == Spending(calls=1, usd=1.0)
    assert one.replies(["a"])["a"].text == "t"


def test_closing_frees_claims_and_counts_them_as_spent(tmp_path, pair):
    one, two = pair
    with Ledger(tmp_path / "l", "m") as third:
        claim(third, "a")
    assert one.spending() == Spending(calls=1, unsure_usd=1.0)
    assert claim(two, "a").taken == ["a"]


def test_a_lease_that_runs_out_frees_the_claim_and_renewing_keeps_it(tmp_path):
    with (
        Ledger(tmp_path / "l", "m", lease_seconds=0.05) as slow,
        Ledger(tmp_path / "l", "m") as other,
    ):
        claim(slow, "a")
        slow.lease_seconds = 60.0
        slow.renew()
        time.sleep(0.06)
        assert claim(other, "a").held == ["a"]
        slow.lease_seconds = -1.0
        slow.renew()
        assert claim(other, "a").taken == ["a"]
        # The slow one comes back with its reply: kept, and its money counts once, as unsure.
        slow.commit([arrival("a")])
        other.commit([arrival("a")])
        assert other.spending() == Spending(calls=2, usd=1.0, unsure_usd=1.0)


def test_a_dead_processes_claims_are_free_at_once(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from caft.teachers.ledger import *;"
        "l = Ledger(Path(sys.argv[1]), 'm'); l.claim([('a', 1.0)], Caps()); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "l")], check=False)
    with Ledger(tmp_path / "l", "m") as ledger:
        assert ledger.spending().reserved_usd == 1.0
        assert claim(ledger, "a").taken == ["a"]
        assert ledger.spending().unsure_usd == 1.0


def test_many_askers_may_open_a_new_ledger_at_once(tmp_path):
    script = (
        "import sys; from pathlib import Path; from caft.teachers.ledger import *;"
        "Ledger(Path(sys.argv[1]), 'm').claim([(sys.argv[2], 1.0)], Caps())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "deep" / "l")]
    askers = [subprocess.Popen([*command, str(n)]) for n in range(6)]
    assert [asker.wait() for asker in askers] == [0] * 6


def test_replies_are_synced_to_disk_at_every_commit(tmp_path):
    with Ledger(tmp_path / "l", "m") as ledger:
        assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_thousands_of_keys_are_looked_up(tmp_path):
    with Ledger(tmp_path / "l", "m") as ledger:
        ledger.commit([arrival(str(n)) for n in range(1200)])
        assert len(ledger.replies(str(n) for n in range(5000))) == 1200


def test_files_that_are_no_ledger_end_in_one_line(tmp_path):
    (tmp_path / "text").write_text("no database, but long enough to be read as one" * 9)
    with pytest.raises(UserError, match=r"cannot be used .*store.path"):
        Ledger(tmp_path / "text", "m")
    with pytest.raises(UserError, match="cannot be used"):
        Ledger(tmp_path / "text" / "below" / "l", "m")
    with sqlite3.connect(tmp_path / "newer") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="written by a newer CAFT"):
        Ledger(tmp_path / "newer", "m")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="make its folder writable"):
        Ledger(tmp_path / "l", "m")
