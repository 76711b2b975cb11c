"""The one REST client of ksqlDB, used alike against a real server and the embedded engine.

Shapes and retryable answers are those of ksqlDB 7.x. Every failure is a KsqlError that carries ksqlDB's own
message and the statement it was about.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import orjson

from harness.errors import KsqlError, WaitTimeout
from harness.ksqldb.lexer import LexicalError, split
from harness.ksqldb.table import Table
from harness.waiting import wait_until

STATEMENT_MEDIA = "application/vnd.ksql.v1+json"
STREAM_MEDIA = "application/vnd.ksqlapi.delimited.v1"

# What ksqlDB answers while a new table's query is still being placed on its threads. All else is final.
_NOT_YET = re.compile(
    r"Cannot determine which host contains the required partitions"
    r"|State is (REBALANCING|CREATED)"
    r"|state store is not (currently )?available"
    r"|is not running\. State is REBALANCING"
    r"|Partitions? .* (is|are) rebalancing"
    r"|may have migrated to another instance",
    re.IGNORECASE,
)
_UNDER_WAY = frozenset({"QUEUED", "PARSING", "EXECUTING"})
_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|`[^`]+`")
_NUMBERED = re.compile(r"\d+_.+\.sql")


class KsqlClient:
    """A connection to one ksqlDB server. Close it, or use it as a context manager.

    ``timeout_s`` bounds each request, and separately the waiting for a command to be carried out and for a
    new table to become readable.
    """

    def __init__(self, url: str, *, timeout_s: float = 30.0, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._http = httpx.Client(base_url=self.url, timeout=timeout_s, transport=transport, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def info(self) -> dict[str, Any]:
        """The server's ``version``, ``kafkaClusterId``, ``ksqlServiceId`` and ``serverStatus``."""
        answer = self._request("GET", "/info", accept=STATEMENT_MEDIA)
        if not isinstance(answer, dict) or not isinstance(answer.get("KsqlServerInfo"), dict):
            raise KsqlError(f"{self.url}/info is not ksqlDB's: {str(answer)[:200]}")
        return dict(answer["KsqlServerInfo"])

    def healthy(self) -> bool:
        """Whether the server answers and calls itself healthy. Never raises."""
        try:
            answer = self._request("GET", "/healthcheck", accept=STATEMENT_MEDIA)
        except KsqlError:
            return False
        return isinstance(answer, dict) and answer.get("isHealthy") is True

    def execute(self, statements: str, properties: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Carry out DDL, one statement after another, each finished before the next; ksqlDB's answers.

        ``auto.offset.reset`` is ``earliest`` unless ``properties`` say otherwise. Raises KsqlError at the first
        refusal; the statements before it stay in force.
        """
        try:
            parts = split(statements)
        except LexicalError as error:
            raise KsqlError(f"not ksqlDB statements: {error}") from error
        return [entity for part in parts for entity in self._execute_one(part, properties or {})]

    def apply_directory(self, directory: Path) -> list[dict[str, Any]]:
        """Carry out the files ``NN_name.sql`` of ``directory`` in the order of their numbers.

        Raises KsqlError, naming the file, at the first refusal or when there is no such file.
        """
        files = sorted(
            (path for path in directory.glob("*.sql") if _NUMBERED.fullmatch(path.name)),
            key=lambda path: (int(path.name.split("_")[0]), path.name),
        )
        if not files:
            raise KsqlError(f"no numbered .sql file in {directory}", hint="files are named like 01_streams.sql")
        entities: list[dict[str, Any]] = []
        for path in files:
            try:
                entities += self.execute(path.read_text(encoding="utf-8"))
            except KsqlError as error:
                raise KsqlError(f"{path.name}: {error}", hint=error.hint) from error
        return entities

    def pull(self, query: str) -> Table:
        """The result of a pull query, or all rows of the table that ``query`` names.

        Right after a table was created, and while ksqlDB moves partitions, it cannot answer yet: such refusals
        are asked again until ``timeout_s`` has passed. Raises KsqlError on every other one, and when the
        answer breaks off with an error after rows were sent.
        """
        sql = f"SELECT * FROM {query};" if _TABLE_NAME.fullmatch(query.strip()) else query
        deadline = time.monotonic() + self.timeout_s
        while True:
            outcome = self._pull_once(sql)
            if isinstance(outcome, Table):
                return outcome
            if not _NOT_YET.search(str(outcome.get("message"))) or time.monotonic() >= deadline:
                raise _refusal(outcome, sql)
            time.sleep(0.1)  # ksqlDB gives no event for "placed now"

    def _pull_once(self, sql: str) -> Table | dict[str, Any]:
        """The table, or ksqlDB's error."""
        body = {"sql": sql, "properties": {"auto.offset.reset": "earliest"}}
        answer = self._send("POST", "/query-stream", accept=STREAM_MEDIA, body=body, about=sql)
        problem = _problem(answer)
        if problem is not None:
            return problem
        lines = answer.content.splitlines()
        try:
            header = orjson.loads(lines[0])
            columns, types = list(header["columnNames"]), list(header["columnTypes"])
            rows = [orjson.loads(line) for line in lines[1:]]
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise KsqlError(_about(f"{self.url}/query-stream gave an unreadable answer: {error!r}", sql)) from error
        for row in rows:
            if isinstance(row, dict):
                return row  # the status was sent before it broke off
            if not isinstance(row, list) or len(row) != len(columns):
                raise KsqlError(_about(f"a row does not fit the columns {columns}: {str(row)[:200]}", sql))
        return Table(columns, types, rows)

    def _execute_one(self, statement: str, properties: Mapping[str, str]) -> list[dict[str, Any]]:
        body = {
            "ksql": statement + ";",
            "streamsProperties": {"auto.offset.reset": "earliest", **properties},
        }
        entities = self._request("POST", "/ksql", accept=STATEMENT_MEDIA, body=body, about=statement)
        if not isinstance(entities, list) or not all(isinstance(entity, dict) for entity in entities):
            raise KsqlError(_about(f"{self.url}/ksql gave an unexpected answer: {str(entities)[:200]}", statement))
        for entity in entities:
            if "commandStatus" in entity:
                entity["commandStatus"] = self._finished(entity, statement)
        return entities

    def _finished(self, entity: dict[str, Any], statement: str) -> dict[str, Any]:
        """The final status of a command, which ksqlDB may still be working on when it answers."""
        status: dict[str, Any] = entity["commandStatus"]
        if status.get("status") in _UNDER_WAY:
            path = f"/status/{quote(str(entity['commandId']), safe='/')}"

            def ended() -> dict[str, Any] | None:
                now = self._request("GET", path, accept=STATEMENT_MEDIA, about=statement)
                return now if isinstance(now, dict) and now.get("status") not in _UNDER_WAY else None

            try:
                status = wait_until(ended, self.timeout_s, f"ksqlDB's command {entity['commandId']}")
            except WaitTimeout as error:
                raise KsqlError(_about(str(error), statement)) from error
        if status.get("status") != "SUCCESS":
            raise KsqlError(_about(f"ksqlDB: {status.get('status')}: {status.get('message')}", statement))
        return status

    def _request(
        self, method: str, path: str, *, accept: str, body: dict[str, Any] | None = None, about: str = ""
    ) -> Any:
        answer = self._send(method, path, accept=accept, body=body, about=about)
        problem = _problem(answer)
        if problem is not None:
            raise _refusal(problem, about)
        try:
            return orjson.loads(answer.content)
        except ValueError as error:
            raise KsqlError(_about(f"{self.url}{path} did not answer in JSON: {answer.text[:200]}", about)) from error

    def _send(self, method: str, path: str, *, accept: str, body: dict[str, Any] | None, about: str) -> httpx.Response:
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = STATEMENT_MEDIA
        content = None if body is None else orjson.dumps(body)
        try:
            return self._http.request(method, path, headers=headers, content=content)
        except httpx.HTTPError as error:
            raise KsqlError(
                _about(f"ksqlDB at {self.url} did not answer: {error or type(error).__name__}", about),
                hint="is the server running, and is this its address?",
            ) from error


def _problem(answer: httpx.Response) -> dict[str, Any] | None:
    """ksqlDB's error JSON, or what stands for it when something else answered; None when all is well."""
    if answer.status_code == httpx.codes.OK:
        return None
    try:
        problem = orjson.loads(answer.content)
    except ValueError:
        problem = answer.text
    if not isinstance(problem, dict):
        problem = {"message": str(problem)[:500]}
    return {"error_code": answer.status_code, **problem}


def _refusal(problem: dict[str, Any], about: str) -> KsqlError:
    return KsqlError(_about(f"ksqlDB ({problem.get('error_code')}): {problem.get('message', problem)}", about))


def _about(message: str, statement: str) -> str:
    return f"{message}\n  in: {statement.strip()}" if statement.strip() else message
