"""What several kinds of tests share: one real Kafka for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.stacks.kafka_process import LocalKafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A broker shared by the whole session: use topic names of your own, or remove the line's, and do not kill it."""
    folder = tmp_path_factory.mktemp("kafka")
    with LocalKafka(folder / "data", log_file=folder / "kafka.log") as broker:
        yield broker


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--implementation",
        action="append",
        default=[],
        metavar="SERVICE=COMMAND",
        help="the command that the contract suite starts for a service, e.g. oven-machine=./oven (repeatable)",
    )
