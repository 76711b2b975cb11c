"""An engine over topics in memory, spoken to over its REST endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import httpx
import orjson

from harness.ksqldb.client import KsqlClient
from harness.ksqldb.embedded.engine import Engine
from harness.ksqldb.embedded.records import Chunk, Sink, SourceFailure, UnknownTopic
from harness.ksqldb.embedded.server import application
from harness.ksqldb.table import Table

URL = "http://ksqldb.test"


class MemoryTopics:
    """A RecordSource of plain lists. ``failure`` makes it fail as a lost broker would."""

    def __init__(self, topics: Iterable[str], partitions: int = 1) -> None:
        self.failure: str | None = None
        self.failure_to_follow: str | None = None
        self._values: dict[str, list[list[bytes | None]]] = {}
        self._sinks: dict[str, list[Sink]] = {}
        for topic in topics:
            self.create(topic, partitions)

    def create(self, topic: str, partitions: int) -> None:
        self._values[topic] = [[] for _ in range(partitions)]
        self._sinks[topic] = []

    def send(self, topic: str, *records: Any, partition: int = 0) -> None:
        """Append records: bytes and None as they are, anything else as JSON. They arrive together."""
        values = [r if isinstance(r, bytes) or r is None else orjson.dumps(r) for r in records]
        log = self._values[topic][partition]
        start = len(log)
        log.extend(values)
        for sink in self._sinks[topic]:
            sink.accept(Chunk(partition, range(start, len(log)), values))

    def cluster_id(self) -> str:
        self._check()
        return "memory-cluster"

    def partition_count(self, topic: str) -> int:
        self._check()
        if topic not in self._values:
            raise UnknownTopic(topic)
        return len(self._values[topic])

    def follow(self, topic: str, sink: Sink) -> None:
        """As Kafka's does: all sinks of the topic are given its records again from the first one on."""
        if self.failure_to_follow is not None:
            raise SourceFailure(self.failure_to_follow)
        self._sinks[topic].append(sink)
        for other in self._sinks[topic]:
            for partition, log in enumerate(self._values[topic]):
                if log:
                    other.accept(Chunk(partition, range(len(log)), list(log)))

    def catch_up(self, topics: frozenset[str]) -> None:
        self._check()

    def problem(self) -> str | None:
        return self.failure

    def close(self) -> None:
        """Nothing runs."""

    def _check(self) -> None:
        if self.failure is not None:
            raise SourceFailure(self.failure)


class AsgiBridge(httpx.BaseTransport):
    """Lets a synchronous client speak to an ASGI application in the same process."""

    def __init__(self, app: Any) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport) as client:
                return await client.request(
                    request.method, request.url, headers=request.headers, content=request.read()
                )

        answer = asyncio.run(ask())
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


class Bench:
    """One engine with its topics, a KsqlClient for it, and a bare HTTP client."""

    def __init__(self, topics: Sequence[str], partitions: int = 1) -> None:
        self.topics = MemoryTopics(topics, partitions)
        self.engine = Engine(self.topics)
        transport = AsgiBridge(application(self.engine))
        self.client = KsqlClient(URL, timeout_s=5.0, transport=transport)
        self.http = httpx.Client(base_url=URL, transport=transport)

    def close(self) -> None:
        self.client.close()
        self.http.close()
        self.engine.close()

    def send(self, topic: str, *records: Any, partition: int = 0) -> None:
        self.topics.send(topic, *records, partition=partition)

    def run(self, statements: str) -> list[dict[str, Any]]:
        return self.client.execute(statements)

    def table(self, query: str) -> Table:
        """The answer to a pull query with its rows sorted by their first column."""
        found = self.client.pull(query)
        return Table(found.columns, found.types, sorted(found.rows, key=lambda row: str(row[0]).rjust(20)))

    def rows(self, query: str) -> list[list[Any]]:
        return self.table(query).rows

    def refusal(self, statement: str, path: str = "/ksql") -> dict[str, Any]:
        """ksqlDB's error JSON for a statement that is to be refused."""
        key = "sql" if path == "/query-stream" else "ksql"
        accept = "application/json" if path != "/query-stream" else "application/vnd.ksqlapi.delimited.v1"
        answer = self.http.post(path, json={key: statement}, headers={"Accept": accept})
        assert answer.status_code == 400, answer.text
        body: dict[str, Any] = answer.json()
        return body
