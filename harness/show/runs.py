"""Scenarios, runs and listings as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.archive import ArchivedRun, RunInfo, RunRecord, Verdict
from harness.load.schedule import schedule, warmup_schedule
from harness.run import RunOutcome
from harness.scenario import Scenario

LATENCIES = (
    ("customer latency", "customer_latency"),
    ("order latency", "order_latency"),
    ("pizza latency", "pizza_latency"),
)
COUNTS = ("unfinished_orders", "failed_orders", "lost_pizzas", "duplicate_pizzas", "dead_letters")
FINDINGS_SHOWN = 20

MARKS = {
    "driver_late": "the p99 of the send lag (below 100 orders: its maximum) exceeds driver.max_send_lag_p99_ms: "
    "the load was not what the scenario says",
    "incomplete": "the run broke off or orders did not finish",
    "interrupted": "the run was interrupted",
    "orders_not_accepted": "the order API did not take every order: the load was smaller than the scenario says",
    "services_restarted": "a service died and was restarted during the run",
    "tables_incomplete": "the latency tables lack rows that the topics have",
}
"""What a run's marks mean to its reader."""


def scenario_summary(scenario: Scenario) -> RenderableType:
    """What will be sent to which line, in two or three lines."""
    planned = schedule(scenario.load)
    pizzas = sum(order.size for order in planned)
    warmup = warmup_schedule(scenario.warmup)
    lines = [
        Text.assemble((scenario.name, "bold"), f": {scenario.description}" if scenario.description else ""),
        Text(
            f"{len(planned)} orders, {pizzas} pizzas over {planned[-1].due_us / 1e6:g} s"
            + (f", after {len(warmup)} warm-up orders" if warmup else "")
            + f"; work times x {scenario.line.time_scale:g}, capacity {scenario.line.capacity}",
            style="dim",
        ),
    ]
    return Group(*lines)


def outcome_summary(outcome: RunOutcome) -> RenderableType:
    """The summary of a run that has just ended, and where it lies."""
    parts: list[RenderableType] = []
    if outcome.summary is not None and outcome.ledger is not None:
        ledger = outcome.ledger
        parts.append(_summary(outcome.summary.to_json(), ledger.to_json(), outcome.record, ledger.findings()))
    else:
        parts.append(Text("nothing was measured"))
        parts.append(_marks(outcome.record))
    parts.append(Text(f"archived in {outcome.path}"))
    return Group(*parts)


def archived_run(run: ArchivedRun) -> RenderableType:
    """The same for a run read back from its archive."""
    record = run.record
    head = Text.assemble(
        (f"{record.scenario.get('name', '?')} {record.run_id}", "bold"),
        f"  {record.started_at:%Y-%m-%d %H:%M:%S} UTC  {record.environment.get('stack', {}).get('name', '?')} stack",
    )
    if run.summary is None or run.ledger is None:
        return Group(head, Text("nothing was measured"), _marks(record), Text(str(run.path)))
    return Group(head, _summary(run.summary, run.ledger, record, run.ledger.get("findings", [])), Text(str(run.path)))


def runs_table(runs: Sequence[RunInfo], results_dir: Path) -> RenderableType:
    """One row per run, the youngest last."""
    if not runs:
        return Text(f"no runs under {results_dir}; `harness run FILE` makes one")
    table = Table("scenario", "run", "started (UTC)", "stack", "thresholds", "marks", box=None, pad_edge=False)
    for run in runs:
        if run.record is None:
            table.add_row(run.scenario, run.run_id, "", "", "", Text(run.damage, style="red"))
            continue
        record = run.record
        held = sum(verdict.holds for verdict in record.verdicts)
        table.add_row(
            run.scenario,
            run.run_id,
            f"{record.started_at:%Y-%m-%d %H:%M:%S}",
            str(record.environment.get("stack", {}).get("name", "?")),
            f"{held} of {len(record.verdicts)} hold" if record.verdicts else "none",
            Text(", ".join(record.marks)),
        )
    return table


def _summary(
    summary: Mapping[str, Any], ledger: Mapping[str, Any], record: RunRecord, findings: Sequence[str]
) -> RenderableType:
    values: Mapping[str, float | None] = summary["values"]
    samples: Mapping[str, Mapping[str, int]] = summary["samples"]
    parts: list[RenderableType] = [_latencies(values, samples), _line_figures(values, summary, ledger)]
    parts += [Text(f"note: {note}", style="dim") for note in summary["notes"]]
    parts += [Text(f"finding: {finding}", style="red") for finding in findings[:FINDINGS_SHOWN]]
    if len(findings) > FINDINGS_SHOWN:
        parts.append(Text(f"and {len(findings) - FINDINGS_SHOWN} more findings in summary.json", style="red"))
    parts.append(_marks(record))
    if record.verdicts:
        parts.append(_verdicts(record.verdicts))
    return Group(*parts)


def _latencies(values: Mapping[str, float | None], samples: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table("latency of the load", box=None, pad_edge=False, title_justify="left")
    for column in ("n", "without end", "p50 ms", "p95 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="right")
    for title, name in LATENCIES:
        sample = samples.get(f"{name}_max_ms", {})
        table.add_row(
            title,
            str(sample.get("n", "-")),
            str(sample.get("censored", "-")),
            *(_number(values.get(f"{name}_{figure}_ms"), 0) for figure in ("p50", "p95", "p99", "max")),
        )
    return table


def _line_figures(values: Mapping[str, float | None], summary: Mapping[str, Any], ledger: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    details = summary["details"]
    table.add_row(
        "load",
        ", ".join(
            f"{details.get(f'orders_{what}', 0):.0f} {what}"
            for what in ("planned", "sent", "accepted", "rejected", "unknown")
        ),
    )
    table.add_row(
        "orders",
        f"{ledger['orders_accepted']} accepted, {ledger['orders_started']} started, {ledger['orders_done']} done"
        " (with the warm-up)",
    )
    table.add_row(
        "pizzas",
        f"{ledger['pizzas_accepted']} accepted, {ledger['pizzas_dispatched']} dispatched, {ledger['pizzas_done']} done",
    )
    table.add_row("", ", ".join(f"{values[name] or 0:.0f} {name.replace('_', ' ')}" for name in COUNTS))
    table.add_row(
        "line",
        f"efficiency {_number(values.get('line_efficiency'), 3)}: makespan {_number(values.get('makespan_s'), 2)} s, "
        f"without transport {_number(details.get('model_makespan_s'), 2)} s, "
        f"with unlimited buffers too {_number(details.get('unlimited_makespan_s'), 2)} s",
    )
    table.add_row("throughput", f"{_number(values.get('throughput_pizzas_per_s'), 2)} pizzas/s")
    lag = values.get("send_lag_p99_ms")
    table.add_row(
        "send lag",
        f"p99 {_number(lag, 1)} ms, max {_number(details.get('send_lag_max_ms'), 1)} ms (open loop)",
    )
    return table


def _verdicts(verdicts: Sequence[Verdict]) -> Table:
    table = Table("threshold", "limit", "value", "", box=None, pad_edge=False)
    for verdict in verdicts:
        holds = Text("holds", style="green") if verdict.holds else Text("does not hold", style="bold red")
        table.add_row(Text(verdict.name), Text(verdict.threshold), _number(verdict.value, 3), holds)
    return table


def _marks(record: RunRecord) -> RenderableType:
    return Group(*(Text(f"{mark}: {MARKS.get(mark, '')}", style="yellow") for mark in record.marks))


def _number(value: float | None, digits: int) -> str:
    return (
        "-"
        if value is None
        else f"{value:,.{digits}f}".rstrip("0").rstrip(".")
        if digits == 3
        else f"{value:,.{digits}f}"
    )
