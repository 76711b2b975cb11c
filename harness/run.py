"""One run: from a reset stack to an archived folder.

Whatever happens on the way (orders that never finish, a service that dies for good, Ctrl-C), what there is by then is
recorded and archived, the stack is stopped, and the outcome says what went wrong.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from harness.archive import RunRecord, RunWriter, Verdict
from harness.environment import NoiseSampler, describe_environment
from harness.errors import DrainTimeout, HarnessError, KsqlError, LoadError, ThresholdsFailed
from harness.ksqldb import KsqlClient
from harness.line import ROOT
from harness.load.driver import OrderPhase, SentOrder, drive, send_lag
from harness.load.schedule import PlannedOrder, schedule, warmup_schedule
from harness.measure.collect import Collected, collect, expected_of
from harness.measure.drain import Drain, DrainProgress
from harness.measure.events import EventsFile
from harness.measure.facts import Facts, read_facts
from harness.measure.ledger import Ledger, build_ledger
from harness.measure.record import read_topics
from harness.measure.stages import negative_parts, parts, read_stages
from harness.measure.summary import Summary, summarise
from harness.menu import load_menu
from harness.scenario import Scenario
from harness.stacks import STACKS, Ports, Stack
from harness.stacks.leftovers import remove_leftovers
from harness.stacks.lock import run_lock
from harness.stacks.signals import signals_as_exceptions, signals_deferred

KSQL_DIR = ROOT / "ksql"
RESULTS_DIR = ROOT / "results"

KSQLDB_TIMEOUT_S = 30.0
COLLECT_TIMEOUT_S = 30.0
"""A ksqlDB server with its default settings needs about 2 s per stage of a table."""


WORK_DIR_PREFIX = "pizza-line-"
"""Of the temporary folders with the broker's data. A harness that is killed leaves its one behind for the next run."""


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

    Raises LockHeld, MissingTool or StackError (a taken port, an unusable lock file) if nothing was begun, and
    ArchiveError if the archive cannot be written. Everything else is in the outcome, Ctrl-C included.
    """
    with ExitStack() as stay:
        stay.enter_context(signals_as_exceptions())
        stay.enter_context(run_lock(scenario.name))
        remove_leftovers(WORK_DIR_PREFIX, Path(tempfile.gettempdir()))
        work_dir = stay.enter_context(tempfile.TemporaryDirectory(prefix=WORK_DIR_PREFIX))
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

    def whole(self) -> RunOutcome:
        failure: BaseException | None = None
        with NoiseSampler() as noise:
            try:
                self._measure()
            except (HarnessError, KeyboardInterrupt) as error:
                failure = error
                self._mark_failure(error)
        summary, ledger, recording_failure = self._record(ended=not isinstance(failure, KeyboardInterrupt))
        failure = failure or recording_failure or self._not_accepted()
        verdicts = self._verdicts(summary)
        failure = failure or _thresholds_failed(verdicts)
        try:
            with signals_deferred():
                record = self._finish(verdicts, noise)
        except KeyboardInterrupt as error:  # it came while the run was being archived, and waited
            failure = failure or error
        return RunOutcome(self._writer.path, record, summary, ledger, failure)

    def _finish(self, verdicts: list[Verdict], noise: NoiseSampler) -> RunRecord:
        """Stop the stack and make the archive a sound one."""
        with self._phase("stop", "Stopping the stack"):
            self._stack.down()
        facts: dict[str, Any] = dict(self._stack.facts())
        if any(facts.get("restarts", {}).values()):
            self._marks.append("services_restarted")
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
        return record

    def _mark_failure(self, error: BaseException) -> None:
        self._marks.append("interrupted" if isinstance(error, KeyboardInterrupt) else "incomplete")

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
        if not result.complete:
            unfinished = [*result.open_orders, *result.unseen_orders]
            raise DrainTimeout(
                f"{len(unfinished)} {what} were not done {self._scenario.drain.timeout_s:g} s after the last was sent",
                hint="The findings below name them and where each pizza was last seen; drain.timeout_s sets the wait.",
            )

    def _record(self, *, ended: bool) -> tuple[Summary | None, Ledger | None, BaseException | None]:
        """Read back and archive what the topics and tables hold by now."""
        try:
            self._writer.write_load(self._sent, [column.name for column in fields(SentOrder)])
            if not self._reached_topics:
                return None, None, None
            with self._phase("record", "Recording the topics"):
                self._writer.write_events(read_topics(self._stack.endpoints.bootstrap_servers))
            events = EventsFile(self._writer.events_path)
            facts = read_facts(events)
            ledger = build_ledger(facts, ended=ended)
            tables, failure = self._collect(facts)
            with self._phase("analyse", "Working out the figures"):
                stages = read_stages(events, facts)
                self._writer.write_stages(stages)
                summary = summarise(
                    facts,
                    ledger,
                    tables,
                    self._sent,
                    self._scenario.line,
                    load_menu(),
                    planned=len(schedule(self._scenario.load)),
                )
                summary.details |= {f"negative_{name}": n for name, n in negative_parts(parts(stages)).items()}
            self._writer.write_summary(summary, ledger)
        except (HarnessError, KeyboardInterrupt) as error:
            self._mark_failure(error)
            return None, None, error
        return summary, ledger, failure

    def _collect(self, facts: Facts) -> tuple[Collected | None, BaseException | None]:
        """The latency tables, archived. A table that lacks something is a failure and archived all the same."""
        try:
            with self._phase("collect", "Reading the latency tables"), self._ksqldb() as ksqldb:
                tables = collect(ksqldb, expected_of(facts), COLLECT_TIMEOUT_S)
        except (KsqlError, KeyboardInterrupt) as error:
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

    def _not_accepted(self) -> LoadError | None:
        """Orders that the line never took: the load was not the one that the scenario describes."""
        refused = [order for order in self._sent if order.outcome != "accepted"]
        if not refused:
            return None
        self._marks.append("orders_not_accepted")
        first = refused[0]
        return LoadError(
            f"{len(refused)} of {len(self._sent)} orders were not accepted; "
            f"the first: {first.status or 'no answer'} {first.error}",
            hint="load.csv tells what became of each. The figures are of a smaller load than the scenario describes.",
        )

    def _verdicts(self, summary: Summary | None) -> list[Verdict]:
        values: Mapping[str, float | None] = summary.values if summary is not None else {}
        return [
            Verdict(name=name, threshold=str(limit), value=values.get(name), holds=limit.holds(values.get(name)))
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


def _thresholds_failed(verdicts: list[Verdict]) -> ThresholdsFailed | None:
    failed = [f"{one.name} is {one.value}, not {one.threshold}" for one in verdicts if not one.holds]
    if not failed:
        return None
    return ThresholdsFailed(f"{len(failed)} of {len(verdicts)} thresholds do not hold: {'; '.join(failed)}")


def _versions(facts: Mapping[str, Any]) -> dict[str, str]:
    broker = facts.get("broker")
    return {name: str(broker[name]) for name in ("kafka", "java") if isinstance(broker, Mapping) and name in broker}
