"""Every case of machines/contract against the implementation of each service, as started processes.

``--implementation oven-machine=./oven`` (repeatable) runs another program than the Python one for that service.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.line import MACHINES
from harness.stacks.kafka_process import LocalKafka
from tests.contract.broker import Broker
from tests.contract.case import Case, Line, load_cases
from tests.contract.runner import play

LINE = Line.load()
CASES = load_cases(LINE)
PYTHON_MODULES = {
    **{machine.topic: machine.module for machine in MACHINES},
    "order-processing": "machines.order_processing",
    "kafka-initializer": "machines.kafka_initializer",
}


@pytest.fixture(scope="module")
def broker(kafka: LocalKafka) -> Iterator[Broker]:
    made = Broker(kafka.bootstrap_servers, LINE.topics)
    yield made
    made.reset(())


@pytest.fixture(scope="module")
def commands(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """What starts each service."""
    found = {service: [sys.executable, "-m", module] for service, module in PYTHON_MODULES.items()}
    for option in request.config.getoption("--implementation"):
        service, _, command = option.partition("=")
        if service not in found or not command:
            raise pytest.UsageError(f"--implementation {option!r}: want SERVICE=COMMAND, SERVICE one of {[*found]}")
        found[service] = shlex.split(command)
    return found


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_the_service_keeps_the_contract(
    case: Case, broker: Broker, commands: dict[str, list[str]], tmp_path: Path
) -> None:
    play(case, LINE, broker, commands[case.service], tmp_path)
