from __future__ import annotations

import pytest

from harness.errors import KsqlError
from harness.line import ROOT
from tests.unit.ksqldb.support import Bench

EVENTS = "CREATE STREAM events (id INT, n INT, l ARRAY<INT>) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON');"
TABLE = "CREATE TABLE t AS SELECT id, MAX(n) AS n FROM events GROUP BY id;"
OTHER = "CREATE TABLE u AS SELECT id, MIN(n) AS n FROM events GROUP BY id;"


def test_the_projects_statements_are_accepted_and_a_second_application_only_warns(line: Bench) -> None:
    again = line.client.apply_directory(ROOT / "ksql")
    assert [entity["@type"] for entity in again] == ["warning_entity"] * 11
    assert again[0]["message"] == ("Cannot add stream `PIZZA_STEPS_RAW`: A stream with the same name already exists.")


def test_the_answers_to_statements_have_ksqldbs_shape(bench: Bench) -> None:
    created, aggregated = bench.run(EVENTS + TABLE)
    assert created["@type"] == "currentStatus"
    assert created["commandId"] == "stream/`EVENTS`/create"
    assert created["commandStatus"] == {"status": "SUCCESS", "message": "Stream created", "queryId": None}
    assert created["commandSequenceNumber"] == 1
    assert created["warnings"] == []
    assert aggregated["commandStatus"]["queryId"] == "CTAS_T_2"
    assert aggregated["commandStatus"]["message"] == "Created query with ID CTAS_T_2"


def test_a_name_that_is_taken_is_refused_without_if_not_exists(bench: Bench) -> None:
    bench.run(EVENTS)
    assert bench.refusal(EVENTS)["message"] == (
        "Cannot add stream 'EVENTS': A stream with the same name already exists"
    )


def test_a_request_with_one_bad_statement_changes_nothing(bench: Bench) -> None:
    body = bench.refusal(EVENTS + TABLE + "CREATE TABLE v AS SELECT id, MAX(nope) AS n FROM events GROUP BY id;")
    assert body["error_code"] == 40001
    assert body["statementText"].startswith("CREATE TABLE v")
    bench.run(EVENTS + TABLE)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("CREATE STREAM x (id INT) WITH (KAFKA_TOPIC='nope', VALUE_FORMAT='JSON');", "topic does not exist: nope"),
        ("CREATE STREAM x (id INT) WITH (VALUE_FORMAT='JSON');", "KAFKA_TOPIC"),
        ("CREATE STREAM x (id INT) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='AVRO');", "AVRO"),
        ("CREATE STREAM x (id INT) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON', TIMESTAMP='id');", "TIMESTAMP"),
        ("CREATE STREAM x (id INT) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON', PARTITIONS=3);", "3 partitions"),
        ("CREATE STREAM x (id INT KEY) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON');", "KEY columns"),
        ("CREATE STREAM x (id DOUBLE) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON');", "DOUBLE"),
        ("CREATE STREAM x (ID INT, id INT) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON');", "Duplicate"),
        ("CREATE STREAM x (rowtime INT) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON');", "reserved"),
        ("CREATE STREAM x (id INT) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON') nonsense;", "NONSENSE|nonsense"),
        ("CREATE TABLE x (id INT PRIMARY KEY) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON');", "PRIMARY"),
        ("CREATE OR REPLACE STREAM x AS SELECT * FROM events;", "OR REPLACE"),
        ("CREATE SOURCE TABLE x (id INT);", "CREATE SOURCE"),
        ("CREATE STREAM x WITH (PARTITIONS=2) AS SELECT * FROM events;", "WITH on a persistent query"),
        ("CREATE STREAM x AS SELECT * FROM events WHERE id = 1;", "WHERE"),
        ("CREATE STREAM x AS SELECT * FROM nope;", "NOPE does not exist"),
        ("CREATE STREAM x AS SELECT * FROM t;", "Please use CREATE TABLE"),
        ("CREATE STREAM x AS SELECT n FROM events PARTITION BY id;", "Key missing from projection"),
        ("CREATE STREAM x AS SELECT * FROM events PARTITION BY id + 1;", "PARTITION BY anything but a column"),
        ("CREATE STREAM x AS SELECT * FROM events EMIT FINAL;", "EMIT FINAL"),
        ("CREATE STREAM x AS SELECT id, n AS id FROM events;", "more than one column named `ID`"),
        ("CREATE STREAM x AS SELECT id, upper(n) FROM events;", "UPPER"),
        ("CREATE STREAM x AS SELECT id / 2 FROM events;", "DIV"),
        ("CREATE STREAM x AS SELECT 1.5 FROM events;", "1.5"),
        ("CREATE STREAM x AS SELECT l + 1 FROM events;", "arithmetic"),
        ("CREATE STREAM x AS SELECT DISTINCT id FROM events;", "DISTINCT"),
        ("CREATE STREAM x AS SELECT id FROM (SELECT * FROM events);", "SUBQUERY"),
        ("CREATE STREAM x AS SELECT id FROM events UNION SELECT id FROM events;", "UNION"),
        ("CREATE STREAM x AS SELECT CASE WHEN id = 1 THEN 1 END FROM events;", "CASE"),
        ("CREATE TABLE x AS SELECT id, n FROM events;", "Please use CREATE STREAM"),
        ("CREATE TABLE x AS SELECT id, n FROM events GROUP BY id;", "not part of GROUP BY: N"),
        ("CREATE TABLE x AS SELECT id FROM events GROUP BY id;", "aggregate functions"),
        ("CREATE TABLE x AS SELECT MAX(n) FROM events GROUP BY id;", "Key missing from projection"),
        ("CREATE TABLE x AS SELECT id, id AS b, MAX(n) FROM events GROUP BY id;", "more than once"),
        ("CREATE TABLE x AS SELECT id, n, MAX(n) FROM events GROUP BY id, n;", "GROUP BY anything but one column"),
        ("CREATE TABLE x AS SELECT id, MAX(n) FROM events GROUP BY id HAVING MAX(n) > 1;", "HAVING"),
        ("CREATE TABLE x AS SELECT id, MAX(n) FROM events WINDOW TUMBLING (SIZE 1 HOUR) GROUP BY id;", "WINDOW"),
        ("CREATE TABLE x AS SELECT id, COUNT(*) FROM events GROUP BY id;", "COUNT"),
        ("CREATE TABLE x AS SELECT id, MAX(MIN(n)) FROM events GROUP BY id;", "cannot be nested"),
        ("CREATE TABLE x AS SELECT id, MAX(l) FROM events GROUP BY id;", "MAX of ARRAY<INTEGER>"),
        ("CREATE TABLE x AS SELECT id, LATEST_BY_OFFSET(n, 2) FROM events GROUP BY id;", "2 arguments"),
        ("CREATE TABLE x AS SELECT id, MAX(n) FROM events GROUP BY id PARTITION BY id;", "PARTITION BY"),
        ("CREATE TABLE x AS SELECT a.id AS id FROM t a JOIN u b ON a.id = b.id;", "JOIN"),
        ("CREATE TABLE x AS SELECT a.id AS id FROM t a FULL OUTER JOIN u b ON a.id = b.id;", "FULL OUTER JOIN"),
        ("CREATE TABLE x AS SELECT a.id AS id FROM t a LEFT JOIN u b ON a.n = b.id;", "not the primary key"),
        ("CREATE TABLE x AS SELECT a.id AS id FROM t a LEFT JOIN u b ON a.id < b.id;", "equality"),
        ("CREATE TABLE x AS SELECT a.id AS id FROM t a LEFT JOIN u b ON a.id = a.id;", "column of each side"),
        ("CREATE TABLE x AS SELECT a.id AS id FROM t a LEFT JOIN events b ON a.id = b.id;", "joins with a stream"),
        ("CREATE TABLE x AS SELECT a.id AS id, n FROM t a LEFT JOIN u b ON a.id = b.id;", "ambiguous"),
        ("CREATE TABLE x AS SELECT a.n FROM t a LEFT JOIN u b ON a.id = b.id;", "Key missing"),
        ("CREATE TABLE x AS SELECT * FROM t a LEFT JOIN u b ON a.id = b.id;", "joins in SELECT"),
        ("CREATE TABLE x AS SELECT c.id FROM t a LEFT JOIN u b ON a.id = b.id;", "'C' is not"),
        ("INSERT INTO events (id) VALUES (1);", "INSERT"),
        ("DROP STREAM events;", "DROP"),
        ("SHOW STREAMS;", "SHOW"),
        ("nonsense;", "Syntax error"),
        ("CREATE STREAM x AS SELECT FROM;", "Syntax error"),
        ("CREATE STREAM x AS SELECT FROM events;", "names no columns"),
        ("CREATE", "Syntax error"),
    ],
)
def test_what_is_wrong_or_not_supported_is_refused_with_the_reason(bench: Bench, statement: str, reason: str) -> None:
    bench.run(EVENTS + TABLE + OTHER)
    body = bench.refusal(statement)
    assert (body["@type"], body["error_code"], body["entities"]) == ("statement_error", 40001, [])
    assert body["statementText"].rstrip(";") == statement.rstrip(";")
    with pytest.raises(KsqlError, match=reason):
        bench.run(statement)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT * FROM t EMIT CHANGES;", "push queries"),
        ("SELECT * FROM events;", "pull queries on streams"),
        ("SELECT * FROM nope;", "NOPE does not exist"),
        ("SELECT nope FROM t;", "'NOPE' cannot be resolved"),
        ("SELECT * FROM t ORDER BY id;", "ORDER"),
        ("SELECT MAX(n) FROM t;", "GROUP BY"),
        ("SELECT * FROM t LIMIT 1 OFFSET 1;", "OFFSET"),
        ("SELECT * FROM t LIMIT -1;", "LIMIT"),
        ("SELECT * FROM t WHERE id = 'x';", "Cannot compare INTEGER to STRING"),
        ("SELECT * FROM t WHERE id;", "BOOLEAN"),
        ("SELECT * FROM t WHERE n LIKE 'x';", "LIKE"),
        ("SELECT * FROM t WHERE n = NULL;", "NULL"),
        ("SELECT * FROM t WHERE id = (SELECT 1);", "SUBQUERY"),
        ("SELECT * FROM t, u;", "JOINS"),
        ("SELECT * FROM read_csv('/etc/passwd');", "reading from"),
        ("SELECT FROM t;", "names no columns"),
        ("SELECT rowtime FROM t;", "ROWTIME"),
    ],
)
def test_a_pull_that_is_wrong_or_not_supported_is_refused_with_the_reason(
    bench: Bench, query: str, reason: str
) -> None:
    bench.run(EVENTS + TABLE + OTHER)
    for path in ("/query", "/query-stream"):
        assert bench.refusal(query, path)["error_code"] == 40001
    with pytest.raises(KsqlError, match=reason) as caught:
        bench.client.pull(query)
    assert query in str(caught.value)


def test_a_select_sent_to_the_statement_endpoint_is_refused_with_its_own_code(bench: Bench) -> None:
    assert bench.refusal("SELECT * FROM t;")["error_code"] == 40002


def test_tables_of_different_partition_counts_are_not_joined() -> None:
    bench = Bench(["events"])
    bench.topics.create("wide", partitions=2)
    bench.run(EVENTS + TABLE + EVENTS.replace("STREAM events", "STREAM wide").replace("'events'", "'wide'"))
    bench.run("CREATE TABLE w AS SELECT id, MIN(n) AS n FROM wide GROUP BY id;")
    body = bench.refusal("CREATE TABLE x AS SELECT a.id AS id FROM t a LEFT JOIN w b ON a.id = b.id;")
    assert "number of partitions don't match" in body["message"]
    bench.close()


def test_reading_from_anywhere_but_the_earliest_record_is_refused(bench: Bench) -> None:
    with pytest.raises(KsqlError, match=r"auto\.offset\.reset=latest"):
        bench.client.execute(EVENTS, {"auto.offset.reset": "latest"})
    with pytest.raises(KsqlError, match=r"some\.other\.property"):
        bench.client.execute(EVENTS, {"some.other.property": "1"})


def test_a_stream_that_could_not_be_followed_can_be_created_when_the_broker_is_back(bench: Bench) -> None:
    bench.topics.failure_to_follow = "the broker is gone"
    with pytest.raises(KsqlError, match=r"50000(?s:.)*the broker is gone"):
        bench.run(EVENTS)
    bench.topics.failure_to_follow = None
    bench.run(EVENTS + TABLE)
    bench.send("events", {"id": 1, "n": 2})
    assert bench.rows("t") == [[1, 2]]
