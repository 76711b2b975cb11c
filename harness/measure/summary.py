"""A run's figures under the names that thresholds use.

Latencies, throughput, makespan and efficiency are of the load alone; warm-up orders are left out. Whatever counts
faults (lost, duplicated, dead-lettered, failed, unfinished) counts them in the warm-up too: a pizza lost there is
lost by the same line. A figure that the run does not carry is None, and a note says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.analysis.line_model import (
    Pizzas,
    line_efficiency,
    makespan_us,
    nominal_work_us,
    releases_us,
    unlimited_makespan_us,
)
from harness.analysis.statistics import maximum_or_none, percentile_or_none
from harness.line import MACHINE_TOPICS
from harness.measure.collect import Collected, LatencyTable
from harness.measure.events import MISSING, Ints, distinct
from harness.measure.facts import Facts
from harness.measure.ledger import Ledger, count
from harness.menu import Recipe
from harness.scenario.model import SUMMARY_NAMES, LineSettings

SATURATED = 0.9
"""Makespan if all orders had come at once, over the one with their real arrivals, both on the model line: below this
the arrivals set the pace."""


class LoadRow(Protocol):
    """What the driver tells of one order. Times are epoch microseconds."""

    @property
    def phase(self) -> str:
        """``warmup`` or ``load``."""
        ...

    @property
    def intended_us(self) -> int: ...

    @property
    def sent_us(self) -> int | None:
        """None if it was never sent."""
        ...

    @property
    def outcome(self) -> str:
        """``accepted``, ``rejected`` (there is no such order) or ``unknown`` (there may be)."""
        ...

    @property
    def order_id(self) -> int | None:
        """As the order API acknowledged it; None without such an answer."""
        ...


@dataclass(frozen=True)
class Sample:
    """``n`` values stand behind a figure; ``censored`` more belong to it and have no value (yet)."""

    n: int
    censored: int = 0


@dataclass
class Summary:
    """``values`` has every one of SUMMARY_NAMES, in its order; ``samples`` the ones that are made of a sample.

    ``details`` are further figures in the unit of their names, ``notes`` what a reader must know of all this.
    """

    values: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(SUMMARY_NAMES))
    samples: dict[str, Sample] = field(default_factory=dict)
    details: dict[str, float | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise(
    facts: Facts,
    ledger: Ledger,
    tables: Collected | None,
    sent: Sequence[LoadRow],
    line: LineSettings,
    menu: Sequence[Recipe],
    *,
    planned: int,
) -> Summary:
    """The summary of a run. ``tables`` is None if they could not be read: their latencies are not measured then.

    ``planned`` is how many orders the load has by its schedule; those that were never sent or not accepted count
    as orders without an end.
    """
    summary = Summary()
    _outcomes(summary, sent, planned)
    load = _load_orders(facts, sent)
    if tables is None:
        summary.notes.append("the latency tables could not be read")
    else:
        summary.notes += [f"incomplete: {text}" for text in tables.lacking]
        _latency(summary, "order_latency", *_order_latencies(facts, tables.order_latency, load))
        _latency(summary, "pizza_latency", *_pizza_latencies(facts, tables.pizza_latency, load))
    _customer_latency(summary, facts, sent, load, planned)
    _line_figures(summary, facts, load, line, menu)
    _send_lag(summary, sent)
    summary.values |= {
        "unfinished_orders": len(ledger.unfinished_orders),
        "failed_orders": len(ledger.failed_orders),
        "lost_pizzas": ledger.lost_pizzas,
        "duplicate_pizzas": count(ledger.duplicate_pizzas),
        "dead_letters": len(ledger.dead_letters),
    }
    doubled = [topic for topic in ("pizza-done", "order-done") if topic in ledger.duplicates]
    if doubled:
        summary.notes.append(f"ends may be too late: the tables take the latest of several records on {doubled}")
    return summary


def _outcomes(summary: Summary, sent: Sequence[LoadRow], planned: int) -> None:
    """What became of the load's orders at the order API."""
    outcomes = [row.outcome for row in sent if row.phase == "load"]
    counts = {outcome: outcomes.count(outcome) for outcome in ("accepted", "rejected", "unknown")}
    summary.details |= {"orders_planned": planned, "orders_sent": len(outcomes)}
    summary.details |= {f"orders_{outcome}": count for outcome, count in counts.items()}
    for n, what in (
        (planned - len(outcomes), "were never sent"),
        (counts["rejected"], "were rejected by the order API: they do not exist"),
        (counts["unknown"], "got no answer that tells: they may exist or not"),
    ):
        if n:
            summary.notes.append(f"{n} of {planned} orders {what}")


def _load_orders(facts: Facts, sent: Sequence[LoadRow]) -> NDArray[np.bool_]:
    """Which rows of the order book belong to the load.

    Every warm-up order is done before the load begins, so what was accepted up to the last acknowledged one is
    warm-up, also where the answer got lost.
    """
    last_warmup = max((row.order_id for row in sent if row.phase == "warmup" and row.order_id), default=0)
    load: NDArray[np.bool_] = facts.orders.order_ids > last_warmup
    return load


def _latency(summary: Summary, name: str, values_ms: NDArray[Any], expected: int) -> None:
    sample = Sample(len(values_ms), max(0, expected - len(values_ms)))
    for figure, q in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
        summary.values[f"{name}_{figure}_ms"] = percentile_or_none(values_ms, q, censored=sample.censored)
    summary.values[f"{name}_max_ms"] = maximum_or_none(values_ms)
    for figure in ("p50", "p95", "p99", "max"):
        summary.samples[f"{name}_{figure}_ms"] = sample


def _order_latencies(facts: Facts, table: LatencyTable, load: NDArray[np.bool_]) -> tuple[NDArray[Any], int]:
    mine = np.isin(np.array(table.column("ORDERID"), dtype=np.int64), facts.orders.order_ids[load])
    return _values(table, mine), int(load.sum())


def _pizza_latencies(facts: Facts, table: LatencyTable, load: NDArray[np.bool_]) -> tuple[NDArray[Any], int]:
    orders = facts.orders.orders_of(np.array(table.column("PIZZAID"), dtype=np.int64))
    mine = np.isin(orders, facts.orders.order_ids[load])
    return _values(table, mine), int(facts.orders.sizes[load].sum())


def _values(table: LatencyTable, mine: NDArray[np.bool_]) -> NDArray[Any]:
    latencies = table.column("LATENCYMS")
    return np.array([latencies[row] for row in np.flatnonzero(mine) if latencies[row] is not None], dtype=np.float64)


def _first_us(facts: Facts, topic: str) -> dict[int, int]:
    """When each id was first written to a topic; without those whose record does not tell."""
    seen = facts.sightings[topic]
    pairs = zip(reversed(seen.ids.tolist()), reversed(seen.at_us.tolist()), strict=True)
    return {one: us for one, us in pairs if us != MISSING}


def _customer_latency(
    summary: Summary, facts: Facts, sent: Sequence[LoadRow], load: NDArray[np.bool_], planned: int
) -> None:
    accepted = set(facts.orders.order_ids[load].tolist())
    intended = {row.order_id: row.intended_us for row in sent if row.phase == "load" and row.order_id in accepted}
    done = _first_us(facts, "order-done")
    values = [(done[order] - due) / 1000 for order, due in intended.items() if order in done]
    _latency(summary, "customer_latency", np.array(values, dtype=np.float64), max(planned, len(accepted)))
    unknown = len(accepted) - len(intended)
    if unknown:
        summary.notes.append(f"{unknown} orders were accepted although their answer got lost: no customer latency")


def _line_figures(
    summary: Summary, facts: Facts, load: NDArray[np.bool_], line: LineSettings, menu: Sequence[Recipe]
) -> None:
    """Throughput, makespan and efficiency, all from the first order's ``order-processing`` on."""
    orders = facts.orders
    order_ids = orders.order_ids[load].tolist()
    started, done = _first_us(facts, "order-processing"), _first_us(facts, "order-done")
    begun = [started[order] for order in order_ids if order in started]
    if not begun:
        summary.notes.append("no order of the load was started")
        return
    since = min(begun)
    packed = _packed_us(facts, load)
    summary.samples["throughput_pizzas_per_s"] = Sample(len(packed), int(orders.sizes[load].sum()) - len(packed))
    if len(packed) and packed.max() > since:
        summary.values["throughput_pizzas_per_s"] = len(packed) / (int(packed.max()) - since) * 1e6

    ended = [done[order] for order in order_ids if order in done]
    sample = Sample(len(ended), len(order_ids) - len(ended))
    summary.samples |= {"makespan_s": sample, "line_efficiency": sample}
    if sample.censored:
        summary.notes.append(f"{sample.censored} orders of the load did not end: no makespan, no line efficiency")
        return
    measured_us = max(ended) - since
    summary.values["makespan_s"] = measured_us / 1e6
    pizzas = _as_dispatched(facts, load, since, line, menu)
    if pizzas is None:
        summary.notes.append("a recipe is not on the menu or a pizza was never dispatched: no line efficiency")
        return
    capacities = {topic: line.capacity_of(topic) for topic in MACHINE_TOPICS}
    model_us = makespan_us(pizzas, capacities)
    if model_us == 0:
        summary.notes.append("the machines do no work: no line efficiency")
        return
    summary.values["line_efficiency"] = line_efficiency(model_us, measured_us)
    at_once = replace(pizzas, release_us=np.zeros_like(pizzas.release_us))
    saturation = makespan_us(at_once, capacities) / model_us
    summary.details["saturation"] = saturation
    if saturation < SATURATED:
        summary.notes.append(
            f"the line waited for orders part of the time (saturation {saturation:.2f}): "
            "its efficiency says little about the line"
        )
    summary.details["model_makespan_s"] = model_us / 1e6
    summary.details["unlimited_makespan_s"] = unlimited_makespan_us(pizzas) / 1e6


def _packed_us(facts: Facts, load: NDArray[np.bool_]) -> Ints:
    """When each distinct pizza of the load was done first."""
    seen = facts.sightings["pizza-done"]
    ids, first = distinct(seen.ids)
    mine = np.isin(facts.orders.orders_of(ids), facts.orders.order_ids[load])
    times: Ints = seen.at_us[first[mine]]
    known: Ints = times[times != MISSING]
    return known


def _as_dispatched(
    facts: Facts, load: NDArray[np.bool_], since_us: int, line: LineSettings, menu: Sequence[Recipe]
) -> Pizzas | None:
    """The load's pizzas as the line model takes them, in the order in which they came to the first machine."""
    orders = facts.orders
    sighted = facts.sightings[MACHINE_TOPICS[0]].ids
    ids, first = distinct(sighted)
    ids = ids[np.argsort(first)]  # by first sighting
    ids = ids[np.isin(orders.orders_of(ids), orders.order_ids[load])]
    if len(ids) < orders.sizes[load].sum():
        return None
    try:
        recipes = orders.recipe_numbers([recipe.name for recipe in menu])[ids - 1]
    except KeyError:
        return None
    return Pizzas(
        release_us=releases_us(orders.accepted_us[orders.rows_of(ids)], since_us),
        frozen=np.array([recipe.frozen for recipe in menu], dtype=np.bool_)[recipes],
        work_us=nominal_work_us(line, menu)[recipes],
    )


def _send_lag(summary: Summary, sent: Sequence[LoadRow]) -> None:
    load = [row for row in sent if row.phase == "load"]
    lags_ms = [(row.sent_us - row.intended_us) / 1000 for row in load if row.sent_us is not None]
    summary.values["send_lag_p99_ms"] = percentile_or_none(lags_ms, 0.99)
    summary.details["send_lag_max_ms"] = maximum_or_none(lags_ms)
    summary.samples["send_lag_p99_ms"] = Sample(len(lags_ms), len(load) - len(lags_ms))
