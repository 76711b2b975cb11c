"""The ledger finds every fault that is planted in the records of a line, and none that is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.line import MACHINE_TOPICS
from harness.measure.events import EVENTS_SCHEMA, EventsTable
from harness.measure.facts import DeadLetter, read_facts
from harness.measure.ledger import Ledger, as_ranges, build_ledger, count
from tests.routes import route
from tests.simulated_line import MENU, Faults, SimulatedOrder, simulate

ORDERS = [SimulatedOrder(3), SimulatedOrder(5), SimulatedOrder(2, ("salami",), accepted_us=9_000)]
FROZEN_PIZZA = 1 + next(i for i, recipe in enumerate(MENU) if recipe.frozen)


def ledger_of(orders: list[SimulatedOrder], faults: Faults, *, ended: bool = True) -> Ledger:
    return build_ledger(read_facts(EventsTable(simulate(orders, faults=faults).events)), ended=ended)


def test_a_clean_run_balances_without_findings() -> None:
    ledger = ledger_of(ORDERS, Faults())

    assert ledger.findings() == []
    assert (ledger.orders_accepted, ledger.orders_started, ledger.orders_done) == (3, 3, 3)
    assert (ledger.pizzas_accepted, ledger.pizzas_dispatched, ledger.pizzas_done) == (10, 10, 10)
    assert ledger.lost_pizzas == ledger.open_pizzas == ledger.pizzas_dead_lettered == 0


@pytest.mark.parametrize("topic", ["order-stack", *MACHINE_TOPICS])
def test_a_lost_pizza_is_named_with_the_topic_where_it_was_last_seen(topic: str) -> None:
    ledger = ledger_of(ORDERS, Faults(lost={FROZEN_PIZZA: topic}))

    assert ledger.lost == {topic: ((FROZEN_PIZZA, FROZEN_PIZZA),)}
    (order,) = ledger.unfinished_orders
    assert order.order_id == 2
    assert order.pizzas_done == 4
    assert order.missing == ledger.lost
    assert any(f"last seen on {topic}" in line for line in ledger.findings())


def test_pizzas_of_an_interrupted_run_are_open_instead_of_lost() -> None:
    ledger = ledger_of(ORDERS, Faults(lost={9: "oven-machine", 10: "order-stack"}), ended=False)

    assert ledger.lost == {}
    assert ledger.open == {"order-stack": ((10, 10),), "oven-machine": ((9, 9),)}
    assert [order.order_id for order in ledger.unfinished_orders] == [3]


@pytest.mark.parametrize("topic", MACHINE_TOPICS)
def test_a_dead_lettered_pizza_is_not_lost_and_fails_its_order(topic: str) -> None:
    ledger = ledger_of(ORDERS, Faults(dead_lettered={FROZEN_PIZZA: topic}))

    assert ledger.lost == {}
    assert ledger.pizzas_dead_lettered == 1
    assert ledger.pizzas_done == 9
    assert ledger.failed_orders == (2,)
    assert ledger.unfinished_orders == ()
    (letter,) = ledger.dead_letters
    assert (letter.topic, letter.pizza_id, letter.reason) == (topic, FROZEN_PIZZA, "not JSON")


def test_garbage_that_claims_nothing_is_a_dead_letter_and_changes_no_count() -> None:
    clean, ledger = ledger_of(ORDERS, Faults()), ledger_of(ORDERS, Faults(garbage={"oven-machine": 2}))

    assert [(letter.topic, letter.offset) for letter in ledger.dead_letters] == [
        ("oven-machine", 0),
        ("oven-machine", 1),
    ]
    assert replace(ledger, dead_letters=()) == clean


def test_a_dead_letter_elsewhere_that_claims_a_lost_pizza_does_not_hide_the_loss() -> None:
    line = simulate(ORDERS, faults=Faults(lost={4: "dough-machine"}))
    forged = dead_letter("oven-machine", 99, value=b'{"pizzaId":4}')

    ledger = build_ledger(read_facts(EventsTable(pa.concat_tables([line.events, forged]))))

    assert ledger.lost == {"dough-machine": ((4, 4),)}
    assert ledger.pizzas_dead_lettered == 0
    assert ledger.failed_orders == (2,)


def test_dead_letters_are_distinct_by_topic_and_offset() -> None:
    line = simulate(ORDERS)
    twice = [dead_letter("oven-machine", 99, value=None, at=at) for at in (0, 1)]

    ledger = build_ledger(read_facts(EventsTable(pa.concat_tables([line.events, *twice]))))

    assert ledger.dead_letters == (DeadLetter("oven-machine", 99, "why", "oven-machine", None),)


def test_a_broken_order_holds_no_pizzas_and_the_next_orders_ids_run_on() -> None:
    ledger = ledger_of(ORDERS, Faults(broken_orders=[1]))

    assert ledger.failed_orders == (2,)
    assert (ledger.orders_accepted, ledger.orders_broken, ledger.orders_done) == (2, 1, 2)
    assert ledger.pizzas_accepted == ledger.pizzas_done == 5


def test_duplicates_are_counted_by_topic_and_do_not_count_as_done() -> None:
    faults = Faults(
        duplicated={"pizza-done": [1, 2, 7], "oven-machine": [3], "order-done": [2], "order-processing": [1, 3]}
    )
    ledger = ledger_of(ORDERS, faults)

    assert ledger.duplicate_pizzas == ((1, 2), (7, 7))
    assert ledger.duplicates == {"order-processing": 2, "order-done": 1, "oven-machine": 1, "pizza-done": 3}
    assert (ledger.pizzas_done, ledger.orders_done, ledger.orders_started) == (10, 3, 3)


def test_a_pizza_that_no_order_holds_is_a_finding_and_not_done() -> None:
    ledger = ledger_of(ORDERS, Faults(unknown_done=[11, 4000]))

    assert ledger.unknown == {"pizza-done": 2}
    assert ledger.pizzas_done == 10
    assert ledger.findings() == ["2 ids on pizza-done belong to no order"]


def test_an_order_whose_pizzas_are_all_done_is_unfinished_until_it_is_on_order_done() -> None:
    ledger = ledger_of(ORDERS, Faults(unfinished=[3]))

    (order,) = ledger.unfinished_orders
    assert (order.order_id, order.pizzas_done, order.missing) == (3, 2, {})
    assert ledger.lost_pizzas == 0


def test_no_records_at_all_are_an_empty_ledger() -> None:
    ledger = build_ledger(read_facts(EventsTable(EVENTS_SCHEMA.empty_table())))

    assert ledger.findings() == []
    assert ledger.orders_accepted == ledger.pizzas_accepted == 0


@st.composite
def faulty_runs(draw: st.DrawFn) -> tuple[list[SimulatedOrder], Faults]:
    orders = [SimulatedOrder(size) for size in draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))]
    pizzas = sum(order.size for order in orders)
    recipes = [MENU[i % len(MENU)] for i in range(pizzas)]
    lost, dead = {}, {}
    for pizza, fate in enumerate(draw(st.lists(st.sampled_from("okld"), min_size=pizzas, max_size=pizzas)), 1):
        stops = route(recipes[pizza - 1].frozen)
        if fate == "l":
            lost[pizza] = draw(st.sampled_from(["order-stack", *stops]))
        elif fate == "d":
            dead[pizza] = draw(st.sampled_from(stops))
    twice = draw(st.lists(st.integers(1, pizzas), unique=True))
    return orders, Faults(lost=lost, dead_lettered=dead, duplicated={"pizza-done": twice})


@settings(max_examples=40, deadline=None)
@given(faulty_runs())
def test_every_pizza_and_every_order_is_accounted_for_exactly_once(run: tuple[list[SimulatedOrder], Faults]) -> None:
    orders, faults = run
    ledger = ledger_of(orders, faults)

    expected: dict[str, list[int]] = {}
    for pizza, topic in sorted(faults.lost.items()):
        expected.setdefault(topic, []).append(pizza)
    assert {topic: ids_in(ranges) for topic, ranges in ledger.lost.items()} == expected
    assert ledger.pizzas_dead_lettered == len(faults.dead_lettered)
    assert ledger.pizzas_done + ledger.pizzas_dead_lettered + ledger.lost_pizzas == ledger.pizzas_accepted
    assert ledger.orders_done + len(ledger.failed_orders) + len(ledger.unfinished_orders) == ledger.orders_accepted


@settings(deadline=None)
@given(st.sets(st.integers(1, 60)))
def test_ranges_hold_exactly_the_ids(ids: set[int]) -> None:
    ranges = as_ranges(np.array(sorted(ids), dtype=np.int64))

    assert ids_in(ranges) == sorted(ids)
    assert count(ranges) == len(ids)


def ids_in(ranges: tuple[tuple[int, int], ...]) -> list[int]:
    return [i for first, last in ranges for i in range(first, last + 1)]


def dead_letter(topic: str, offset: int, *, value: bytes | None, at: int = 0) -> pa.Table:
    headers = {"topic": topic, "offset": str(offset), "reason": "why", "machine": topic}
    row = {
        "topic": "dead-letter",
        "partition": 0,
        "offset": at,
        "timestamp": 0,
        "key": None,
        "value": value,
        "headers": [{"key": name, "value": text.encode()} for name, text in headers.items()],
    }
    return pa.Table.from_pylist([row], schema=EVENTS_SCHEMA)
