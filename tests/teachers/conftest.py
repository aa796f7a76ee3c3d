from importlib.util import find_spec

import pytest
from postgres_server import PostgresServer, find_binaries

from caft.teachers.ledger.opening import open_database


@pytest.fixture(scope="session")
def running_postgres():
    if find_binaries() is None:
        pytest.skip("PostgreSQL is not installed here (apt install postgresql)")
    if find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed here (pip install -e '.[postgres]')")
    running = PostgresServer()
    yield running
    running.remove()


@pytest.fixture
def postgres(running_postgres):
    """A PostgreSQL server without a ledger."""
    running_postgres.execute("DROP SCHEMA IF EXISTS caft_ledger CASCADE")
    return running_postgres


@pytest.fixture
def make_place(request, tmp_path):
    """Where an empty ledger is to be: a file, or the address of a database."""

    def make(kind):
        if kind == "sqlite":
            return tmp_path / "l"
        return request.getfixturevalue("postgres").address()

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, make_place):
    return make_place(request.param)


@pytest.fixture
def kept(place):
    """What a query finds in the ledger, first column; by default the questions of its replies."""

    def read(query):
        database = open_database(place, reads_only=True)
        try:
            return {row[0] for row in database.transact(
                lambda: database.execute(query).fetchall(), writes=False
            )}  # fmt: skip
        finally:
            database.close()

    return read
