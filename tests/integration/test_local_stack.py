import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from harness.errors import MissingTool, StackError
from harness.line import ALL_TOPICS, ROOT
from harness.scenario import LineSettings
from harness.stacks import LocalStack, Ports
from harness.stacks.ports import HOST
from harness.waiting import wait_until
from tests.integration.processes import marked, new_mark

FREE = Ports(kafka=0, orders=0, ksqldb=0)


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Marks this process's children, so that a test can see whether one is left."""
    made = new_mark()
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def harness_process(tmp_path: Path) -> Iterator["HarnessProcess"]:
    process = HarnessProcess(tmp_path / "work")
    yield process
    process.end()


class HarnessProcess:
    """Another harness, in a process of its own, with the line up or on its way."""

    def __init__(self, work_dir: Path) -> None:
        self.mark = new_mark()
        self._work_dir = work_dir
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, until: str) -> subprocess.Popen[str]:
        """Returns when it has printed a line that begins with ``until``."""
        self._process = subprocess.Popen(
            (sys.executable, "-m", "tests.integration.stack_program", str(self._work_dir)),
            cwd=ROOT,
            env={**os.environ, **self.mark},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert any(line.startswith(until) for line in iter(self._process.stdout.readline, ""))
        return self._process

    def left(self) -> dict[int, str]:
        return marked(self.mark)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
        wait_until(lambda: not self.left(), 20, "end of all its processes")


def test_the_whole_line_comes_up_answers_and_leaves_nothing(tmp_path: Path, mark: dict[str, str]) -> None:
    heard: list[str] = []
    with LocalStack(LineSettings(), work_dir=tmp_path, ports=FREE, progress=heard.append) as stack:
        stack.up()
        stack.ready()
        endpoints = stack.endpoints
        topics = AdminClient({"bootstrap.servers": endpoints.bootstrap_servers}).list_topics(timeout=10).topics
        assert set(ALL_TOPICS) <= set(topics)
        assert all(len(topics[name].partitions) == 1 for name in ALL_TOPICS)
        with urllib.request.urlopen(f"{endpoints.orders_url}/healthz", timeout=5) as answer:
            assert answer.status == 200
        stack.check()
        facts = json.loads(json.dumps(stack.facts()))
        assert facts["broker"]["kafka"].startswith("4.")
        assert facts["restarts"] == dict.fromkeys(("kafka", "ksqldb", *stack.services), 0)
    assert set(stack.logs()) == {"kafka", "kafka-initializer", "ksqldb", *stack.services}
    assert [phase.partition(":")[0] for phase in heard] == [
        "Kafka",
        "topics",
        "machines and order processing",
        "ksqlDB",
    ]
    assert not (tmp_path / "kafka-data").exists()
    assert marked(mark) == {}


def test_a_machine_that_cannot_start_is_named_and_nothing_is_left(tmp_path: Path, mark: dict[str, str]) -> None:
    broken = (sys.executable, "-c", "raise SystemExit('the gas is off')")
    line = LineSettings.model_validate({"machines": {"oven-machine": {"work_ms": 10, "command": broken}}})
    with LocalStack(line, work_dir=tmp_path, ports=FREE) as stack:
        stack.up()
        with pytest.raises(StackError, match=r"(?s)oven-machine ended with exit code 1 .*the gas is off"):
            stack.ready()
        assert marked(mark) == {}
    assert "the gas is off" in stack.logs()["oven-machine"].read_text()


def test_a_replaced_machine_gets_the_lines_settings_in_its_environment(tmp_path: Path) -> None:
    program = "import json, os, time; print(json.dumps(dict(os.environ))); print('ready', flush=True); time.sleep(600)"
    oven = {"work_ms": 12.5, "work_ms_per_topping": 2, "capacity": 3, "command": (sys.executable, "-c", program)}
    line = LineSettings.model_validate({"time_scale": 0.5, "capacity": 2, "machines": {"oven-machine": oven}})
    with LocalStack(line, work_dir=tmp_path, ports=FREE) as stack:
        stack.up()
        stack.wait_ready("oven-machine")
        told = json.loads(stack.logs()["oven-machine"].read_text().splitlines()[0])
        assert told["BOOTSTRAP_SERVERS"] == stack.endpoints.bootstrap_servers
    assert float(told["WORK_MS"]) == 12.5
    assert float(told["WORK_MS_PER_TOPPING"]) == 2.0
    assert float(told["TIME_SCALE"]) == 0.5
    assert told["CAPACITY"] == "2"
    assert told["CAPACITY_OVEN_MACHINE"] == "3"
    assert told["CAPACITY_DOUGH_SHAPER"] == "2"


def test_a_taken_port_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(StackError, match=f"port {taken}, wanted for the order API"):
            LocalStack(LineSettings(), work_dir=tmp_path, ports=Ports(kafka=0, orders=taken, ksqldb=0))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_java_is_told_before_anything_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "no-java"))
    with pytest.raises(MissingTool, match=r"none at JAVA_HOME \(.*no-java\)"):
        LocalStack(LineSettings(), work_dir=tmp_path / "work", ports=FREE)
    assert list(tmp_path.iterdir()) == []


def test_a_stack_tells_its_facts_even_when_java_is_missing_by_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = LocalStack(LineSettings(), work_dir=tmp_path, ports=FREE)
    before = stack.facts()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "no-java"))
    assert stack.facts() == before


def test_a_killed_machine_works_again_by_itself_and_is_counted(tmp_path: Path) -> None:
    with LocalStack(LineSettings(), work_dir=tmp_path, ports=FREE) as stack:
        stack.up()
        stack.wait_ready("oven-machine")
        before = stack.pid("oven-machine")
        stack.kill("oven-machine")
        stack.wait_ready("oven-machine")
        assert stack.pid("oven-machine") != before
        assert stack.restarts["oven-machine"] == 1


MOMENTS = ["starting", "Kafka", "topics", "ready"]
"""While the broker starts, while topics are made, while the services start, while all of them run."""


@pytest.mark.parametrize(
    ("number", "when"),
    [
        (signal.SIGTERM, "starting"),
        (signal.SIGTERM, "ready"),
        (signal.SIGINT, "topics"),
        (signal.SIGHUP, "Kafka"),
    ],
)
def test_a_signal_to_the_harness_stops_the_whole_line(
    harness_process: HarnessProcess, number: signal.Signals, when: str
) -> None:
    process = harness_process.start(until=when)
    process.send_signal(number)
    process.wait(timeout=30)
    assert harness_process.left() == {}


@pytest.mark.parametrize("when", MOMENTS)
def test_a_killed_harness_leaves_no_process_behind(harness_process: HarnessProcess, when: str) -> None:
    process = harness_process.start(until=when)
    if when == "ready":
        assert len(harness_process.left()) >= 14  # itself, its watchdog, the broker, ten services, the engine
    process.kill()
    process.wait()
    wait_until(lambda: not harness_process.left(), 5, "end of all its processes")
