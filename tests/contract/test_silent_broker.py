"""A stop while the broker is there and silent: nothing that waits for it may hold the process up."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from harness.stacks.kafka_process import LocalKafka
from harness.stacks.ports import HOST, free_port
from harness.waiting import wait_until
from tests.contract.broker import Broker
from tests.contract.case import Line
from tests.contract.process import ServiceProcess

LINE = Line.load()


@pytest.fixture
def broker(kafka: LocalKafka) -> Iterator[Broker]:
    made = Broker(kafka.bootstrap_servers, LINE.topics)
    made.reset(LINE.topics)
    yield made
    made.reset(())


@contextmanager
def _silent(kafka: LocalKafka) -> Iterator[None]:
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(kafka.pid, signal.SIGCONT)


def test_order_processing_stops_in_time_though_a_request_waits_for_the_broker(
    kafka: LocalKafka, broker: Broker, tmp_path: Path
) -> None:
    port = free_port()
    environment = {"BOOTSTRAP_SERVERS": broker.bootstrap_servers, "HOST": HOST, "PORT": str(port)}
    command = [sys.executable, "-m", "machines.order_processing"]
    with ServiceProcess(command, environment, tmp_path / "log") as process:
        process.wait_ready()
        with _silent(kafka), socket.create_connection((HOST, port), timeout=10) as client:
            client.sendall(b"POST /start-order/2 HTTP/1.1\r\nHost: shop\r\n\r\n")
            assert httpx.get(f"http://{HOST}:{port}/healthz", trust_env=False).status_code == 200
            process.stop()
            assert b" 202 " not in client.recv(1000)
        assert process.events()[-1] == "stopped"


def test_a_machine_stops_in_time_though_a_pizza_and_a_commit_wait_for_the_broker(
    kafka: LocalKafka, broker: Broker, tmp_path: Path
) -> None:
    environment = {"BOOTSTRAP_SERVERS": broker.bootstrap_servers, "CAPACITY": "2", "WORK_MS": "300"}
    pizza = [json.dumps({**LINE.pizza, "pizzaId": pizza_id}).encode() for pizza_id in (1, 2)]
    headers = [("from", b"contract"), ("at-us", b"1731571200000000")]
    command = [sys.executable, "-m", "machines.oven"]
    with ServiceProcess(command, environment, tmp_path / "log") as process:
        process.wait_ready()
        broker.send([("oven-machine", b"%d" % (index + 1), value, headers) for index, value in enumerate(pizza)])
        wait_until(lambda: broker.ends(["oven-machine-done"])["oven-machine-done"] == 1, 10.0, "the first pizza's end")
        with _silent(kafka):
            process.stop()
        assert process.events()[-1] == "stopped"
