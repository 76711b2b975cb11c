"""Plays one contract case against one started implementation."""

from __future__ import annotations

import socket
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx

from harness.errors import WaitTimeout
from harness.stacks.ports import HOST, free_port
from harness.waiting import wait_until
from tests.contract.broker import Broker, Watch
from tests.contract.case import Case, CaseError, Json, Line
from tests.contract.invariants import Invariants
from tests.contract.matching import compare, match, match_record
from tests.contract.process import START_TIMEOUT_S, ServiceProcess
from tests.contract.records import Seen, Sent, encoded, now_us

EXPECT_WITHIN_S = 10.0


def play(case: Case, line: Line, broker: Broker, command: list[str], folder: Path) -> None:
    """Run ``case``; AssertionError with the step, its reason and the service's last log lines when it fails."""
    broker.reset(case.topics)
    if case.refused:
        _play_refused(case, broker, command, folder)
    elif case.interrupted:
        _play_interrupted(case, broker, command, folder)
    elif case.once:
        _play_once(case, broker, command, folder)
    else:
        with Watch(broker, line.topics) as watch:
            _Play(case, line, broker, watch, command, folder).run()


def _play_refused(case: Case, broker: Broker, command: list[str], folder: Path) -> None:
    """Starts that must fail, all at the same time."""
    with ExitStack() as stack:
        processes = []
        for index, start in enumerate(case.refused):
            environment = {"BOOTSTRAP_SERVERS": broker.bootstrap_servers, **_settings(start["environment"])}
            processes.append(stack.enter_context(ServiceProcess(command, environment, folder / f"{index}.log")))
        for start, process in zip(case.refused, processes, strict=True):
            code = process.wait_exit(START_TIMEOUT_S)
            what = f"{start['environment']}: exit code {code}\n{process.last_words()}"
            assert code != 0, what
            assert code == start.get("exit", code), what
            assert "ready" not in process.events(), what
            last = process.log()[-1]
            for word in start["names"]:
                assert word in str(last), f"the last log line does not name {word}\n{what}"


def _play_interrupted(case: Case, broker: Broker, command: list[str], folder: Path) -> None:
    """Starts that cannot succeed, one after the other, each stopped while it waits."""
    with socket.create_server((HOST, 0)) as silent:
        for index, start in enumerate(case.interrupted):
            environment = {"BOOTSTRAP_SERVERS": broker.bootstrap_servers, **_settings(start["environment"])}
            if environment["BOOTSTRAP_SERVERS"] == "$silent":
                environment["BOOTSTRAP_SERVERS"] = f"{HOST}:{silent.getsockname()[1]}"
            with ServiceProcess(command, environment, folder / f"{index}.log") as process:
                process.wait_event("starting")
                process.stop()
                assert "subscribed" not in process.events(), f"{start['environment']}: it did not wait"


def _play_once(case: Case, broker: Broker, command: list[str], folder: Path) -> None:
    """A program that does its work and ends, run again and again on what it left."""
    for index, run in enumerate(case.once):
        sent = broker.send([(topic, b"1", b"{}", []) for topic in run.get("holding", [])])
        environment = {"BOOTSTRAP_SERVERS": broker.bootstrap_servers, **case.environment}
        with ServiceProcess(command, environment, folder / f"{index}.log") as process:
            code = process.wait_exit(START_TIMEOUT_S)
            assert code == 0, f"exit code {code}\n{process.last_words()}"
            assert process.log(), "it logged nothing"
        configs = broker.configs(broker.topics())
        for topic in run["topics"]:
            assert topic in configs, f"{topic} was not made"
            partitions, settings = configs[topic]
            assert partitions == run["partitions"], f"{topic} has {partitions} partitions"
            for name, value in run["settings"].items():
                assert settings.get(name) == value, f"{topic}: {name} is {settings.get(name)}, not {value}"
        ends = broker.ends(record.topic for record in sent)
        assert all(end == 1 for end in ends.values()), f"records were lost: {ends}"


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    """``$closed`` stands for an address that nobody listens on."""
    return {name: value.replace("$closed", f"{HOST}:{free_port()}") for name, value in environment.items()}


class _Play:
    def __init__(self, case: Case, line: Line, broker: Broker, watch: Watch, command: list[str], folder: Path) -> None:
        self._case = case
        self._line = line
        self._broker = broker
        self._watch = watch
        self._command = command
        self._folder = folder
        self._port = free_port()
        self._client = httpx.Client(timeout=10.0, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
        self._invariants = Invariants(case.service, watch)
        self._labelled: dict[str, Seen | Sent] = {}
        self._process: ServiceProcess | None = None
        self._starts = 0

    def run(self) -> None:
        at = "start"
        try:
            self._send(self._case.given)
            self._start()
            for index, step in enumerate(self._case.steps):
                at = f"step {index + 1} ({step.get('why', ', '.join(step))})"
                self._step(step)
            at = "end"
            self._end()
        except (AssertionError, WaitTimeout, subprocess.TimeoutExpired) as error:
            raise AssertionError(f"{self._case.name}\n  {at}: {error}{self._context()}") from None
        finally:
            self._client.close()
            if self._process is not None:
                self._process.kill()

    def _context(self) -> str:
        left = [f"\n    {seen}" for records in self._watch.unclaimed.values() for seen in records]
        words = self._process.last_words() if self._process else ""
        return f"\n  records not expected so far:{''.join(left[:20]) or ' none'}\n  last output:\n{words}"

    def _step(self, step: dict[str, Any]) -> None:
        within_s = step.get("within_s", EXPECT_WITHIN_S)
        if step.get("kill"):
            self._running().kill()
        if "send" in step:
            self._send(step["send"])
        if step.get("start"):
            self._start()
        if "broken" in step:
            self._broken(step["broken"], within_s)
        if "http" in step:
            self._http(step, within_s)
        if "expect" in step:
            self._expect(step["expect"], within_s, in_any_order=step.get("in_any_order", False))
        if "nothing_for_ms" in step:
            self._nothing(step["nothing_for_ms"] / 1000)
        for comparison in step.get("compare", []):
            compare(comparison, self._labelled)

    def _running(self) -> ServiceProcess:
        if self._process is None:
            raise CaseError("the service does not run")
        return self._process

    def _start(self) -> None:
        environment = {
            "BOOTSTRAP_SERVERS": self._broker.bootstrap_servers,
            "HOST": HOST,
            "PORT": str(self._port),
            **self._case.environment,
        }
        self._starts += 1
        self._process = ServiceProcess(self._command, environment, self._folder / f"{self._starts}.log")
        self._process.wait_ready()

    def _end(self) -> None:
        """Nothing that was not expected may be in the topics once the service has stopped."""
        self._running().stop()
        self._watch.read_to_end()
        self._check_fresh()
        left = [seen for records in self._watch.unclaimed.values() for seen in records]
        assert not left, "more was written than expected"
        self._invariants.finish()

    def _send(self, records: list[dict[str, Any]]) -> list[Sent]:
        at = str(now_us())
        rows = []
        for record in records:
            key, value = encoded(record, self._line.pizza)
            headers = record.get("headers", {"from": "contract", "at-us": at})
            rows.append((record["topic"], key, value, list(headers.items())))
        sent = self._broker.send(rows)
        self._watch.own(sent)
        for record, written in zip(records, sent, strict=True):
            self._label(record, written)
        return sent

    def _label(self, described: Json, record: Seen | Sent) -> None:
        if isinstance(described, dict) and "as" in described:
            self._labelled[described["as"]] = record

    def _broken(self, records: list[dict[str, Any]], within_s: float) -> None:
        """Each record becomes one dead letter; ``returns`` is the pizza whose ``-done`` it also causes."""
        sent = self._send(records)
        labels = {f"broken {index}": record for index, record in enumerate(sent)}
        self._labelled.update(labels)
        expected: dict[str, list[Json]] = {"dead-letter": [{"of": label} for label in labels]}
        signals = [{"id": record["returns"], "recovered": True} for record in records if "returns" in record]
        if signals:
            expected[f"{self._case.service}-done"] = signals
        self._expect(expected, within_s, in_any_order=True)

    def _expect(self, expected: dict[str, list[Json]], within_s: float, *, in_any_order: bool) -> None:
        deadline = time.monotonic() + within_s
        for topic, wanted in expected.items():
            records = self._watch.unclaimed[topic]
            while len(records) < len(wanted):
                remaining = deadline - time.monotonic()
                assert remaining > 0, (
                    f"{topic}: {len(records)} of {len(wanted)} records within {within_s:g} s: {wanted}"
                )
                self._watch.poll(min(remaining, 0.2))
                self._check_fresh()
                self._running().check_alive()
            taken, self._watch.unclaimed[topic] = records[: len(wanted)], records[len(wanted) :]
            for item in wanted:
                seen = self._pick(item, taken) if in_any_order else taken[0]
                match_record(item, seen, self._labelled)
                taken.remove(seen)
                self._label(item, seen)

    def _pick(self, item: Json, among: list[Seen]) -> Seen:
        """The record that fits; if none does, the first one, so that the mismatch is told."""
        for seen in among:
            try:
                match_record(item, seen, self._labelled)
            except AssertionError:
                continue
            return seen
        return among[0]

    def _nothing(self, for_s: float) -> None:
        deadline = time.monotonic() + for_s
        while (remaining := deadline - time.monotonic()) > 0:
            self._watch.poll(remaining)
            self._check_fresh()
        left = [seen for records in self._watch.unclaimed.values() for seen in records]
        assert not left, f"nothing was expected for {for_s:g} s"
        self._running().check_alive()

    def _check_fresh(self) -> None:
        fresh, self._watch.fresh = self._watch.fresh, []
        for seen in fresh:
            self._invariants.check(seen)

    def _http(self, step: dict[str, Any], within_s: float) -> None:
        for request in step["http"]:
            if step.get("eventually"):
                wait_until(lambda request=request: self._answers(request), within_s, f"the answer to {request}")  # type: ignore[misc]
            else:
                times = step.get("times", 1)
                answers = self._ask_at_once(request, times)
                if "statuses" in request:
                    found = dict(Counter(str(answer.status_code) for answer in answers))
                    assert found == request["statuses"], f"{request}: {found}"
                else:
                    for answer in answers:
                        _match_answer(request, answer)

    def _ask_at_once(self, request: dict[str, Any], times: int) -> list[httpx.Response]:
        together = Barrier(times)

        def ask(_: int) -> httpx.Response:
            together.wait()
            return self._ask(request)

        with ThreadPoolExecutor(times) as pool:
            return list(pool.map(ask, range(times)))

    def _answers(self, request: dict[str, Any]) -> bool:
        try:
            _match_answer(request, self._ask(request))
        except AssertionError:
            return False
        return True

    def _ask(self, request: dict[str, Any]) -> httpx.Response:
        url = f"http://{HOST}:{self._port}{request['path']}"
        try:
            return self._client.request(request["method"], url, headers=request.get("headers"))
        except httpx.HTTPError as error:
            raise AssertionError(f"{request['method']} {request['path']}: {error}") from error


def _match_answer(request: dict[str, Any], answer: httpx.Response) -> None:
    what = f"{request['method']} {request['path']} -> {answer.status_code} {answer.text[:200]}"
    assert answer.status_code == request["status"], f"{what}, expected {request['status']}"
    if "body" in request:
        match(request["body"], answer.json(), what)
    if "has" in request:
        match(request["has"], answer.json(), what, exact=False)
    for name, text in request.get("answer_headers", {}).items():
        assert answer.headers.get(name) == text, f"{what}: header {name} must be {text}"
