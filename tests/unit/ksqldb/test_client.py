from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from harness.errors import KsqlError
from harness.ksqldb import KsqlClient, Table

HEADER = {"queryId": "q", "columnNames": ["ID", "NAME"], "columnTypes": ["INTEGER", "STRING"]}
NOT_YET = {
    "@type": "statement_error",
    "error_code": 40001,
    "message": "Cannot determine which host contains the required partitions to serve the pull query.",
    "statementText": "SELECT * FROM T;",
    "entities": [],
}


class Server:
    """Plays a ksqlDB server: answers with what the given function returns and keeps the requests."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response], timeout_s: float = 5.0) -> None:
        self.requests: list[httpx.Request] = []
        self._answer = answer
        self.client = KsqlClient(
            "http://ksqldb.test:8088/", timeout_s=timeout_s, transport=httpx.MockTransport(self._handle)
        )

    def bodies(self) -> list[Any]:
        return [orjson.loads(request.content) for request in self.requests if request.content]

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answer(request)


def lines(*entries: Any) -> httpx.Response:
    return httpx.Response(200, content=b"\n".join(orjson.dumps(entry) for entry in entries) + b"\n")


def command(status: str, message: str = "Table created") -> dict[str, Any]:
    return {
        "@type": "currentStatus",
        "commandId": "table/`T`/create",
        "commandStatus": {"status": status, "message": message, "queryId": None},
    }


def test_a_table_is_pulled_whole_by_its_name() -> None:
    server = Server(lambda _: lines(HEADER, [1, "a"], [2, None]))
    table = server.client.pull("order_latency")
    assert table == Table(["ID", "NAME"], ["INTEGER", "STRING"], [[1, "a"], [2, None]])
    assert table.records()[1] == {"ID": 2, "NAME": None}
    (request,) = server.requests
    assert request.headers["accept"] == "application/vnd.ksqlapi.delimited.v1"
    assert server.bodies() == [{"sql": "SELECT * FROM order_latency;", "properties": {"auto.offset.reset": "earliest"}}]


def test_a_pull_is_asked_again_only_while_ksqldb_says_that_it_will_succeed_later() -> None:
    answers = iter([httpx.Response(400, json=NOT_YET), lines(HEADER, NOT_YET), lines(HEADER, [1, "a"])])
    server = Server(lambda _: next(answers))
    assert server.client.pull("T").rows == [[1, "a"]]
    assert len(server.requests) == 3


def test_a_pull_that_ksqldb_never_can_answer_ends_with_its_message() -> None:
    server = Server(lambda _: httpx.Response(400, json=NOT_YET), timeout_s=0.2)
    with pytest.raises(KsqlError, match=r"Cannot determine which host(?s:.)*SELECT \* FROM T;"):
        server.client.pull("T")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(400, json={**NOT_YET, "message": "T does not exist."}), r"40001(?s:.)*T does not exist"),
        (lines(HEADER, [1, "a"], {**NOT_YET, "message": "it broke"}), "it broke"),
        (lines(HEADER, [1]), "does not fit the columns"),
        (httpx.Response(200, content=b""), "unreadable"),
        (httpx.Response(200, content=orjson.dumps(HEADER) + b"\n[1, "), "unreadable"),
        (lines(["no header"]), "unreadable"),
        (httpx.Response(502, text="bad gateway"), "bad gateway"),
        (httpx.Response(500, json=["odd"]), "odd"),
    ],
)
def test_every_other_failure_is_final_and_carries_the_statement(answer: httpx.Response, reason: str) -> None:
    server = Server(lambda _: answer)
    with pytest.raises(KsqlError, match=reason) as caught:
        server.client.pull("SELECT * FROM T;")
    assert "SELECT * FROM T;" in str(caught.value)
    assert len(server.requests) == 1


def test_statements_are_sent_one_by_one_and_read_from_the_earliest_record() -> None:
    server = Server(lambda _: httpx.Response(200, json=[command("SUCCESS")]))
    assert len(server.client.execute("-- one\nCREATE A; CREATE B;", {"x": "y"})) == 2
    assert server.bodies() == [
        {"ksql": "CREATE A;", "streamsProperties": {"auto.offset.reset": "earliest", "x": "y"}},
        {"ksql": "CREATE B;", "streamsProperties": {"auto.offset.reset": "earliest", "x": "y"}},
    ]


def test_a_command_under_way_is_followed_to_its_end() -> None:
    statuses = iter(["PARSING", "EXECUTING", "SUCCESS"])

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/ksql":
            return httpx.Response(200, json=[command("QUEUED")])
        return httpx.Response(200, json={"status": next(statuses), "message": "done", "queryId": "CTAS_T_1"})

    server = Server(answer)
    (entity,) = server.client.execute("CREATE TABLE T;")
    assert entity["commandStatus"] == {"status": "SUCCESS", "message": "done", "queryId": "CTAS_T_1"}
    assert server.requests[1].url.raw_path == b"/status/table/%60T%60/create"


def test_a_command_that_fails_later_is_an_error_with_its_message() -> None:
    server = Server(lambda _: httpx.Response(200, json=[command("ERROR", "no such topic")]))
    with pytest.raises(KsqlError, match=r"no such topic(?s:.)*CREATE TABLE T"):
        server.client.execute("CREATE TABLE T;")


def test_a_command_that_does_not_end_is_an_error_with_its_statement() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/ksql":
            return httpx.Response(200, json=[command("QUEUED")])
        return httpx.Response(200, json={"status": "EXECUTING", "message": ""})

    with pytest.raises(KsqlError, match=r"table/`T`/create(?s:.)*CREATE TABLE T"):
        Server(answer, timeout_s=0.2).client.execute("CREATE TABLE T;")


def test_files_are_applied_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10_c.sql", "2_b.sql", "01_a.sql", "notes.sql", "03_x.txt"):
        (tmp_path / name).write_text(f"CREATE {name[:2].strip('_')};")
    server = Server(lambda _: httpx.Response(200, json=[{"@type": "warning_entity", "message": "exists"}]))
    assert len(server.client.apply_directory(tmp_path)) == 3
    assert [body["ksql"] for body in server.bodies()] == ["CREATE 01;", "CREATE 2;", "CREATE 10;"]


def test_a_refused_file_and_a_folder_without_files_are_named(tmp_path: Path) -> None:
    server = Server(lambda _: httpx.Response(400, json={**NOT_YET, "message": "no"}))
    with pytest.raises(KsqlError, match="no numbered"):
        server.client.apply_directory(tmp_path)
    (tmp_path / "01_a.sql").write_text("CREATE A;")
    with pytest.raises(KsqlError, match=r"^01_a\.sql: "):
        server.client.apply_directory(tmp_path)


def test_a_server_that_is_away_is_not_healthy_and_says_where_it_was_looked_for() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    client = Server(refuse).client
    assert not client.healthy()
    with pytest.raises(KsqlError, match=r"http://ksqldb\.test:8088 did not answer: connection refused"):
        client.info()


@pytest.mark.parametrize(("body", "healthy"), [({"isHealthy": True}, True), ({"isHealthy": False}, False), ([], False)])
def test_health_is_read_from_the_body_because_the_status_is_always_200(body: Any, healthy: bool) -> None:
    assert Server(lambda _: httpx.Response(200, json=body)).client.healthy() is healthy
