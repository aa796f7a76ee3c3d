"""A PostgreSQL server of its own in a temporary folder, on a socket there."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path


def find_binaries():
    """The folder of initdb and postgres; None if they are not installed."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
    )
    places = [*installed, Path(shutil.which("initdb") or "/none/initdb").resolve().parent]
    return next((each for each in reversed(places) if (each / "postgres").is_file()), None)


class PostgresServer:
    """Started and stopped by tests; another user's where root runs them, which it refuses."""

    def __init__(self):
        self.binaries = find_binaries()
        # The path of a socket may have some 100 characters: pytest's folders are too deep.
        self.folder = Path(tempfile.mkdtemp(prefix="caftpg"))
        self.user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if self.user:
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        self._run("initdb", "-D", str(self.folder / "data"), "-U", "caft", "-A", "trust",
                  "-E", "UTF8", "--locale=C", "--no-sync")  # fmt: skip
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text(f"local all locked scram-sha-256\n{rules.read_text()}")
        self.start()

    def _as_user(self):
        return {"user": self.user.pw_uid, "group": self.user.pw_gid} if self.user else {}

    def _run(self, program, *words):
        subprocess.run([self.binaries / program, *words], check=True, capture_output=True,
                       cwd=self.folder, timeout=120, **self._as_user())  # fmt: skip

    def start(self):
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.folder / "data", "-F", "-h", "",
                 "-k", self.folder],
                cwd=self.folder, stdout=log, stderr=log, **self._as_user(),
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)

    def _answers(self):
        ready = [self.binaries / "pg_isready", "-q", "-h", self.folder, "-d", "postgres"]
        return subprocess.run(ready, check=False).returncode == 0

    def stop(self):
        # At once: open transactions are rolled back at the next start, as after a power cut.
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder)

    def address(self, database="postgres", user="caft"):
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def execute(self, *statements, database="postgres"):
        import psycopg

        with psycopg.connect(self.address(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)
