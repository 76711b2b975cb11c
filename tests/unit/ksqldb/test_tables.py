from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ksqldb.support import Bench

EVENTS = (
    "CREATE STREAM events (id INT, n INT, t BIGINT, word VARCHAR) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON');"
)
OTHERS = "CREATE STREAM others (id INT, t BIGINT) WITH (KAFKA_TOPIC='others', VALUE_FORMAT='JSON');"
LATEST = """
    CREATE TABLE latest AS
    SELECT id, LATEST_BY_OFFSET(n) AS n, MIN(t) AS first, MAX(t) AS last, LATEST_BY_OFFSET(word) AS word
    FROM events GROUP BY id;
"""
ENDS = "CREATE TABLE ends AS SELECT id, MAX(t) AS t FROM others GROUP BY id;"
JOINED = """
    CREATE TABLE joined AS
    SELECT l.id AS id, l.last AS started, r.t AS ended, r.t - l.last AS took
    FROM latest l LEFT JOIN ends r ON l.id = r.id;
"""


def test_the_order_of_the_specification_has_null_and_then_its_latency(line: Bench) -> None:
    line.send("order-processing", {"orderId": 349, "orderSize": 2, "startTimestamp": 1763312501613})
    table = line.table("order_latency")
    assert table.columns == ["ORDERID", "ORDERSIZE", "STARTTIMESTAMP", "ENDTIMESTAMP", "LATENCYMS"]
    assert table.types == ["INTEGER", "INTEGER", "BIGINT", "BIGINT", "BIGINT"]
    assert table.rows == [[349, 2, 1763312501613, None, None]]
    line.send("order-done", {"orderId": 349, "endTimestamp": 1763312520802})
    assert line.rows("order_latency") == [[349, 2, 1763312501613, 1763312520802, 19189]]


def test_a_pizza_has_its_latency_under_the_names_of_the_specification(line: Bench) -> None:
    pizza = {"pizzaId": 101, "orderId": 10, "orderSize": 5, "startTimestamp": 1763309000000, "cheese": ["mozzarella"]}
    line.send("dough-machine", {**pizza, "endTimestamp": None}, {**pizza, "pizzaId": 102})
    line.send("pizza-done", {"pizzaId": 101, "orderId": 10, "orderSize": 5, "endTimestamp": 1763309025000})
    table = line.table("pizza_latency")
    assert table.columns == ["PIZZAID", "ORDERID", "STARTTIMESTAMP", "ENDTIMESTAMP", "LATENCYMS"]
    assert table.rows == [
        [101, 10, 1763309000000, 1763309025000, 25000],
        [102, 10, 1763309000000, None, None],
    ]


def test_a_pizza_that_is_done_twice_has_one_row_with_its_later_end(line: Bench) -> None:
    line.send("dough-machine", {"pizzaId": 1, "orderId": 1, "startTimestamp": 10})
    line.send("pizza-done", *({"pizzaId": 1, "orderId": 1, "endTimestamp": end} for end in (30, 20)))
    assert line.rows("pizza_latency") == [[1, 1, 10, 30, 20]]


def test_the_end_alone_makes_no_row_in_a_left_join(line: Bench) -> None:
    line.send("order-done", {"orderId": 1, "endTimestamp": 5})
    assert line.rows("order_latency") == []
    line.send("order-processing", {"orderId": 1, "orderSize": 1, "startTimestamp": 2})
    assert line.rows("order_latency") == [[1, 1, 2, 5, 3]]


def test_records_that_were_there_before_the_statements_are_in_the_tables(bench: Bench) -> None:
    bench.send("events", {"id": 1, "n": 5, "t": 7, "word": "x"})
    bench.run(EVENTS + LATEST)
    bench.send("events", {"id": 2, "n": 6, "t": 8, "word": "y"})
    assert bench.rows("latest") == [[1, 5, 7, 7, "x"], [2, 6, 8, 8, "y"]]


def test_a_second_stream_over_a_topic_reads_it_from_its_beginning_and_the_first_reads_nothing_twice(
    bench: Bench,
) -> None:
    bench.run(EVENTS + LATEST)
    bench.send("events", {"id": 1, "n": 1, "t": 1}, {"id": 1, "n": 2, "t": 2})
    bench.run(
        "CREATE STREAM again (id INT, n INT) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON');"
        "CREATE TABLE counted AS SELECT id, LATEST_BY_OFFSET(n) AS n FROM again GROUP BY id;"
    )
    bench.send("events", {"id": 2, "n": 3, "t": 3})
    assert bench.rows("counted") == [[1, 2], [2, 3]]
    assert bench.rows("SELECT id, n FROM latest") == [[1, 2], [2, 3]]
    stored = bench.engine._database.execute("SELECT count(*) FROM r0").fetchone()
    assert stored == (3,)


def test_null_group_keys_are_left_out(bench: Bench) -> None:
    bench.run(EVENTS + LATEST)
    bench.send("events", {"n": 1, "t": 1}, {"id": None, "n": 2, "t": 2}, None, b"null", {"id": 3, "n": 3, "t": 3})
    assert bench.rows("SELECT id FROM latest") == [[3]]


def test_aggregates_ignore_nulls_and_are_null_when_there_is_nothing_else(bench: Bench) -> None:
    bench.run(EVENTS + LATEST)
    bench.send("events", {"id": 1, "n": 5, "t": 9, "word": "kept"}, {"id": 1}, {"id": 2}, {"id": 1, "t": 4})
    assert bench.rows("latest") == [[1, 5, 4, 9, "kept"], [2, None, None, None, None]]


def test_a_bad_record_is_dropped_whole_and_said_so_in_the_processing_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.run(EVENTS + LATEST)
    with caplog.at_level(logging.WARNING, "harness.ksqldb.embedded.processing"):
        bench.send("events", {"id": 1, "n": 1, "t": 1}, b"{broken", {"id": 1, "n": True, "t": 99}, {"id": 2, "n": 2})
        assert bench.rows("SELECT id, n, last FROM latest") == [[1, 1, 1], [2, 2, None]]
    said: list[dict[str, Any]] = [vars(record)["fields"] for record in caplog.records]
    assert [(entry["stream"], entry["topic"], entry["offset"]) for entry in said] == [
        ("EVENTS", "events", 1),
        ("EVENTS", "events", 2),
    ]
    assert "path: $.N" in said[1]["reason"]


def test_a_flood_of_bad_records_is_counted_and_not_listed_one_by_one(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.run(EVENTS + LATEST)
    with caplog.at_level(logging.WARNING, "harness.ksqldb.embedded.processing"):
        bench.send("events", *[b"broken"] * 1000)
        assert bench.rows("latest") == []
    assert len(caplog.records) == 11
    assert vars(caplog.records[-1])["fields"]["count"] == 990


def test_differences_wrap_around_as_java_integers_do(bench: Bench) -> None:
    bench.run(
        EVENTS + "CREATE TABLE wide AS SELECT id, MAX(t) - MIN(t) AS t, MAX(n) - MIN(n) AS n, MAX(n) * MAX(t) AS p "
        "FROM events GROUP BY id;"
    )
    bench.send("events", {"id": 1, "n": 2**31 - 1, "t": 2**63 - 1}, {"id": 1, "n": -1, "t": -2})
    assert bench.rows("wide") == [[1, -(2**63) + 1, -(2**31), (2**31 - 1) * (2**63 - 1) - 2**63 * (2**31 - 2)]]


def test_back_quoted_names_keep_their_case_and_are_other_names(bench: Bench) -> None:
    bench.run(
        "CREATE STREAM `events` (`id` INT, id INT, `a b` INT) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON');"
        "CREATE TABLE `T` AS SELECT `id`, MAX(id) AS `Max`, MAX(`a b`) AS max FROM `events` GROUP BY `id`;"
    )
    bench.send("events", {"id": 1, "ID": 2, "a b": 3})
    table = bench.table("SELECT * FROM t")
    assert (table.columns, table.rows) == (["id", "Max", "MAX"], [[1, 2, 3]])


def test_the_key_comes_first_and_the_rest_as_projected(bench: Bench) -> None:
    bench.run(EVENTS + "CREATE TABLE turned AS SELECT MAX(t), word AS w, MIN(t) FROM events GROUP BY word;")
    bench.send("events", {"id": 1, "t": 3, "word": "x"}, {"id": 1, "t": 1, "word": "x"})
    table = bench.table("turned")
    assert (table.columns, table.rows) == (["W", "KSQL_COL_0", "KSQL_COL_1"], [["x", 3, 1]])


def test_unaliased_columns_of_a_join_carry_their_source_only_where_both_sides_have_them(bench: Bench) -> None:
    bench.run(EVENTS + OTHERS + LATEST + ENDS)
    bench.run("CREATE TABLE named AS SELECT l.id, l.word, r.t, r.id FROM latest l LEFT JOIN ends r ON l.id = r.id;")
    bench.send("events", {"id": 1, "word": "x"})
    table = bench.table("named")
    assert (table.columns, table.rows) == (["L_ID", "WORD", "T", "R_ID"], [[1, "x", None, None]])


def test_a_derived_stream_keeps_the_order_of_its_records(bench: Bench) -> None:
    bench.run(
        EVENTS + "CREATE STREAM rekeyed AS SELECT word, n AS amount FROM events PARTITION BY word EMIT CHANGES;"
        "CREATE TABLE last_amount AS SELECT word, LATEST_BY_OFFSET(amount) AS amount FROM rekeyed GROUP BY word;"
    )
    bench.send("events", *({"word": "x", "n": n} for n in (5, 9, 2)))
    bench.send("events", {"word": "x", "n": 7}, {"n": 8})
    assert bench.rows("last_amount") == [["x", 7]]


def test_several_partitions_are_read_each_to_its_end() -> None:
    bench = Bench(["events"], partitions=3)
    bench.run(EVENTS + LATEST)
    for number in range(9):
        bench.send("events", {"id": number % 2, "n": number, "t": number}, partition=number % 3)
    assert bench.rows("SELECT id, first, last FROM latest") == [[0, 0, 8], [1, 1, 7]]
    bench.close()


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("id = 2", [2]),
        ("t > 10", [2, 3]),
        ("t >= 10 AND t < 30", [1, 2]),
        ("n IS NULL", [3]),
        ("n IS NOT NULL AND NOT id = 1", [2]),
        ("n <> 1", [2]),
        ("NOT n = 1", [2, 3]),
        ("word = 'it''s'", [2]),
        ("id IN (1, 3)", [1, 3]),
        ("t BETWEEN 20 AND 30", [2, 3]),
        ("(id = 1 OR id = 3) AND t = 30", [3]),
        ("last_word = 'x'", [1]),
    ],
)
def test_a_pull_takes_conditions_on_any_column(bench: Bench, condition: str, ids: list[int]) -> None:
    bench.run(
        EVENTS + "CREATE TABLE seen AS SELECT id, MAX(n) AS n, MAX(t) AS t, LATEST_BY_OFFSET(word) AS word, "
        "LATEST_BY_OFFSET(word) AS last_word FROM events GROUP BY id;"
    )
    bench.send(
        "events",
        {"id": 1, "n": 1, "t": 10, "word": "x"},
        {"id": 2, "n": 2, "t": 20, "word": "it's"},
        {"id": 3, "t": 30},
    )
    assert [row[0] for row in bench.rows(f"SELECT id FROM seen WHERE {condition}")] == ids


def test_a_pull_takes_a_limit_and_a_projection(bench: Bench) -> None:
    bench.run(EVENTS + LATEST)
    bench.send("events", *({"id": number, "n": number} for number in range(50)))
    assert len(bench.rows("SELECT * FROM latest LIMIT 7")) == 7
    assert bench.rows("SELECT * FROM latest LIMIT 0") == []
    table = bench.table("SELECT n + 1 AS next, id FROM latest WHERE id = 4")
    assert (table.columns, table.types, table.rows) == (["NEXT", "ID"], ["INTEGER", "INTEGER"], [[5, 4]])


keys = st.none() | st.integers(0, 3)
small = st.none() | st.integers(-5, 5)
event = st.fixed_dictionaries({"id": keys, "n": small, "t": small, "word": st.none() | st.sampled_from("ab")})
sent = st.tuples(st.just("events"), event) | st.tuples(
    st.just("others"), st.fixed_dictionaries({"id": keys, "t": small})
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(sent, max_size=6), max_size=4))
def test_tables_are_what_a_plain_reading_of_the_records_gives(batches: list[list[tuple[str, Any]]]) -> None:
    bench = Bench(["events", "others"])
    bench.run(EVENTS + OTHERS + LATEST + ENDS + JOINED)
    latest: dict[int, list[Any]] = {}
    ends: dict[int, Any] = {}
    for batch in batches:
        for topic, fields in batch:
            bench.send(topic, fields)
            key, t = fields["id"], fields["t"]
            if key is None:
                continue
            if topic == "others":
                ends[key] = _largest(ends.get(key), t)
                continue
            row = latest.setdefault(key, [None, None, None, None])
            row[0] = row[0] if fields["n"] is None else fields["n"]
            row[1] = t if row[1] is None else row[1] if t is None else min(row[1], t)
            row[2] = _largest(row[2], t)
            row[3] = row[3] if fields["word"] is None else fields["word"]
        assert bench.rows("latest") == [[key, *latest[key]] for key in sorted(latest)]
        assert bench.rows("joined") == [
            [key, last, end, None if last is None or end is None else end - last]
            for key in sorted(latest)
            for last, end in [(latest[key][2], ends.get(key))]
        ]
    bench.close()


def _largest(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)
