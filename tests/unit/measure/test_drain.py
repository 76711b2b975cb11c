"""The drain's bookkeeping: the same answer in whatever order the topics happen to be read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.measure.drain import WATCHED, DrainProgress, DrainState
from harness.measure.events import EventsTable, header, header_us
from harness.measure.facts import claimed_pizza, read_facts
from harness.measure.ledger import build_ledger
from tests.simulated_line import Faults, SimulatedOrder, simulate


def order(size: int) -> bytes:
    return orjson.dumps({"orderSize": size, "recipes": None, "acceptedTimestamp": 0})


def state_of(*sizes: int) -> DrainState:
    state = DrainState()
    for offset, size in enumerate(sizes):
        state.order_stacked(offset, order(size))
    return state


def test_an_order_is_open_until_it_is_on_order_done_however_many_pizzas_are_done() -> None:
    state = state_of(2)
    state.pizza_done(1)
    state.pizza_done(2)
    assert state.open_orders() == {1}

    state.order_done(1)
    assert state.open_orders() == set()
    assert state.progress() == DrainProgress(1, 1, 0, 0, 2, 2)


def test_a_failed_order_is_open_until_its_other_pizzas_have_left_the_line() -> None:
    state = state_of(3, 1)
    state.dead_letter("oven-machine", 0, claimed=2)
    assert state.failed_orders() == {1}
    assert state.open_orders() == {1, 2}

    state.pizza_done(1)
    assert state.open_orders() == {1, 2}
    state.dead_letter("meat-machine", 5, claimed=3)
    assert state.open_orders() == {2}


def test_a_dead_letter_whose_pizza_was_done_all_the_same_fails_no_order() -> None:
    state = state_of(1)
    state.dead_letter("oven-machine", 0, claimed=1)
    state.pizza_done(1)
    assert state.failed_orders() == set()
    assert state.open_orders() == {1}

    state.order_done(1)

    assert state.failed_orders() == set()
    assert state.progress().orders_done == 1


@pytest.mark.parametrize(("topic", "claimed"), [("oven-machine-done", 1), ("oven-machine", None), ("oven-machine", 77)])
def test_a_dead_letter_for_no_pizza_of_the_order_leaves_it_open(topic: str, claimed: int | None) -> None:
    state = state_of(1)
    state.dead_letter(topic, 0, claimed)

    assert state.failed_orders() == set()
    assert state.open_orders() == {1}


def test_a_broken_order_is_failed_at_once_and_shifts_the_pizzas_of_later_orders() -> None:
    state = state_of(2, 2, 2)
    state.dead_letter("order-stack", 1, claimed=None)
    state.dead_letter("oven-machine", 0, claimed=3)  # now the third order's first pizza
    state.pizza_done(4)

    assert state.failed_orders() == {2, 3}
    assert state.open_orders() == {1}
    assert state.progress() == DrainProgress(2, 0, 2, 1, 4, 1)


def test_a_done_pizza_that_no_order_holds_is_not_counted() -> None:
    state = state_of(1)
    state.pizza_done(9)

    assert state.progress().pizzas_done == 0


def test_an_order_is_seen_once_its_record_was_read() -> None:
    state = state_of(1, 1)

    assert [state.has_seen(order_id) for order_id in (1, 2, 3)] == [True, True, False]


@st.composite
def readings(draw: st.DrawFn) -> tuple[Faults, list[int], list[str]]:
    """Faults in orders of given sizes, and an interleaving of the watched topics."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    broken = draw(st.sets(st.integers(0, len(sizes) - 1)))
    pizzas = sum(size for i, size in enumerate(sizes) if i not in broken)
    fates = draw(st.lists(st.sampled_from(["ok", "ok", "lost", "dead"]), min_size=pizzas, max_size=pizzas))
    faults = Faults(
        lost={pizza: "cheese-machine" for pizza, fate in enumerate(fates, 1) if fate == "lost"},
        dead_lettered={pizza: "oven-machine" for pizza, fate in enumerate(fates, 1) if fate == "dead"},
        broken_orders=sorted(broken),
        garbage={"meat-machine": 1},
    )
    return faults, sizes, draw(st.lists(st.sampled_from(WATCHED), max_size=40))


@settings(max_examples=40, deadline=None)
@given(readings())
def test_any_interleaving_of_the_topics_agrees_with_the_ledger(run: tuple[Faults, list[int], list[str]]) -> None:
    faults, sizes, interleaving = run
    events = EventsTable(simulate([SimulatedOrder(size) for size in sizes], faults=faults).events)
    ledger = build_ledger(read_facts(events))
    state = DrainState()

    feeds = {topic: feed(state, events, topic) for topic in WATCHED}
    rest = [topic for topic in WATCHED for _ in feeds[topic]]
    for topic in (*interleaving, *rest):
        if feeds[topic]:
            feeds[topic].pop(0)()

    progress = state.progress()
    assert state.failed_orders() == set(ledger.failed_orders)
    assert state.open_orders() >= {order.order_id for order in ledger.unfinished_orders}
    assert progress.orders_accepted == ledger.orders_accepted
    assert progress.orders_done == ledger.orders_done
    assert (progress.pizzas_accepted, progress.pizzas_done) == (ledger.pizzas_accepted, ledger.pizzas_done)
    if not ledger.lost_pizzas:
        assert state.open_orders() == set()


def feed(state: DrainState, events: EventsTable, topic: str) -> list[Callable[[], None]]:
    """One call per record of the topic."""
    table = events.topic(topic)
    rows = table.select(["offset", "key", "value"]).to_pylist()
    if topic == "order-stack":
        return [partial(state.order_stacked, row["offset"], row["value"]) for row in rows]
    if topic == "pizza-done":
        return [partial(state.pizza_done, int(row["key"])) for row in rows]
    if topic == "order-done":
        return [partial(state.order_done, int(row["key"])) for row in rows]
    sources: list[Any] = header(table, "topic").to_pylist()
    places = zip(sources, header_us(table, "offset").tolist(), strict=True)
    return [
        partial(state.dead_letter, str(source, "utf-8"), offset, claimed_pizza(row["key"], row["value"]))
        for row, (source, offset) in zip(rows, places, strict=True)
    ]
