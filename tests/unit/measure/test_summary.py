from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from harness.measure.collect import Collected, LatencyTable
from harness.measure.events import EventsTable
from harness.measure.facts import Facts, read_facts
from harness.measure.ledger import build_ledger
from harness.measure.summary import Sample, Summary, summarise
from harness.scenario.model import SUMMARY_NAMES, LineSettings
from tests.simulated_line import MENU, START_US, Faults, SimulatedLine, SimulatedOrder, simulate

FAST = LineSettings(time_scale=0.01)


@dataclass(frozen=True)
class Sent:
    phase: str
    intended_us: int
    sent_us: int | None
    order_id: int | None
    outcome: str = "accepted"


def tables_of(line: SimulatedLine, facts: Facts) -> Collected:
    """The latency tables as the ksql statements define them."""

    def end(table: dict[int, int], one: int) -> int | None:
        return table[one] // 1000 if one in table else None

    def rows(start: str, done: str, extra: dict[int, int]) -> tuple[tuple[Any, ...], ...]:
        starts, ends = (dict(zip(s.ids.tolist(), s.at_us.tolist(), strict=True)) for s in sightings(start, done))
        out = []
        for one, start_us in sorted(starts.items()):
            end_ms = end(ends, one)
            out.append(
                (one, extra[one], start_us // 1000, end_ms, None if end_ms is None else end_ms - start_us // 1000)
            )
        return tuple(out)

    def sightings(*topics: str) -> list[Any]:
        return [facts.sightings[topic] for topic in topics]

    sizes = dict(zip(line.orders.order_ids.tolist(), line.orders.sizes.tolist(), strict=True))
    owners = {pizza: order for order, first, size in zip(
        line.orders.order_ids.tolist(), line.orders.first_pizzas.tolist(), line.orders.sizes.tolist(), strict=True
    ) for pizza in range(first, first + size)}  # fmt: skip
    tail = ("STARTTIMESTAMP", "ENDTIMESTAMP", "LATENCYMS")
    orders = LatencyTable(("ORDERID", "ORDERSIZE", *tail), rows("order-processing", "order-done", sizes))
    pizzas = LatencyTable(("PIZZAID", "ORDERID", *tail), rows("dough-machine", "pizza-done", owners))
    return Collected(orders, pizzas, True, ())


def summary_of(
    orders: Sequence[SimulatedOrder],
    sent: Sequence[Sent],
    *,
    line: LineSettings = FAST,
    transport_us: int = 0,
    faults: Faults | None = None,
    with_tables: bool = True,
    planned: int | None = None,
) -> tuple[Summary, SimulatedLine]:
    simulated = simulate(orders, line=line, transport_us=transport_us, faults=faults)
    facts = read_facts(EventsTable(simulated.events))
    tables = tables_of(simulated, facts) if with_tables else None
    if planned is None:
        planned = sum(order.phase == "load" for order in sent)
    return summarise(facts, build_ledger(facts), tables, sent, line, MENU, planned=planned), simulated


def sent_on_time(n: int, *, warmup: int = 0, every_us: int = 0) -> list[Sent]:
    return [
        Sent("warmup" if i < warmup else "load", START_US + i * every_us, START_US + i * every_us + 250, i + 1)
        for i in range(n)
    ]


def test_every_name_that_a_threshold_may_use_has_a_value_or_none() -> None:
    summary, _ = summary_of([SimulatedOrder(3)], sent_on_time(1))

    assert list(summary.values) == list(SUMMARY_NAMES)
    assert summary.notes == []
    assert {name for name, value in summary.values.items() if value is None} == {
        f"{latency}_{figure}_ms"
        for latency, figures in (
            ("order_latency", ("p50", "p95", "p99")),
            ("customer_latency", ("p50", "p95", "p99")),
            ("pizza_latency", ("p95", "p99")),
        )
        for figure in figures
    } | {"send_lag_p99_ms"}


@pytest.mark.parametrize("every_us", [0, 40_000, 400_000])
@pytest.mark.parametrize("capacity", [1, 3])
def test_a_line_without_overhead_has_efficiency_one_also_with_idle_time_and_after_a_warmup(
    capacity: int, every_us: int
) -> None:
    line = LineSettings(time_scale=0.01, capacity=capacity)
    warmup = [SimulatedOrder(2), SimulatedOrder(1)]
    load = [SimulatedOrder(1 + i % 4, accepted_us=3_000_000 + i * every_us) for i in range(8)]

    summary, simulated = summary_of([*warmup, *load], sent_on_time(10, warmup=2), line=line)

    assert summary.values["line_efficiency"] == 1.0
    assert summary.values["makespan_s"] == (simulated.handed_off_us.max() - START_US - 3_000_000) / 1e6


def test_transport_lowers_the_efficiency_by_what_it_costs() -> None:
    summary, simulated = summary_of([SimulatedOrder(20, ("margherita",))], sent_on_time(1), transport_us=1_000)

    makespan = simulated.handed_off_us.max() - START_US
    assert summary.values["line_efficiency"] == pytest.approx((72_500 + 19 * 10_000) / makespan)
    assert summary.details["model_makespan_s"] == pytest.approx(0.2625)
    assert makespan == 72_500 + 8 * 1_000 + 19 * 11_000


def test_customer_latency_counts_from_the_intended_time_and_leaves_the_warmup_out() -> None:
    orders = [SimulatedOrder(1), *[SimulatedOrder(1, accepted_us=1_000_000 + 50_000 * i) for i in range(2)]]
    sent = [
        Sent("warmup", START_US, START_US, 1),
        Sent("load", START_US + 900_000, START_US + 990_000, 2),
        Sent("load", START_US + 1_040_000, START_US + 1_041_000, 3),
    ]
    summary, simulated = summary_of(orders, sent)

    latencies = [(simulated.order_done_us[row.order_id or 0] - row.intended_us) / 1000 for row in sent[1:]]
    assert summary.values["customer_latency_max_ms"] == max(latencies)
    assert summary.values["customer_latency_p50_ms"] == pytest.approx(sum(latencies) / 2)
    assert summary.samples["customer_latency_max_ms"] == Sample(2)
    assert summary.samples["order_latency_p50_ms"] == Sample(2)
    assert summary.samples["pizza_latency_p50_ms"] == Sample(2)
    assert summary.details["send_lag_max_ms"] == 90.0


def test_percentiles_appear_with_the_sample_that_carries_them() -> None:
    orders = [SimulatedOrder(1, accepted_us=i * 200_000) for i in range(100)]
    summary, simulated = summary_of(orders, sent_on_time(100, every_us=200_000))

    assert None not in summary.values.values()
    assert summary.values["send_lag_p99_ms"] == 0.25
    start, end = min(simulated.order_started_us.values()), max(simulated.order_done_us.values())
    assert summary.values["throughput_pizzas_per_s"] == pytest.approx(100 / (end - start) * 1e6)


def test_an_unfinished_order_is_censored_and_takes_makespan_and_efficiency_with_it() -> None:
    orders = [SimulatedOrder(2), SimulatedOrder(2), SimulatedOrder(1)]
    summary, _ = summary_of(orders, sent_on_time(3), faults=Faults(lost={3: "oven-machine"}))

    assert summary.values["line_efficiency"] is None
    assert summary.values["makespan_s"] is None
    assert summary.values["unfinished_orders"] == 1
    assert summary.values["lost_pizzas"] == 1
    assert summary.samples["order_latency_max_ms"] == Sample(2, censored=1)
    assert summary.samples["customer_latency_max_ms"] == Sample(2, censored=1)
    assert summary.samples["pizza_latency_max_ms"] == Sample(4, censored=1)
    assert summary.values["throughput_pizzas_per_s"] is not None
    assert any("did not end" in note for note in summary.notes)


def test_an_order_whose_answer_got_lost_is_counted_and_noted() -> None:
    sent = [Sent("load", START_US, START_US, 1), Sent("load", START_US, START_US, None)]
    summary, _ = summary_of([SimulatedOrder(1), SimulatedOrder(1)], sent)

    assert summary.samples["order_latency_max_ms"] == Sample(2)
    assert summary.samples["customer_latency_max_ms"] == Sample(1, censored=1)
    assert any("1 orders were accepted although" in note for note in summary.notes)


def test_an_order_that_was_never_sent_is_censored_in_the_send_lag() -> None:
    sent = [*sent_on_time(1), Sent("load", START_US, None, None)]
    summary, _ = summary_of([SimulatedOrder(1)], sent)

    assert summary.samples["send_lag_p99_ms"] == Sample(1, censored=1)


def test_faults_count_in_the_warmup_too() -> None:
    faults = Faults(duplicated={"pizza-done": [1]}, garbage={"oven-machine": 2}, dead_lettered={2: "meat-machine"})
    summary, _ = summary_of([SimulatedOrder(2), SimulatedOrder(2)], sent_on_time(2, warmup=1), faults=faults)

    figures = {name: summary.values[name] for name in ("duplicate_pizzas", "dead_letters", "failed_orders")}
    assert figures == {"duplicate_pizzas": 1, "dead_letters": 3, "failed_orders": 1}
    assert any("ends may be too late" in note for note in summary.notes)
    assert summary.values["line_efficiency"] == 1.0  # the load itself was sound


def test_without_tables_what_they_tell_is_none_and_the_rest_is_there() -> None:
    summary, _ = summary_of([SimulatedOrder(2)], sent_on_time(1), with_tables=False)

    assert summary.values["order_latency_max_ms"] is None
    assert summary.values["customer_latency_max_ms"] is not None
    assert summary.notes == ["the latency tables could not be read"]


def test_a_load_that_never_started_has_no_figures_and_says_so() -> None:
    summary, _ = summary_of(
        [SimulatedOrder(2)], sent_on_time(1), faults=Faults(lost=dict.fromkeys((1, 2), "order-stack"))
    )

    assert summary.values["throughput_pizzas_per_s"] is None
    assert summary.values["lost_pizzas"] == 2
    assert "no order of the load was started" in summary.notes


def test_orders_that_were_not_accepted_or_never_sent_count_as_orders_without_an_end() -> None:
    sent = [
        *sent_on_time(2),
        Sent("load", START_US, START_US, None, "rejected"),
        Sent("load", START_US, START_US, None, "unknown"),
    ]

    summary, _ = summary_of([SimulatedOrder(1), SimulatedOrder(1)], sent, planned=5)

    assert (summary.samples["customer_latency_max_ms"].n, summary.samples["customer_latency_max_ms"].censored) == (2, 3)
    assert summary.details["orders_planned"] == 5
    assert (summary.details["orders_rejected"], summary.details["orders_unknown"]) == (1, 1)
    assert summary.values["customer_latency_p50_ms"] is None, "the third of five has no end"
    assert {note.split(" orders ")[1].split(" ")[0] for note in summary.notes if " of 5 orders " in note} == {
        "were",
        "got",
    }


def test_a_line_without_work_has_no_efficiency() -> None:
    summary, _ = summary_of([SimulatedOrder(3)], sent_on_time(1), line=LineSettings(time_scale=0.0), transport_us=500)

    assert summary.values["line_efficiency"] is None
    assert any("no work" in note for note in summary.notes)
