from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.line import ALL_TOPICS, ROOT
from tests.unit.ksqldb.support import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An engine over two topics, ``events`` and ``others``, without any statement applied."""
    made = Bench(["events", "others"])
    yield made
    made.close()


@pytest.fixture
def line() -> Iterator[Bench]:
    """An engine over the line's topics with the project's statements applied."""
    made = Bench(ALL_TOPICS)
    made.client.apply_directory(ROOT / "ksql")
    yield made
    made.close()
