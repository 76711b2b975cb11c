"""Strangers write to the topics of a working line: what is broken ends as a dead letter, and the line goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

from harness.line import DEAD_LETTER, DONE_TOPICS, MACHINE_TOPICS
from tests.integration.broken_records import (
    Record,
    broken_pizzas,
    forged,
    largest_value,
    stranger,
    write,
)
from tests.integration.line_under_test import (
    ORDER_PROCESSING,
    SERVICES,
    LineUnderTest,
    PlacedOrder,
    Seen,
    running_line,
)

SIZE = 20
MAX_LETTER_BYTES = 65_536
MAX_LETTER_KEY_BYTES = 1024

Place = tuple[str, int]
"""Topic and offset."""


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LineUnderTest]:
    with running_line(tmp_path_factory.mktemp("line"), time_scale=0.03) as running:
        yield running


def told_letters(line: LineUnderTest) -> list[tuple[Place, Seen]]:
    """The dead letters that the line wrote, with the places of the records that they are of."""
    return [
        ((record.headers["topic"].decode(), record.number("offset")), record)
        for record in line.watch.records[DEAD_LETTER]
        if "machine" in record.headers  # others are forged
    ]


def letters(line: LineUnderTest) -> Counter[Place]:
    """How often the record at each place was dead-lettered."""
    return Counter(place for place, _ in told_letters(line))


def put(line: LineUnderTest, topic: str, records: list[Record]) -> dict[Place, Record]:
    offsets = write(line.stack.endpoints.bootstrap_servers, topic, records)
    return {(topic, offset): record for offset, record in zip(offsets, records, strict=True)}


def wait_for_letters(line: LineUnderTest, places: Mapping[Place, object]) -> None:
    line.watch.until(lambda: letters(line).keys() >= places.keys(), 30, f"{len(places)} dead letters")


def assert_letters_tell(line: LineUnderTest, broken: Mapping[Place, Record]) -> None:
    """Each broken record has one dead letter, which says what it was and who refused it."""
    count = letters(line)
    for place, letter in told_letters(line):
        if place not in broken:
            continue
        record = broken[place]
        value = record.value or b""
        assert count[place] == 1, record.what
        assert letter.headers["reason"]
        assert letter.headers["machine"].decode() == (place[0] if place[0] in MACHINE_TOPICS else ORDER_PROCESSING)
        assert letter.number("size") == len(value)
        assert (letter.value or b"") == value[:MAX_LETTER_BYTES]
        assert letter.key == (record.key if len(record.key or b"") <= MAX_LETTER_KEY_BYTES else None)


def assert_orders_are_whole(line: LineUnderTest, broken_orders: int) -> None:
    """Whatever strangers wrote: all orders and pizzas are there once in the topics that tell of them."""
    ledger = line.drained_ledger()
    sizes = [order.size for order in line.orders]
    assert (ledger.lost, ledger.unfinished_orders, ledger.duplicate_pizzas) == ({}, (), ())
    assert (ledger.orders_accepted, ledger.pizzas_accepted) == (len(sizes), sum(sizes))
    assert (ledger.orders_started, ledger.orders_done) == (len(sizes), len(sizes))
    assert (ledger.pizzas_dispatched, ledger.pizzas_done) == (sum(sizes), sum(sizes))
    assert len(ledger.failed_orders) == broken_orders
    assert ledger.duplicates.keys() <= set(DONE_TOPICS)  # of ids that broken records claimed
    assert all(line.describe(order)["state"] == "done" for order in line.orders)


def last_pizza_through(order: PlacedOrder, machine: str) -> int:
    return max(order.pizzas_through(machine))


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "and everyone is killed"])
def test_broken_records_on_every_machine_topic_end_as_dead_letters_and_the_line_goes_on(
    line: LineUnderTest, killed: bool
) -> None:
    first_stranger = 2_000_000 if killed else 1_000_000
    order = line.order(SIZE)
    line.wait_for("cheese-machine", order.first_pizza)
    broken: dict[Place, Record] = {}
    strangers: set[int] = set()
    with line.paused("dough-machine"):  # the order's last pizzas stay behind it, for forgeries to come first
        for number, topic in enumerate(MACHINE_TOPICS):
            at = first_stranger + 1000 * number
            forgery = forged(last_pizza_through(order, topic))
            assert forgery.claims not in line.watch.ids[topic]
            broken |= put(line, topic, [*broken_pizzas(at), forgery])
            put(line, topic, [stranger(at + 999)])
            strangers.add(at + 999)
        if killed:
            line.kill_at_once(SERVICES)

    line.wait_done([order])
    wait_for_letters(line, broken)
    line.watch.until(lambda: strangers <= line.watch.ids["pizza-done"], 30, "strangers at the end of the line")
    ends = {
        ("pizza-done", record.offset): record.key
        for record in line.watch.records["pizza-done"]
        if int(record.key or b"0") in strangers
    }
    assert len(ends) == len(strangers)
    wait_for_letters(line, ends)
    for (topic, _), record in broken.items():
        if record.claims is not None:
            assert record.claims in line.watch.ids[f"{topic}-done"], record.what

    following = line.order(7)
    line.wait_done([following])
    assert_letters_tell(line, broken)
    assert letters(line).keys() >= broken.keys() | ends.keys()
    assert max(letters(line).values()) == 1
    assert_orders_are_whole(line, broken_orders=0)


def test_broken_records_on_all_other_topics_neither_stop_nor_mislead_the_line(line: LineUnderTest) -> None:
    """The forgeries bear ids of the order in progress and of the next, and everybody has to read them back."""
    order = line.order(SIZE)
    line.wait_for("cheese-machine", order.first_pizza)
    following = PlacedOrder(0, 7, order.pizzas.stop)
    with line.paused("dough-machine"):
        for topic in DONE_TOPICS:
            put(line, topic, [*broken_pizzas(1), forged(last_pizza_through(order, topic.removesuffix("-done")))])
        refused = put(line, "pizza-done", [*broken_pizzas(3_000_000), forged(order.pizzas[-1])])
        refused |= put(line, "order-stack", list(broken_pizzas(4_000_000)))
        for topic in ("order-processing", "order-done"):
            mute = [record for record in broken_pizzas(1) if b"orderId" not in (record.value or b"")]
            ids = (order.order_id, order.order_id + sum(topic == "order-stack" for topic, _ in refused) + 1)
            put(line, topic, [*mute, *(Record("forged", b"%d" % order_id, b"{}") for order_id in ids)])
        endless = (("topic", b"oven-machine"), ("offset", b"9" * 5000))
        unnamed = (("topic", b"\xff"), ("offset", b"-1"), ("offset", b""))
        put(
            line,
            DEAD_LETTER,
            [
                *broken_pizzas(1),
                Record("an endless offset", b"9" * 5000, largest_value()[:900_000], headers=endless),
                Record("a nameless topic", None, None, headers=unnamed),
            ],
        )
        wait_for_letters(line, refused)
        line.kill_at_once(SERVICES)

    line.wait_done([order])
    assert line.order_by_all_means(7, "following").pizzas == following.pizzas
    line.wait_done(line.orders)
    assert_letters_tell(line, refused)
    broken_orders = sum(topic == "order-stack" for topic, _ in refused)
    assert_orders_are_whole(line, broken_orders)
