"""What the ``harness`` command does when things go wrong: it says so, keeps what there is, and leaves no process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.archive import read_run
from harness.errors import DrainTimeout, LockHeld, ScenarioError, StackError, ThresholdsFailed
from harness.line import ROOT
from harness.stacks.ports import HOST
from harness.waiting import wait_until
from tests.integration.processes import marked, new_mark

FREE_PORTS = ("--kafka-port", "0", "--orders-port", "0", "--ksqldb-port", "0")

IDLE_OVEN = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"]
"""A machine that is ready and never works."""


class Command:
    """The ``harness`` command in a folder of its own: results, temporary files, and with them the lock."""

    def __init__(self, folder: Path) -> None:
        self.results = folder / "results"
        self.mark = new_mark()
        self._folder = folder
        self._temporary = folder / "tmp"
        self._temporary.mkdir()
        self._begun: list[subprocess.Popen[str]] = []

    def scenario(self, text: str) -> Path:
        file = self._folder / "tiny.toml"
        file.write_text(text)
        return file

    def begin(self, scenario: Path, *options: str) -> subprocess.Popen[str]:
        """``harness run`` on its way, as the leader of a process group."""
        process = subprocess.Popen(
            (ROOT / ".venv/bin/harness", "run", str(scenario), "--results", str(self.results), *options),
            cwd=self._folder,
            env={**os.environ, **self.mark, "TMPDIR": str(self._temporary), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self._begun.append(process)
        return process

    def run(self, scenario: Path, *options: str) -> tuple[int, str, str]:
        """Exit code, output and complaint of a run that ends by itself."""
        process = self.begin(scenario, *options)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def archived(self) -> tuple[Any, Any]:
        """Record and summary of the only run, read back as anyone would."""
        (folder,) = self.results.glob("tiny/*")
        run = read_run(folder)
        return run.record, json.loads((folder / "summary.json").read_text())

    def left(self) -> dict[int, str]:
        return marked(self.mark)

    def end(self) -> None:
        for process in self._begun:
            if process.poll() is None:
                process.kill()
            process.communicate()
        wait_until(lambda: not self.left(), 20, "end of all processes")


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    made = Command(tmp_path)
    yield made
    made.end()


def until_line(process: subprocess.Popen[str], begins: str) -> None:
    """Return when the command has printed a line that begins so."""
    assert process.stdout is not None
    assert any(line.startswith(begins) for line in process.stdout), f"no line begins with {begins!r}"


QUICK = """
[line]
time_scale = 0.005
[driver]
max_send_lag_p99_ms = 60000  # on a busy machine orders may leave late
[warmup]
orders = [{ size = 1 }]
[[load.phases]]
arrivals = "burst"
orders = [{ size = 3 }, { size = 2, recipe = "frozen-vegetariana" }]
"""

LONG_LOAD = """
[line]
time_scale = 0.005
[driver]
max_send_lag_p99_ms = 60000  # on a busy machine orders may leave late
[warmup]
orders = [{ size = 1 }]
[[load.phases]]
arrivals = "constant"
rate_per_s = 10
orders = [{ size = 1, count = 1000 }]
"""


def test_a_scenario_with_errors_changes_nothing_and_names_the_closest_key_for_each(command: Command) -> None:
    text = QUICK.replace("time_scale", "timescale")
    text += '[line.machines.ofen-machine]\nwork_ms = 1\n[thresholds]\nlost_pizza = "<= 0"\n'
    code, out, err = command.run(command.scenario(text), *FREE_PORTS, "--set", "line.capcity=2")
    assert code == ScenarioError.exit_code
    for closest in ("time_scale", "oven-machine", "lost_pizzas", "capacity"):
        assert closest in err
    assert out == ""
    assert not command.results.exists()
    assert command.left() == {}


def test_an_unknown_stack_changes_nothing_and_the_known_ones_are_named(command: Command) -> None:
    code, out, err = command.run(command.scenario(QUICK), "--stack", "lokal")
    assert code == ScenarioError.exit_code
    assert "local" in err
    assert out == ""
    assert not command.results.exists()
    assert command.left() == {}


def test_a_taken_port_is_told_with_its_holder_and_nothing_is_begun(command: Command) -> None:
    with socket.create_server((HOST, 0)) as server:
        taken = server.getsockname()[1]
        code, _, err = command.run(command.scenario(QUICK), *FREE_PORTS, "--orders-port", str(taken))
    assert code == StackError.exit_code
    assert f"port {taken}, wanted for the order API, is taken by process" in err
    assert str(os.getpid()) in err
    assert "--orders-port" in err
    assert not command.results.exists()
    assert command.left() == {}


def test_a_service_that_cannot_start_is_named_with_its_last_words_and_leaves_nothing(command: Command) -> None:
    program = json.dumps([sys.executable, "-c", "raise SystemExit('the gas is off')"])
    text = QUICK + f"\n[line.machines.oven-machine]\ncommand = {program}\n"
    code, _, err = command.run(command.scenario(text), *FREE_PORTS)
    assert code == StackError.exit_code
    assert "oven-machine ended with exit code 1" in err
    assert "the gas is off" in err
    assert command.left() == {}
    (folder,) = command.results.glob("tiny/*")
    run = read_run(folder)
    assert run.record.marks == ["incomplete"]
    assert "the gas is off" in (folder / "logs" / "oven-machine.log").read_text()


def test_a_drain_timeout_archives_what_there_is_and_names_orders_and_pizzas(command: Command) -> None:
    """Meanwhile a second run is told who holds the machine."""
    text = QUICK.replace("[warmup]\norders = [{ size = 1 }]\n", "")
    text += f"\n[line.machines.oven-machine]\ncommand = {json.dumps(IDLE_OVEN)}\n[drain]\ntimeout_s = 2\n"
    scenario = command.scenario(text)
    first = command.begin(scenario, *FREE_PORTS)
    until_line(first, "Starting the local stack")

    code, _, err = command.run(scenario, *FREE_PORTS)
    assert code == LockHeld.exit_code
    assert f"pid {first.pid}, scenario tiny" in err

    out, err = first.communicate(timeout=120)
    assert first.returncode == DrainTimeout.exit_code
    assert "2 orders were not done 2 s after the last was sent" in err
    # One pizza is in the oven and blocks everybody: one at each machine before it, none dispatched beyond those.
    record, summary = command.archived()
    assert record.marks == ["incomplete"]
    missing = {order["order_id"]: order["missing"] for order in summary["ledger"]["unfinished_orders"]}
    assert missing == {
        1: {"oven-machine": [[1, 1]], "vegetables-machine": [[2, 2]], "meat-machine": [[3, 3]]},
        2: {"cheese-machine": [[4, 4]], "sauce-machine": [[5, 5]]},
    }
    for sentence in (
        "order 1 (3 pizzas) is unfinished: 0 pizzas done; pizza 3 last seen on meat-machine",
        "pizza 1 last seen on oven-machine",
        "order 2 (2 pizzas) is unfinished",
    ):
        assert sentence in " ".join(out.split())  # wherever a line is broken
    assert command.left() == {}


def test_thresholds_that_do_not_hold_are_named_and_decide_the_exit_code(command: Command) -> None:
    text = QUICK + '\n[thresholds]\norder_latency_max_ms = "<= 0"\nlost_pizzas = "<= 0"\n'
    code, out, err = command.run(command.scenario(text), *FREE_PORTS)
    assert code == ThresholdsFailed.exit_code
    assert "1 of 2 thresholds do not hold: order_latency_max_ms" in err
    assert "does not hold" in out
    record, summary = command.archived()
    assert record.marks == []
    assert [verdict.holds for verdict in record.verdicts] == [False, True]
    assert summary["ledger"]["orders_done"] == 3
    assert command.left() == {}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_run_is_archived_as_such(command: Command, number: signal.Signals, code: int) -> None:
    process = command.begin(command.scenario(LONG_LOAD), *FREE_PORTS)
    until_line(process, "Warming up")  # it is over: orders are being sent
    os.killpg(process.pid, number)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == code
    assert "interrupted" in out
    assert command.left() == {}
    record, summary = command.archived()
    assert record.marks == ["interrupted"]
    assert 1 <= summary["ledger"]["orders_accepted"] < 1000
    assert summary["ledger"]["lost"] == {}


def test_a_killed_harness_leaves_no_process_and_no_lock(command: Command) -> None:
    process = command.begin(command.scenario(LONG_LOAD), *FREE_PORTS)
    until_line(process, "Warming up")
    process.kill()
    process.wait()
    wait_until(lambda: not command.left(), 5, "end of all processes")
    with socket.create_server((HOST, 0)) as server:
        port = str(server.getsockname()[1])
        code, _, err = command.run(command.scenario(QUICK), *FREE_PORTS, "--orders-port", port)
    assert code == StackError.exit_code, err  # refused for the port, not for the lock
