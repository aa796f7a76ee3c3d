import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "teachers"))

from fake_server import FakeServer


@pytest.fixture
def server():
    with FakeServer() as running:
        yield running
