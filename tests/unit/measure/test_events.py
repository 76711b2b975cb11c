from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.line import ALL_TOPICS
from harness.measure.events import EVENTS_SCHEMA, MISSING, EventsFile, EventsTable, decimal, header, header_us, ids
from harness.measure.facts import claimed_pizza
from harness.measure.orders import OrderBook, StackedOrder, stacked_order
from tests.simulated_line import SimulatedOrder, simulate


def table(
    *rows: tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]], topic: str = "oven-machine"
) -> pa.Table:
    records = [
        {
            "topic": topic,
            "partition": 0,
            "offset": offset,
            "timestamp": 0,
            "key": key,
            "value": value,
            "headers": [{"key": name, "value": text} for name, text in headers],
        }
        for offset, (key, value, headers) in enumerate(rows)
    ]
    return pa.Table.from_pylist(records, schema=EVENTS_SCHEMA)


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.binary(max_size=20), st.integers(0, 10**18 - 1).map(lambda n: b"%d" % n))))
def test_decimal_reads_digits_and_nothing_else(texts: list[bytes | None]) -> None:
    def expected(text: bytes | None) -> int:
        digits = text is not None and 0 < len(text) <= 18 and all(48 <= byte <= 57 for byte in text)
        return int(text or b"0") if digits else MISSING

    assert decimal(pa.array(texts, pa.binary())).tolist() == [expected(text) for text in texts]


def test_headers_are_found_record_by_record_whatever_else_is_there() -> None:
    records = table(
        (b"1", b"", [("at-us", b"10"), ("from", b"x")]),
        (b"2", b"", []),
        (b"3", b"", [("from", b"y"), ("at-us", b"later")]),
        (b"4", b"", [("at-us", None)]),
        (b"5", b"", [("at-us", b"1"), ("at-us", b"2")]),
    )

    for part in (records, pa.concat_tables([records.slice(0, 2), records.slice(2)])):
        assert header_us(part, "at-us").tolist() == [10, MISSING, MISSING, MISSING, 2]
        assert header(part, "from").to_pylist() == [b"x", None, b"y", None, None]
    assert header_us(records.slice(4), "at-us").tolist() == [2]
    assert header_us(EVENTS_SCHEMA.empty_table(), "at-us").tolist() == []


def test_an_id_is_the_key_and_only_without_one_the_values() -> None:
    records = table(
        (b"7", b"\xff", []),
        (None, b'{"pizzaId": 8}', []),
        (b"x", b'{"pizzaId": "9"}', []),
        (None, None, []),
        (b"0", b'{"pizzaId": 3}', []),
        (b"99999999999", b'{"pizzaId": true}', []),
    )

    assert ids(EventsTable(records), "oven-machine", "pizzaId").tolist() == [7, 8, *[MISSING] * 4]


@pytest.mark.parametrize("rows_per_group", [7, 1000])
def test_a_file_of_events_gives_each_topic_as_memory_does(tmp_path: Path, rows_per_group: int) -> None:
    events = simulate([SimulatedOrder(5)]).events
    pq.write_table(events, tmp_path / "events.parquet", row_group_size=rows_per_group)

    in_file, in_memory = EventsFile(tmp_path / "events.parquet"), EventsTable(events)

    for topic in (*ALL_TOPICS, "no-such-topic"):
        assert in_file.topic(topic).to_pylist() == in_memory.topic(topic).to_pylist()
        assert in_file.topic(topic, ["key"]).column_names == ["key"]


@pytest.mark.parametrize(
    ("value", "order"),
    [
        (b'{"orderSize": 2, "recipes": null}', StackedOrder(2, None)),
        (b'{"orderSize": 2, "recipes": ["a"]}', StackedOrder(2, ("a",))),
        (b'{"orderSize": 2, "recipes": ["a", "b"]}', StackedOrder(2, ("a", "b"))),
        (b'{"orderSize": 3, "recipes": ["a", "b"]}', None),
        (b'{"orderSize": 1, "recipes": [1]}', None),
        (b'{"orderSize": true}', None),
        (b'{"orderSize": 0}', None),
        (b'{"orderSize": 1.0}', None),
        (b"[1]", None),
        (b"", None),
        (None, None),
    ],
)
def test_an_order_is_read_if_its_pizzas_can_be_known(value: bytes | None, order: StackedOrder | None) -> None:
    assert stacked_order(value) == order


def test_pizza_ids_run_on_over_broken_and_dead_lettered_orders() -> None:
    values = [b'{"orderSize": 2}', b"garbage", b'{"orderSize": 9}', b'{"orderSize": 3, "recipes": ["b"]}']

    book = OrderBook.read(range(4), values, [10, 20, 30, 40], dead={2})

    assert book.order_ids.tolist() == [1, 4]
    assert book.first_pizzas.tolist() == [1, 3]
    assert book.accepted_us.tolist() == [10, 40]
    assert book.broken == (2, 3)
    assert book.pizzas == 5
    assert book.orders_of(pa.array([0, 1, 2, 3, 5, 6]).to_numpy()).tolist() == [0, 1, 1, 4, 4, 0]
    assert book.recipe_numbers(["a", "b", "c"]).tolist() == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("key", "value", "claim"),
    [
        (b"5", b'{"pizzaId": 3}', 3),
        (b"5", b'{"pizzaId": "3"}', 5),
        (b"5", b"{", 5),
        (b"-5", b"{", None),
        (b"0", None, None),
        (None, None, None),
    ],
)
def test_a_broken_record_claims_the_id_in_its_value_or_else_its_key(
    key: bytes | None, value: bytes | None, claim: int | None
) -> None:
    assert claimed_pizza(key, value) == claim
