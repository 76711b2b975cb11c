from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from harness.errors import KsqlError
from harness.measure.collect import Expected, LatencyTable, collect, expected_of
from harness.measure.events import EventsTable
from harness.measure.facts import read_facts
from tests.simulated_line import Faults, SimulatedOrder, simulate

ORDER_COLUMNS = ["ORDERID", "ORDERSIZE", "STARTTIMESTAMP", "ENDTIMESTAMP", "LATENCYMS"]
PIZZA_COLUMNS = ["PIZZAID", "ORDERID", "STARTTIMESTAMP", "ENDTIMESTAMP", "LATENCYMS"]


@dataclass
class Pulled:
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class FakeTables:
    """Tables that catch up with time: each is a list of (visible from, row)."""

    def __init__(self, **rows: list[tuple[float, list[Any]]]) -> None:
        self.rows = rows
        self.now = 0.0
        self.pulls = 0
        self.refuse_until = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.001)

    def pull(self, query: str) -> Pulled:
        self.pulls += 1
        if self.now < self.refuse_until:
            raise KsqlError("not yet")
        visible = [row for since, row in self.rows[query] if since <= self.now]
        random.Random(self.pulls).shuffle(visible)
        return Pulled(ORDER_COLUMNS if query == "order_latency" else PIZZA_COLUMNS, visible)


def ids(*values: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


EXPECTED = {"order_latency": Expected(ids(1, 2), ids(1)), "pizza_latency": Expected(ids(1, 2, 3), ids(1, 2))}


def tables(late: float) -> FakeTables:
    return FakeTables(
        order_latency=[(0, [2, 1, 50, None, None]), (0, [1, 2, 10, 40, 30])],
        pizza_latency=[
            (0, [3, 2, 50, None, None]),
            (0, [2, 1, 10, 40, 30]) if late == 0 else (late, [2, 1, 10, 40, 30]),
            (0, [1, 1, 10, 30, 20]),
        ],
    )


def test_complete_tables_are_read_once_and_sorted_by_start_then_id() -> None:
    source = tables(late=0)

    collected = collect(source, EXPECTED, 5, clock=source.clock, sleep=source.sleep)

    assert collected.complete
    assert source.pulls == 2
    assert collected.order_latency.columns == tuple(ORDER_COLUMNS)
    assert collected.order_latency.column("ORDERID") == [1, 2]
    assert collected.pizza_latency.column("PIZZAID") == [1, 2, 3]
    assert collected.pizza_latency.rows[2] == (3, 2, 50, None, None)


def test_a_table_is_read_again_until_a_late_row_is_there() -> None:
    source = tables(late=2.0)

    collected = collect(source, EXPECTED, 5, clock=source.clock, sleep=source.sleep)

    assert collected.complete
    assert 2.0 <= source.now < 2.5


def test_a_done_pizza_without_an_end_is_waited_for() -> None:
    source = tables(late=0)
    source.rows["pizza_latency"][1] = (0, [2, 1, 10, None, None])

    collected = collect(source, EXPECTED, 1, clock=source.clock, sleep=source.sleep)

    assert not collected.complete
    assert collected.lacking == ("pizza_latency lacks 0 of 3 rows and 1 ends",)


def test_at_the_timeout_the_tables_are_taken_as_they_are_and_marked() -> None:
    source = tables(late=60.0)

    collected = collect(source, EXPECTED, 3, clock=source.clock, sleep=source.sleep)

    assert not collected.complete
    assert collected.lacking == ("pizza_latency lacks 1 of 3 rows and 1 ends",)
    assert collected.pizza_latency.column("PIZZAID") == [1, 3]
    assert source.now == pytest.approx(3.0, abs=0.1)


def test_a_server_that_refuses_for_a_while_is_asked_again() -> None:
    source = tables(late=0)
    source.refuse_until = 1.0

    assert collect(source, EXPECTED, 5, clock=source.clock, sleep=source.sleep).complete


def test_a_server_that_only_refuses_is_an_error() -> None:
    source = tables(late=0)
    source.refuse_until = 100.0

    with pytest.raises(KsqlError, match="not yet"):
        collect(source, EXPECTED, 2, clock=source.clock, sleep=source.sleep)


def test_a_row_too_many_does_not_stand_in_for_one_that_is_missing() -> None:
    source = tables(late=60.0)
    source.rows["pizza_latency"].append((0, [99, 9, 5, 6, 1]))

    assert not collect(source, EXPECTED, 1, clock=source.clock, sleep=source.sleep).complete


def test_what_is_expected_comes_from_the_topics() -> None:
    orders = [SimulatedOrder(2), SimulatedOrder(1)]
    line = simulate(orders, faults=Faults(lost={2: "oven-machine", 3: "order-stack"}, duplicated={"pizza-done": [1]}))

    expected = expected_of(read_facts(EventsTable(line.events)))

    assert expected["order_latency"].started.tolist() == [1]
    assert expected["order_latency"].done.tolist() == []
    assert expected["pizza_latency"].started.tolist() == [1, 2]
    assert expected["pizza_latency"].done.tolist() == [1]


def test_an_unknown_column_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(KsqlError, match="no column LATENCY; there are A, B"):
        LatencyTable(("A", "B"), ()).column("LATENCY")


def test_ids_that_no_order_holds_are_not_expected() -> None:
    line = simulate([SimulatedOrder(1)], faults=Faults(unknown_done=[77]))

    expected = expected_of(read_facts(EventsTable(line.events)))

    assert expected["pizza_latency"].done.tolist() == [1]
