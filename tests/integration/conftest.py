"""A real Kafka for the integration tests: one for the session, or a fresh one for a single test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.stacks.kafka_process import LocalKafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A broker shared by the whole session: use topic names of your own, and do not kill it."""
    folder = tmp_path_factory.mktemp("kafka")
    with LocalKafka(folder / "data", log_file=folder / "kafka.log") as broker:
        yield broker


@pytest.fixture
def fresh_kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    """An empty broker of this test's own; it may be killed and started again."""
    with LocalKafka(tmp_path / "kafka" / "data", log_file=tmp_path / "kafka" / "kafka.log") as broker:
        yield broker
