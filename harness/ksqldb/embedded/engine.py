"""The embedded engine: statements in, answers out. HTTP is the server's business."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from harness.ksqldb.embedded.catalog import Catalog, Column, Definition
from harness.ksqldb.embedded.errors import BAD_REQUEST, QUERY_ENDPOINT, SERVER_ERROR, Refusal, unsupported
from harness.ksqldb.embedded.grammar import CreateAs, CreateStream, PullQuery, parse
from harness.ksqldb.embedded.records import RecordSource, SourceFailure, UnknownTopic
from harness.ksqldb.embedded.store import StreamTable, open_database
from harness.ksqldb.lexer import LexicalError, split

VERSION = "7.6.1-embedded"
ROWS_PER_BATCH = 20_000

_OFFSET_RESET = ("auto.offset.reset", "ksql.streams.auto.offset.reset")


@dataclass(frozen=True)
class Rows:
    """The result of a pull query: its ``columns``, and its rows as JSON text in blocks of many rows.

    Each row is a JSON array between the ``before`` and ``after`` that were asked for.
    """

    columns: tuple[Column, ...]
    blocks: Iterator[bytes]


class Engine:
    """Streams and tables over the topics of ``records``. All methods may be called from any thread.

    All queries read their topics from the earliest record: the engine is a server whose
    ``auto.offset.reset`` is ``earliest``, and it refuses a statement that asks for anything else.
    """

    def __init__(self, records: RecordSource) -> None:
        self._records = records
        self._database = open_database()
        self._catalog = Catalog()
        self._base: dict[str, StreamTable] = {}
        self._statuses: dict[str, dict[str, Any]] = {}
        self._commands = 0
        self._ddl = threading.Lock()

    def close(self) -> None:
        self._records.close()
        self._database.close()

    def problem(self) -> str | None:
        """Why the engine cannot answer at present, or None."""
        return self._records.problem()

    def cluster_id(self) -> str:
        """Kafka's id of its cluster. Raises Refusal with code 50000 when Kafka does not answer."""
        try:
            return self._records.cluster_id()
        except SourceFailure as error:
            raise Refusal(str(error), code=SERVER_ERROR) from error

    def status(self, command_id: str) -> dict[str, Any] | None:
        """The status of a command that was carried out, by ksqlDB's id for it."""
        return self._statuses.get(command_id)

    def execute(self, text: str, properties: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Carry out the statements of ``text``; ksqlDB's answer to each.

        All of them are checked before the first one is carried out, so a refused request changes nothing.
        Raises Refusal.
        """
        _check_properties(properties)
        statements = [(statement, parse(statement)) for statement in _split(text)]
        with self._ddl:
            planned = self._catalog.copy()
            steps: list[tuple[str, Definition | str]] = []
            for statement, parsed in statements:
                try:
                    steps.append((statement, self._plan(parsed, planned)))
                except Refusal as refusal:
                    refusal.statement = refusal.statement or statement
                    raise
            return [self._carry_out(statement, step) for statement, step in steps]

    def pull(self, text: str, properties: Mapping[str, Any], before: str, after: str) -> Rows:
        """The answer to a pull query over every record that was acknowledged before this call. Raises Refusal."""
        _check_properties(properties)
        statements = _split(text)
        if len(statements) != 1:
            raise Refusal(f"Expected exactly one KSQL statement; found {len(statements)} instead", code=BAD_REQUEST)
        query = parse(statements[0])
        if not isinstance(query, PullQuery):
            raise Refusal("Only a SELECT can be sent here.", code=BAD_REQUEST, statement=statements[0])
        from harness.ksqldb.embedded.plan import plan_pull

        try:
            pull = plan_pull(query, self._catalog)
        except Refusal as refusal:
            refusal.statement = statements[0]
            raise
        self._catch_up(pull.topics)
        values = " || ',' || ".join(f"coalesce(to_json(c{i})::VARCHAR, 'null')" for i in range(len(pull.columns)))
        sql = f"SELECT {_quoted(before + '[')} || {values} || {_quoted(']' + after)} AS line FROM ({pull.sql})"
        blocks = self._blocks(sql)
        # The query starts here, so that what it fails on at once is answered as an error.
        first = next(blocks, b"")
        return Rows(pull.columns, chain([first], blocks))

    def _plan(self, parsed: CreateStream | CreateAs | PullQuery, planned: Catalog) -> Definition | str:
        """What to do for a statement: make a source, or say why there is nothing to do."""
        # sqlglot takes a quarter of a second to load: not before the first statement.
        from harness.ksqldb.embedded.plan import plan_query, plan_stream

        if isinstance(parsed, PullQuery):
            raise Refusal(
                "The following statement types should be issued to the websocket endpoint '/query': SELECT",
                code=QUERY_ENDPOINT,
            )
        existing = planned.find(parsed.name)
        if existing is not None:
            wanted = "stream" if isinstance(parsed, CreateStream) or parsed.kind == "STREAM" else "table"
            reason = f"A {existing.kind.lower()} with the same name already exists"
            if parsed.if_not_exists:
                return f"Cannot add {wanted} `{parsed.name}`: {reason}."
            raise Refusal(f"Cannot add {wanted} '{parsed.name}': {reason}")
        if isinstance(parsed, CreateStream):
            definition = plan_stream(parsed, planned, self._partition_count)
        else:
            definition = plan_query(parsed, planned)
        planned.add(definition.source)
        return definition

    def _carry_out(self, statement: str, step: Definition | str) -> dict[str, Any]:
        if isinstance(step, str):
            return {"@type": "warning_entity", "statementText": statement, "message": step, "warnings": []}
        source = step.source
        kind = source.kind.lower()
        query_id = None
        message = f"{kind.capitalize()} created"
        if step.topic is not None:
            table = StreamTable(source, step.topic, self._database)
            try:
                self._records.follow(step.topic, table)
            except (SourceFailure, UnknownTopic) as error:
                table.drop()
                raise Refusal(f"{step.topic}: {error}", code=SERVER_ERROR, statement=statement) from error
            self._base[source.name] = table
        else:
            self._database.execute(f"CREATE VIEW {source.relation} AS {step.query}")
            query_id = f"{step.query_prefix}_{source.name}_{self._commands + 1}"
            message = f"Created query with ID {query_id}"
        # Copied, not changed: pull queries read the catalog without a lock.
        catalog = self._catalog.copy()
        catalog.add(source)
        self._catalog = catalog
        self._commands += 1
        command_id = f"{kind}/`{source.name}`/create"
        status = {"status": "SUCCESS", "message": message, "queryId": query_id}
        self._statuses[command_id] = status
        return {
            "@type": "currentStatus",
            "statementText": statement,
            "commandId": command_id,
            "commandStatus": status,
            "commandSequenceNumber": self._commands,
            "warnings": [],
        }

    def _partition_count(self, topic: str) -> int:
        try:
            return self._records.partition_count(topic)
        except UnknownTopic:
            raise Refusal(f"Kafka topic does not exist: {topic}") from None
        except SourceFailure as error:
            raise Refusal(str(error), code=SERVER_ERROR) from error

    def _catch_up(self, topics: frozenset[str]) -> None:
        try:
            self._records.catch_up(topics)
        except SourceFailure as error:
            raise Refusal(str(error), code=SERVER_ERROR) from error
        for table in list(self._base.values()):
            if table.topic in topics:
                table.settle()

    def _blocks(self, sql: str) -> Iterator[bytes]:
        """The text of the single string column that ``sql`` gives, without making Python strings of it."""
        cursor = self._database.cursor()
        try:
            for batch in cursor.sql(sql).to_arrow_reader(ROWS_PER_BATCH):
                yield _text_of(batch.column(0))
        finally:
            cursor.close()


def _text_of(strings: Any) -> bytes:
    """All strings of an Arrow string array (without nulls), one after another."""
    import pyarrow as pa

    if not len(strings):
        return b""
    width = 8 if pa.types.is_large_string(strings.type) else 4
    _, places, text = strings.buffers()
    first, last = (
        int.from_bytes(places.slice((strings.offset + i) * width, width).to_pybytes(), "little")
        for i in (0, len(strings))
    )
    data: bytes = text.slice(first, last - first).to_pybytes()
    return data


def _quoted(text: str) -> str:
    """A DuckDB string literal, line ends included."""
    return "'" + text.replace("'", "''") + "'"


def _split(text: str) -> list[str]:
    try:
        return split(text)
    except LexicalError as error:
        raise Refusal(str(error), statement=text) from error


def _check_properties(properties: Mapping[str, Any]) -> None:
    for name, value in properties.items():
        if name not in _OFFSET_RESET:
            raise unsupported(f"the property {name}")
        if str(value).lower() != "earliest":
            raise unsupported(f"{name}={value}: it reads every topic from its earliest record")
