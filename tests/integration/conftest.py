"""A fresh Kafka for a single test; the one that the session shares is in tests/conftest.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.stacks.kafka_process import LocalKafka


@pytest.fixture
def fresh_kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    """An empty broker of this test's own; it may be killed and started again."""
    with LocalKafka(tmp_path / "kafka" / "data", log_file=tmp_path / "kafka" / "kafka.log") as broker:
        yield broker
