from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest

from tests.unit.ksqldb.support import Bench

V1 = "application/vnd.ksql.v1+json"
DELIMITED = "application/vnd.ksqlapi.delimited.v1"
STATEMENTS = (
    "CREATE STREAM events (id INT, words ARRAY<VARCHAR>, word VARCHAR) "
    "WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON');"
    "CREATE TABLE t AS SELECT id, LATEST_BY_OFFSET(word) AS `a,b`, LATEST_BY_OFFSET(words) AS words "
    "FROM events GROUP BY id;"
)
TEXT = 'quote " backslash \\ line\nend é \u2028'


@pytest.fixture
def filled(bench: Bench) -> Bench:
    bench.run(STATEMENTS)
    bench.send("events", {"id": 1, "word": TEXT, "words": ["a", None]})
    return bench


def ask(bench: Bench, path: str, body: Any, accept: str) -> httpx.Response:
    return bench.http.post(path, content=orjson.dumps(body), headers={"Accept": accept})


def test_query_stream_sends_a_header_and_one_array_per_row(filled: Bench) -> None:
    answer = ask(filled, "/query-stream", {"sql": "SELECT * FROM t;", "properties": {}}, DELIMITED)
    assert answer.headers["content-type"] == DELIMITED
    header, row = answer.content.splitlines()
    parsed = orjson.loads(header)
    assert parsed["queryId"]
    assert parsed["columnNames"] == ["ID", "a,b", "WORDS"]
    assert parsed["columnTypes"] == ["INTEGER", "STRING", "ARRAY<STRING>"]
    assert orjson.loads(row) == [1, TEXT, ["a", None]]


def test_query_stream_sends_one_json_array_when_json_is_asked_for(filled: Bench) -> None:
    answer = ask(filled, "/query-stream", {"sql": "SELECT id FROM t;"}, "application/json")
    header, *rows = answer.json()
    assert (header["columnNames"], rows) == (["ID"], [[1]])


@pytest.mark.parametrize("accept", [V1, "application/json"])
def test_query_sends_a_schema_and_rows(filled: Bench, accept: str) -> None:
    filled.send("events", {"id": 2})
    answer = ask(filled, "/query", {"ksql": "SELECT * FROM t;", "streamsProperties": {}, "unknown": 1}, accept)
    assert answer.headers["content-type"] == accept
    header, *rows = answer.json()
    assert header["header"]["schema"] == "`ID` INTEGER KEY, `a,b` STRING, `WORDS` ARRAY<STRING>"
    assert sorted((row["row"]["columns"] for row in rows), key=lambda columns: columns[0]) == [
        [1, TEXT, ["a", None]],
        [2, None, None],
    ]


@pytest.mark.parametrize("path", ["/query", "/query-stream"])
def test_an_empty_table_gives_the_header_alone(bench: Bench, path: str) -> None:
    bench.run(STATEMENTS)
    body = {"sql": "SELECT * FROM t;", "ksql": "SELECT * FROM t;"}
    assert len(ask(bench, path, body, "application/json").json()) == 1


def test_a_result_of_many_blocks_is_whole(bench: Bench) -> None:
    bench.run(STATEMENTS)
    bench.send("events", *({"id": number, "word": "x" * (number % 7)} for number in range(50_000)))
    assert bench.rows("SELECT id, `a,b` FROM t") == [[number, "x" * (number % 7)] for number in range(50_000)]


@pytest.mark.parametrize("path", ["/query", "/query-stream"])
def test_a_query_without_a_form_that_the_engine_knows_is_not_acceptable(filled: Bench, path: str) -> None:
    answer = ask(filled, path, {"sql": "SELECT * FROM t;", "ksql": "SELECT * FROM t;"}, "*/*")
    assert (answer.status_code, answer.json()["@type"]) == (406, "generic_error")


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"[]", b"{}", b'{"ksql": 1}', b'{"ksql": "x", "streamsProperties": 1}']
)
def test_a_body_that_is_no_request_is_a_bad_request(bench: Bench, body: bytes) -> None:
    answer = bench.http.post("/ksql", content=body, headers={"Accept": V1})
    assert answer.status_code == 400
    assert (answer.json()["@type"], answer.json()["error_code"]) == ("generic_error", 40000)


def test_the_status_of_a_command_is_found_by_its_id(filled: Bench) -> None:
    answer = filled.http.get("/status/table/%60T%60/create", headers={"Accept": V1})
    assert answer.json() == {"status": "SUCCESS", "message": "Created query with ID CTAS_T_2", "queryId": "CTAS_T_2"}
    missing = filled.http.get("/status/table/%60X%60/create")
    assert (missing.status_code, missing.json()["error_code"]) == (404, 40400)


def test_info_names_the_cluster_and_the_engine(bench: Bench) -> None:
    info = bench.client.info()
    assert (info["kafkaClusterId"], info["serverStatus"]) == ("memory-cluster", "RUNNING")
    assert "embedded" in info["version"]


def test_closing_a_query_that_is_not_open_is_refused(bench: Bench) -> None:
    assert ask(bench, "/close-query", {"queryId": "x"}, V1).status_code == 400


def test_an_unknown_address_and_a_wrong_method_answer_in_ksqldbs_form(bench: Bench) -> None:
    assert bench.http.get("/nowhere").json()["error_code"] == 40400
    assert bench.http.get("/ksql").json()["error_code"] == 40500


def test_a_lost_broker_shows_in_the_health_and_in_every_answer(filled: Bench) -> None:
    assert filled.client.healthy()
    filled.topics.failure = "the broker is gone"
    assert not filled.client.healthy()
    answer = filled.http.get("/healthcheck")
    assert answer.status_code == 200
    assert answer.json()["details"]["kafka"] == {"isHealthy": False, "reason": "the broker is gone"}
    pulled = ask(filled, "/query-stream", {"sql": "SELECT * FROM t;"}, DELIMITED)
    assert (pulled.status_code, pulled.json()["error_code"]) == (500, 50000)
    assert "the broker is gone" in pulled.json()["message"]
    assert filled.http.get("/info").status_code == 500


def test_several_statements_are_no_query(filled: Bench) -> None:
    body = filled.refusal("SELECT * FROM t; SELECT * FROM t;", "/query")
    assert body["error_code"] == 40000
    assert filled.refusal("CREATE TABLE u AS SELECT id FROM t;", "/query")["error_code"] == 40000


def test_a_body_beyond_all_bounds_is_a_bad_request(bench: Bench) -> None:
    answer = bench.http.post("/ksql", content=b'{"ksql": "' + b"x" * 2_000_000 + b'"}', headers={"Accept": V1})
    assert (answer.status_code, answer.json()["error_code"]) == (400, 40000)
