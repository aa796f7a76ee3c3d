"""Claims and caps across clients, and what a ledger does with files that are none."""

import hashlib
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from caft.errors import UserError
from caft.teachers.ledger import Ledger, check_ledger
from caft.teachers.ledger import ledger as ledger_module
from caft.teachers.ledger.sqlite import explain_error, read_noted_count
from caft.teachers.prices import Caps, Spending
from caft.teachers.replies import LedgerEntry, TeacherReply


def entry(key, usd=1.0, text="t"):
    return LedgerEntry(
        reply=TeacherReply(key=key, text=text, finish_reason="stop", usd=usd),
        attempt=0, request="{}", endpoint="e", usage_estimated=False,
    )  # fmt: skip


def claim(ledger, *keys, worst=1.0, **caps):
    return ledger.claim([(key, worst) for key in keys], Caps(**caps))


@pytest.fixture
def pair(place):
    with Ledger(place, "m") as one, Ledger(place, "m") as two:
        yield one, two


def test_what_one_client_holds_the_other_cannot_take(pair):
    one, two = pair
    assert claim(one, "a", "b").taken == ["a", "b"]
    claimed = claim(two, "a", "b", "c")
    assert (claimed.held, claimed.taken) == (["a", "b"], ["c"])
    one.commit([entry("a")])
    claimed = claim(two, "a", "b")
    assert ([reply.key for reply in claimed.bought], claimed.held) == (["a"], ["b"])


def test_both_clients_count_against_one_cap(pair):
    one, two = pair
    assert claim(one, "a", "b", usd=3.0).taken == ["a", "b"]
    claimed = claim(two, "c", "d", usd=3.0)
    assert (claimed.taken, claimed.capped) == (["c"], ["d"])
    one.commit([entry("a", usd=0.25)])
    assert claim(two, "d", usd=3.0).capped == ["d"]  # 0.25 + 2 reserved + 1
    two.commit([entry("c", usd=0.25)])
    assert claim(two, "d", usd=3.0).taken == ["d"]  # 0.5 + 1 reserved + 1
    assert one.spending() == Spending(calls=4, usd=0.5, reserved_usd=2.0, in_flight=2)


def test_clients_at_work_are_counted(place, pair):
    one, two = pair
    assert claim(one, "a").clients == 1
    assert claim(two, "b").clients == 2
    with Ledger(place, "other") as other:
        assert claim(other, "z").clients == 1
    one.commit([entry("a")])
    assert claim(two, "c").clients == 1


def test_another_model_has_its_own_spending(place, pair):
    claim(pair[0], "a", calls=1)
    with Ledger(place, "other") as other:
        assert other.spending() == Spending()
        assert claim(other, "z", calls=1).taken == ["z"]


def test_a_claim_that_does_not_fit_leaves_room_for_a_cheaper_one_behind_it(pair):
    one, two = pair
    claimed = one.claim([("a", 1.0), ("b", 3.0), ("c", 1.0)], Caps(usd=2.5))
    assert (claimed.taken, claimed.capped) == (["a", "c"], ["b"])
    assert claimed.spending == Spending(calls=2, reserved_usd=2.0, in_flight=2)
    # Nothing is taken, and nothing is counted.
    claimed = claim(two, "a", "b", usd=2.5)
    assert (claimed.taken, claimed.spending) == ([], one.spending())
    one.release([])
    assert one.spending().calls == 2


def test_a_reply_says_who_counted_its_tokens_and_where_it_is_from(place):
    sure = entry("a", text="1")
    sure = replace(sure, request="жжжжx", reply=replace(
        sure.reply, prompt_tokens=3, completion_tokens=4, seconds=0.5, reasoning="Hm."
    ))  # fmt: skip
    prompt_alone = replace(entry("b"), endpoint="f", usage_estimated=True)
    uncounted = replace(prompt_alone, reply=replace(entry("c").reply, counted=False))
    with Ledger(place, "m") as ledger:
        ledger.commit([sure, prompt_alone, uncounted])
        told = ledger.replies_and_endpoints("cab")
        assert {reply.key: (reply.counted, where) for reply, where in told} == {
            "a": (True, "e"), "b": (True, "f"), "c": (False, "f"),
        }  # fmt: skip
        assert ledger.replies("a") == {"a": replace(sure.reply, from_ledger=True)}
        # What the server did not count says nothing about bytes a token.
        assert ledger.token_counts() == [(9, 3, 4)]
    with Ledger(place, "other") as other:
        assert other.token_counts() == []


def test_a_failure_is_kept_with_its_reason_and_the_model_that_paid(place, kept, monkeypatch):
    with Ledger(place, "m") as other, Ledger(place, "n", lease_seconds=-1.0) as slept:
        claim(slept, "a")
        claim(other, "b")
        other.give_up("b", "timeout", 0.25)
        with Ledger(place, "m") as stopped:
            claim(stopped, "c")
        assert claim(other, "d").taken == ["d"]  # and so a's lease is noticed
        assert (slept.spending().unsure_usd, other.spending().unsure_usd) == (1.0, 1.25)
        # A process of another user cannot be asked whether it lives: it does.
        monkeypatch.setattr(os, "kill", deny)
        assert claim(slept, "d").held == ["d"]
    assert kept("SELECT reason FROM failures") == {
        "timeout", "the client stopped", "the client's lease ran out",
    }  # fmt: skip


def deny(pid, signal):
    assert (pid, signal) == (os.getpid(), 0)
    raise PermissionError


def test_a_client_died_if_its_process_on_this_machine_did(place, kept, monkeypatch):
    with Ledger(place, "m") as one:
        claim(one, "a")
        with monkeypatch.context() as patch:
            patch.setattr(ledger_module, "_is_alive", lambda _: False)
            patch.setattr(ledger_module, "_name_machine", lambda: "elsewhere")
            with Ledger(place, "m") as other:
                assert claim(other, "a").held == ["a"]
                patch.undo()
                patch.setattr(ledger_module, "_is_alive", lambda pid: pid != os.getpid())
                with Ledger(place, "m") as third:
                    assert claim(third, "a").taken == ["a"]
    assert "the client died" in kept("SELECT reason FROM failures")


def test_a_released_claim_was_no_call_and_a_lost_one_was(pair):
    one, two = pair
    claim(one, "a", "b")
    one.release(["a"])
    assert one.spending().calls == 1
    one.give_up("b", "timeout", 1.0)
    assert claim(one, "b", calls=1).capped == ["b"]
    assert one.spending() == Spending(calls=1, unsure_usd=1.0)
    assert claim(two, "b").taken == ["b"]


def test_committing_twice_counts_once(pair):
    one, _ = pair
    claim(one, "a")
    one.commit([entry("a")])
    one.commit([entry("a", text="later")])
    assert one.spending() == Spending(calls=1, usd=1.0)
    assert one.replies(["a"])["a"].text == "t"


def test_closing_frees_claims_and_counts_them_as_spent(place, pair):
    one, two = pair
    with Ledger(place, "m") as third:
        claim(third, "a")
    assert one.spending() == Spending(calls=1, unsure_usd=1.0)
    assert claim(two, "a").taken == ["a"]


def test_a_lease_that_runs_out_frees_the_claim_and_renewing_keeps_it(place):
    with (
        Ledger(place, "m", lease_seconds=0.05) as slow,
        Ledger(place, "m") as other,
    ):
        claim(slow, "a")
        slow.lease_seconds = 60.0
        slow.renew()
        time.sleep(0.06)
        assert not slow.may_have_lapsed()
        assert claim(other, "a").held == ["a"]
        slow.lease_seconds = -1.0
        slow.renew()
        assert slow.may_have_lapsed()
        assert claim(other, "a").taken == ["a"]
        # The slow one comes back with its reply: kept, and its money counts once, as unsure.
        slow.commit([entry("a")])
        other.commit([entry("a")])
        assert other.spending() == Spending(calls=2, usd=1.0, unsure_usd=1.0)


def test_a_claim_that_another_took_in_the_meantime_is_given_up_without_a_fault(place):
    with (
        Ledger(place, "m", lease_seconds=-1.0) as slept,
        Ledger(place, "m") as other,
    ):
        claim(slept, "a", "b", "c")
        assert slept.may_have_lapsed()
        assert claim(other, "a", "b").taken == ["a", "b"]
        other.commit([entry("b")])
        for key in "abc":
            slept.give_up(key, "HTTP 500", 1.0)
        claimed = claim(slept, "a", "b", "c")
        assert claimed.held == ["a"]  # the other asks
        assert [reply.key for reply in claimed.bought] == ["b"]  # the other has asked
        assert claimed.taken == ["c"]  # nobody wanted it
        assert [slept.hold(key) for key in "abc"] == [False, False, True]
        assert slept.spending().unsure_usd == 3.0  # of the claims that had lapsed, counted once
        assert not other.may_have_lapsed()


def test_a_dead_processes_claims_are_free_at_once(place):
    script = (
        "import os, sys; from caft.teachers.ledger import *;"
        "from caft.teachers.prices import *;"
        "l = Ledger(sys.argv[1], 'm'); l.claim([('a', 1.0)], Caps()); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(place)], check=False)
    with Ledger(place, "m") as ledger:
        assert ledger.spending().reserved_usd == 1.0
        assert claim(ledger, "a").taken == ["a"]
        assert ledger.spending().unsure_usd == 1.0


def test_many_clients_may_open_a_new_ledger_at_once(place):
    script = (
        "import sys; from caft.teachers.ledger import *;"
        "from caft.teachers.prices import *;"
        "Ledger(sys.argv[1], 'm').claim([(sys.argv[2], 1.0)], Caps())"
    )
    command = [sys.executable, "-c", script, str(place)]
    clients = [subprocess.Popen([*command, str(n)]) for n in range(6)]
    assert [client.wait() for client in clients] == [0] * 6


def test_replies_are_synced_to_disk_at_every_commit(tmp_path):
    with Ledger(tmp_path / "l", "m") as ledger:
        assert ledger.database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert ledger.database.execute("PRAGMA synchronous").fetchone() == (2,)


def test_thousands_of_keys_are_looked_up(place):
    with Ledger(place, "m") as ledger:
        ledger.commit([entry(str(n)) for n in range(1200)])
        assert len(ledger.replies(str(n) for n in range(5000))) == 1200


def test_a_search_comes_in_bites_of_500_with_each_key_once(tmp_path):
    with Ledger(tmp_path / "l", "m") as ledger:
        ledger.commit([entry(str(n)) for n in (0, 1, 499, 500, 501)])
        found = ledger.replies_and_endpoints(str(n) for n in range(1001))
        assert [reply.key for reply, _ in found] == ["0", "1", "499", "500", "501"]


def test_a_method_is_one_transaction_that_passes_on_what_it_is_given():
    done = []

    class Client:
        class database:  # noqa: N801
            @staticmethod
            def transact(work, *, writes):
                done.append(writes)
                return work()

    def method(client, key, *, more):
        """What it does."""
        return client, key, more

    client = Client()
    for writes in (False, True):
        run = ledger_module._transaction(writes=writes)(method)
        assert run(client, "a", more="b") == (client, "a", "b")
        assert run.__doc__ == "What it does."
    assert done == [False, True]


def test_the_index_is_checked_once_by_each_client_and_keeps_nobody_waiting(tmp_path, monkeypatch):
    with Ledger(tmp_path / "l", "m") as one:
        find_fault, checks = one.database.find_fault, []

        def check():
            with closing(sqlite3.connect(tmp_path / "l", timeout=0)) as other:
                other.execute("BEGIN IMMEDIATE")
            checks.append(find_fault())
            return checks[-1]

        monkeypatch.setattr(one.database, "find_fault", check)
        claim(one, "a")
        claim(one, "b")
        assert checks == [""]


def test_an_error_behind_a_reply_does_not_name_it(tmp_path):
    with Ledger(tmp_path / "l", "m") as ledger:
        claim(ledger, "a")
        ledger.database.execute("ALTER TABLE spending RENAME TO lost")
        with pytest.raises(UserError, match=r"\(no such table: spending\): it lacks"):
            ledger.commit([entry("a")])
        ledger.database.execute("ALTER TABLE lost RENAME TO spending")


def test_a_lease_is_timed_by_the_clock_that_goes_on_while_a_machine_sleeps(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 77, raising=False)
    monkeypatch.setattr(time, "clock_gettime", {77: 5.0}.__getitem__, raising=False)
    assert ledger_module._now() == 5.0
    with Ledger(tmp_path / "l", "m", lease_seconds=2.0) as ledger:
        for now, lapsed in ((7.0, False), (7.25, True)):
            monkeypatch.setattr(ledger_module, "_now", lambda now=now: now)
            assert ledger.may_have_lapsed() == lapsed
    monkeypatch.undo()
    # Where there is none, as on macOS.
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.setattr(time, "time", lambda: 9.0)
    assert ledger_module._now() == 9.0


def test_a_process_that_the_system_does_not_know_is_dead(monkeypatch):
    def find_none(pid, signal):
        raise ProcessLookupError

    assert ledger_module._is_alive(os.getpid())
    monkeypatch.setattr(os, "kill", find_none)
    assert not ledger_module._is_alive(os.getpid())


def test_a_machine_without_linuxs_files_has_a_name_of_its_own(monkeypatch):
    here = ledger_module._name_machine()
    space, boot = Path("/proc/self/ns/pid"), Path("/proc/sys/kernel/random/boot_id")
    if space.exists() and boot.exists():
        told = f"{socket.gethostname()}:{os.stat(space).st_ino}:{boot.read_text()}"
        assert here == hashlib.sha256(told.encode()).hexdigest()[:16]
    monkeypatch.setattr(Path, "exists", lambda path: False)
    monkeypatch.setattr(uuid, "getnode", lambda: 7)
    name = hashlib.sha256(f"{socket.gethostname()}:0:7".encode()).hexdigest()[:16]
    assert ledger_module._name_machine() == name != here


# What a ledger says of itself


@pytest.mark.parametrize("lose", ["remove", "empty"])
def test_a_ledger_that_lost_its_replies_is_noticed(tmp_path, lose):
    with Ledger(tmp_path / "l", "m") as ledger:
        ledger.commit([entry("a"), entry("b")])
    (tmp_path / "l").unlink()
    if lose == "empty":
        (tmp_path / "l").touch()
    for reads_only in (False, True):
        with pytest.raises(UserError, match=r"is (missing|empty), and had 2 replies") as caught:
            Ledger(tmp_path / "l", "m", reads_only=reads_only)
    # The way out that it names is one.
    Path(str(caught.value).rpartition("remove ")[2]).unlink()
    with Ledger(tmp_path / "l", "m") as ledger:
        assert not ledger.replies(["a"])


def test_the_first_commit_notes_that_there_are_replies_and_closing_how_many(tmp_path):
    with Ledger(tmp_path / "l", "m") as ledger:
        ledger.commit([entry("a")])
        assert read_noted_count(tmp_path / "l") == 1
        ledger.commit([entry("b")])
        assert read_noted_count(tmp_path / "l") == 1
    assert read_noted_count(tmp_path / "l") == 2


def test_a_process_that_is_killed_has_noted_that_there_are_replies(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from caft.teachers.ledger import *;"
        "from caft.teachers.replies import *; l = Ledger(Path(sys.argv[1]), 'm');"
        "l.commit([LedgerEntry(reply=TeacherReply(key='a'), attempt=0, request='{}', endpoint='e',"
        "usage_estimated=False)]); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "l")], check=False)
    for file in tmp_path.glob("l*"):
        if file.suffix != ".count":
            file.unlink()
    with pytest.raises(UserError, match="is missing, and had 1 reply:"):
        Ledger(tmp_path / "l", "m")


def test_looking_into_a_ledger_writes_nothing(tmp_path):
    with Ledger(tmp_path / "l", "m") as ledger:
        ledger.commit([entry("a")])
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    with Ledger(tmp_path / "l", "m", reads_only=True) as ledger:
        assert ledger.replies(["a"])["a"].text == "t"
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    assert after == before
    with Ledger(tmp_path / "l", "m") as busy:
        busy.commit([entry("b")])
        with Ledger(tmp_path / "l", "m", reads_only=True) as ledger:
            assert set(ledger.replies("ab")) == {"a", "b"}


def test_an_empty_file_that_never_had_a_reply_is_an_empty_ledger(tmp_path):
    (tmp_path / "l").touch()
    with Ledger(tmp_path / "l", "m", reads_only=True) as ledger:
        assert not ledger.replies(["a"])
    assert (tmp_path / "l").stat().st_size == 0


def test_files_with_replies_go_by_the_umask(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from caft.teachers.ledger import *;"
        "os.umask(int(sys.argv[2], 8)); l = Ledger(Path(sys.argv[1]), 'm');"
        "print([oct(p.stat().st_mode)[-3:] for p in sorted(Path(sys.argv[1]).parent.glob('l*'))])"
    )
    for umask, mode in (("077", "600"), ("022", "644"), ("002", "664")):
        (tmp_path / umask).mkdir()
        command = [sys.executable, "-c", script, str(tmp_path / umask / "l"), umask]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert set(re.findall(r"\d+", told)) == {mode}


def test_files_that_are_no_ledger_end_in_one_line(tmp_path):
    (tmp_path / "text").write_text("no database, but long enough to be read as one" * 9)
    with pytest.raises(
        UserError, match=r"cannot be used .*damaged, or no ledger.*set store.ledger_url"
    ):
        Ledger(tmp_path / "text", "m")
    with pytest.raises(UserError, match="damaged, or no ledger"):
        check_ledger(tmp_path / "text")
    with pytest.raises(UserError, match=r"it is a folder: name a file in it"):
        check_ledger(tmp_path)
    with pytest.raises(UserError, match=r"cannot be used .*is in its way"):
        Ledger(tmp_path / "text" / "below" / "l", "m")
    with sqlite3.connect(tmp_path / "other") as db:
        db.execute("CREATE TABLE mine (a)")
    for reads_only in (True, False):
        with pytest.raises(UserError, match="other is a database of another program"):
            Ledger(tmp_path / "other", "m", reads_only=reads_only)
    with sqlite3.connect(tmp_path / "newer") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="written by a newer CAFT"):
        Ledger(tmp_path / "newer", "m")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="make its folder writable"):
        Ledger(tmp_path / "l", "m")


def test_every_cause_has_its_own_words(tmp_path):
    def explained(error):
        return explain_error(tmp_path / "l", error, "the reply abc of m")

    def sqlite(name, message="said"):
        error = sqlite3.OperationalError(message)
        error.sqlite_errorname = name
        return error

    assert "(said) while the reply abc of m was written: its disk is full" in explained(
        sqlite("SQLITE_FULL")
    )
    for error, words in (
        (sqlite("SQLITE_BUSY"), "has locked it"),
        (sqlite("SQLITE_BUSY_SNAPSHOT"), "has locked it"),
        (sqlite("SQLITE_CORRUPT_INDEX"), "is damaged"),
        (sqlite("SQLITE_IOERR_WRITE"), "check the disk"),
        (sqlite("SQLITE_READONLY_DIRECTORY"), "make its folder writable"),
        (sqlite("SQLITE_CONSTRAINT_NOTNULL"), "a row does not fit"),
        (OverflowError("int too large"), "a number does not fit"),
        (OSError(28, "No space left on device"), "its disk is full"),
        (OSError(30, "Read-only file system"), "mounted read-only"),
    ):
        assert words in explained(error)
        assert ("make its folder writable" in explained(error)) == (
            words == "make its folder writable"
        )


def test_a_full_disk_and_a_faulty_row_are_called_that(tmp_path):
    with Ledger(tmp_path / "l", "m") as ledger:
        with pytest.raises(
            UserError, match=r"NOT NULL.*while the reply bad of m was written: a row"
        ):
            ledger.commit([entry("bad", usd=float("nan"))])
        with pytest.raises(UserError, match="while the reply 0123456789ab of m was written"):
            ledger.commit([entry("0123456789abcdef", usd=float("nan"))])
        ledger.database.execute("PRAGMA max_page_count = 10")
        with pytest.raises(UserError, match="its disk is full: make room there"):
            ledger.commit([entry("large", text="x" * 100_000)])
        ledger.commit([entry("small")])
        assert set(ledger.replies(["bad", "large", "small"])) == {"small"}


def test_a_damaged_ledger_is_called_that(tmp_path):
    with Ledger(tmp_path / "l", "m") as ledger:
        ledger.commit([entry(str(n), text="x" * 3000) for n in range(20)])
    data = (tmp_path / "l").read_bytes()
    (tmp_path / "l").write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    with pytest.raises(UserError, match="it is damaged"):
        Ledger(tmp_path / "l", "m").replies(["1", "2", "19"])


def test_the_command_that_saves_what_can_be_read_runs_as_it_is_printed(tmp_path, monkeypatch):
    """In a shell, from any folder; what stands for sqlite3 notes what it is given."""
    folder, programs = tmp_path / "my $runs", tmp_path / "bin"
    for made in (folder, programs):
        made.mkdir()
    program = programs / "sqlite3"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/$#\n")
    program.chmod(0o700)
    error = sqlite3.DatabaseError("said")
    error.sqlite_errorname = "SQLITE_CORRUPT"
    monkeypatch.chdir(folder)
    command = re.search("`(.*?)`", explain_error(Path("l.sqlite"), error))[1]
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path, env={"PATH": path})
    assert (tmp_path / "2").read_text() == f"{folder}/l.sqlite\n.recover\n"
    assert (tmp_path / "1").read_text() == f"{folder}/repaired-l.sqlite\n"
