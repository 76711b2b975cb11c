"""One run: from a reset stack to an archived folder.

Whatever happens on the way (orders that never finish, a service that dies for good, Ctrl-C), what there is by then is
recorded and archived, the stack is stopped, and the outcome says what went wrong.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from harness.archive import RunRecord, RunWriter
from harness.environment import NoiseSampler, describe_environment
from harness.errors import DrainTimeout, HarnessError, KsqlError, LoadError, ThresholdsFailed
from harness.ksqldb import KsqlClient
from harness.line import ROOT
from harness.load.driver import OrderPhase, SentOrder, drive, send_lag
from harness.load.schedule import PlannedOrder, schedule, warmup_schedule
from harness.measure.collect import Collected, collect, expected_of
from harness.measure.drain import Drain, DrainProgress, DrainResult
from harness.measure.events import EventsFile
from harness.measure.facts import Facts, read_facts
from harness.measure.ledger import Ledger, build_ledger
from harness.measure.record import read_topics
from harness.measure.stages import read_stages
from harness.measure.summary import Summary, summarise
from harness.menu import load_menu
from harness.scenario import Scenario
from harness.stacks import STACKS, Ports, Stack
from harness.stacks.lock import run_lock
from harness.stacks.signals import signals_as_exceptions

KSQL_DIR = ROOT / "ksql"
RESULTS_DIR = ROOT / "results"

KSQLDB_TIMEOUT_S = 30.0
COLLECT_TIMEOUT_S = 30.0
"""A ksqlDB server with its default settings needs about 2 s per stage of a table."""


class Watcher(Protocol):
    """Hears how a run goes. Called from the main thread, and ``note`` from others too; must not block."""

    def phase(self, title: str) -> None:
        """A new phase begins."""
        ...

    def progress(self, done: int, total: int, unit: str) -> None:
        """How far the phase is."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


@dataclass(frozen=True)
class RunOptions:
    """How to run a scenario, apart from what the scenario says."""

    stack: str = "local"
    results_dir: Path = RESULTS_DIR
    ports: Ports = field(default_factory=Ports)


@dataclass(frozen=True)
class RunOutcome:
    """An archived run. ``failure`` is what the exit code must tell: None for a run that passed.

    ``summary`` and ``ledger`` are None if nothing could be recorded.
    """

    path: Path
    record: RunRecord
    summary: Summary | None
    ledger: Ledger | None
    failure: BaseException | None


def run_scenario(scenario: Scenario, options: RunOptions, watcher: Watcher) -> RunOutcome:
    """Run ``scenario`` once and archive it.

    Raises LockHeld, MissingTool or StackError (a taken port) if nothing was begun. Everything later is in the
    outcome, Ctrl-C included.
    """
    with (
        signals_as_exceptions(),
        run_lock(scenario.name),
        tempfile.TemporaryDirectory(prefix="pizza-line-") as work_dir,
    ):
        stack = STACKS[options.stack](
            scenario.line, work_dir=Path(work_dir), ports=options.ports, progress=watcher.note
        )
        with stack, RunWriter(options.results_dir, scenario.name) as writer:
            return _Run(scenario, stack, writer, watcher).whole()


class _Run:
    def __init__(self, scenario: Scenario, stack: Stack, writer: RunWriter, watcher: Watcher) -> None:
        self._scenario = scenario
        self._stack = stack
        self._writer = writer
        self._watcher = watcher
        self._sent: list[SentOrder] = []
        self._timings: dict[str, float] = {}
        self._marks: list[str] = []
        self._reached_topics = False
        self._drained: DrainResult | None = None

    def whole(self) -> RunOutcome:
        failure: BaseException | None = None
        with NoiseSampler() as noise:
            try:
                self._measure()
            except (HarnessError, KeyboardInterrupt) as error:
                failure = error
                self._marks.append("interrupted" if isinstance(error, KeyboardInterrupt) else "incomplete")
        summary, ledger, recording_failure = self._record(ended=not isinstance(failure, KeyboardInterrupt))
        failure = failure or recording_failure
        verdicts = self._verdicts(summary)
        if failure is None:
            failure = _thresholds_failed(verdicts)
        facts: dict[str, Any] = dict(self._stack.facts())
        if any(facts.get("restarts", {}).values()):
            self._marks.append("services_restarted")
        with self._phase("stop", "Stopping the stack"):
            self._stack.down()
        self._writer.write_logs(self._stack.logs())
        record = RunRecord(
            run_id=self._writer.run_id,
            experiment_id=self._writer.run_id,
            scenario=self._scenario.model_dump(mode="json"),
            started_at=self._writer.started_at,
            environment=describe_environment(_versions(facts)) | {"stack": facts, "noise": noise.summary()},
            timings={name: round(seconds, 3) for name, seconds in self._timings.items()},
            verdicts=verdicts,
            marks=sorted(set(self._marks)),
        )
        self._writer.finish(record)
        return RunOutcome(self._writer.path, record, summary, ledger, failure)

    def _measure(self) -> None:
        """Everything that needs a whole stack, up to the last order's end."""
        scenario, stack = self._scenario, self._stack
        with self._phase("up", f"Starting the {stack.name} stack"):
            stack.up()
            stack.ready()
        self._reached_topics = True
        with self._phase("ksql", "Creating the latency tables"), self._ksqldb() as ksqldb:
            ksqldb.apply_directory(KSQL_DIR)
        with Drain(stack.endpoints.bootstrap_servers) as drain:
            warmup = warmup_schedule(scenario.warmup)
            if warmup:
                with self._phase("warmup", "Warming up"):
                    self._drive(warmup, "warmup")
                    self._drain(drain, "warm-up orders")
            with self._phase("load", "Sending orders"):
                self._drive(schedule(scenario.load), "load")
            with self._phase("drain", "Waiting for the last order"):
                self._drain(drain, "orders")

    def _drive(self, planned: tuple[PlannedOrder, ...], phase: OrderPhase) -> None:
        sent = drive(
            self._stack.endpoints.orders_url,
            planned,
            phase=phase,
            settings=self._scenario.driver,
            on_progress=lambda begun, _: self._watcher.progress(begun, len(planned), "orders sent"),
            into=self._sent,
        )
        self._stack.check()
        if not any(order.outcome == "accepted" for order in sent):
            raise LoadError(
                f"none of {len(sent)} orders was accepted; the first: {sent[0].status or 'no answer'} {sent[0].error}",
                hint="The log of order-processing, archived with this run, may tell why.",
            )
        lag = send_lag(sent)
        if phase == "load" and lag.p99_ms is not None and lag.p99_ms > self._scenario.driver.max_send_lag_p99_ms:
            self._marks.append("driver_late")

    def _drain(self, drain: Drain, what: str) -> None:
        def report(progress: DrainProgress) -> None:
            self._watcher.progress(progress.pizzas_done, progress.pizzas_accepted, "pizzas done")

        expected = [order.order_id for order in self._sent if order.order_id is not None]
        result = drain.wait(self._scenario.drain.timeout_s, report, expected_orders=expected, check=self._stack.check)
        self._drained = result
        if not result.complete:
            unfinished = [*result.open_orders, *result.unseen_orders]
            raise DrainTimeout(
                f"{len(unfinished)} {what} were not done {self._scenario.drain.timeout_s:g} s after the last was sent",
                hint="The findings below name them and where each pizza was last seen; drain.timeout_s sets the wait.",
            )

    def _record(self, *, ended: bool) -> tuple[Summary | None, Ledger | None, BaseException | None]:
        """Read back and archive what the topics and tables hold by now."""
        self._writer.write_load(self._sent, [column.name for column in fields(SentOrder)])
        if not self._reached_topics:
            return None, None, None
        try:
            with self._phase("record", "Recording the topics"):
                self._writer.write_events(read_topics(self._stack.endpoints.bootstrap_servers))
            events = EventsFile(self._writer.events_path)
            facts = read_facts(events)
            ledger = build_ledger(facts, ended=ended)
            tables, failure = self._collect(facts)
            with self._phase("analyse", "Working out the figures"):
                self._writer.write_stages(read_stages(events, facts))
                summary = summarise(facts, ledger, tables, self._sent, self._scenario.line, load_menu())
            self._writer.write_summary(summary, ledger)
        except (HarnessError, KeyboardInterrupt) as error:
            self._marks.append("incomplete")
            return None, None, error
        return summary, ledger, failure

    def _collect(self, facts: Facts) -> tuple[Collected | None, BaseException | None]:
        """The latency tables, archived. A table that lacks something is a failure and archived all the same."""
        try:
            with self._phase("collect", "Reading the latency tables"), self._ksqldb() as ksqldb:
                tables = collect(ksqldb, expected_of(facts), COLLECT_TIMEOUT_S)
        except KsqlError as error:
            self._marks.append("tables_incomplete")
            return None, error
        self._writer.write_orders(tables.order_latency)
        self._writer.write_pizzas(tables.pizza_latency)
        if tables.complete:
            return tables, None
        self._marks.append("tables_incomplete")
        return tables, KsqlError(
            f"the latency tables were not complete after {COLLECT_TIMEOUT_S:g} s: {'; '.join(tables.lacking)}",
            hint="The topics are recorded in events.parquet; ksqlDB's log may say which records it dropped.",
        )

    def _verdicts(self, summary: Summary | None) -> list[dict[str, Any]]:
        values: Mapping[str, float | None] = summary.values if summary is not None else {}
        return [
            {"name": name, "threshold": str(limit), "value": values.get(name), "holds": limit.holds(values.get(name))}
            for name, limit in self._scenario.thresholds.items()
        ]

    def _ksqldb(self) -> KsqlClient:
        return KsqlClient(self._stack.endpoints.ksqldb_url, timeout_s=KSQLDB_TIMEOUT_S)

    @contextmanager
    def _phase(self, name: str, title: str) -> Iterator[None]:
        self._watcher.phase(title)
        began = time.monotonic()
        try:
            yield
        finally:
            self._timings[f"{name}_s"] = time.monotonic() - began


def _thresholds_failed(verdicts: list[dict[str, Any]]) -> ThresholdsFailed | None:
    failed = [f"{one['name']} is {one['value']}, not {one['threshold']}" for one in verdicts if not one["holds"]]
    if not failed:
        return None
    return ThresholdsFailed(f"{len(failed)} of {len(verdicts)} thresholds do not hold: {'; '.join(failed)}")


def _versions(facts: Mapping[str, Any]) -> dict[str, str]:
    broker = facts.get("broker")
    return {name: str(broker[name]) for name in ("kafka", "java") if isinstance(broker, Mapping) and name in broker}
