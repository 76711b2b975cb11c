"""The rows of the streams over topics, in DuckDB."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import duckdb

from harness.ksqldb.embedded.catalog import Source, SqlType
from harness.ksqldb.embedded.decode import JsonDecoder
from harness.ksqldb.embedded.records import Chunk

if TYPE_CHECKING:
    import pyarrow as pa

processing_log = logging.getLogger("harness.ksqldb.embedded.processing")
"""ksqlDB's processing log: which records were dropped, and why."""

LOGGED_DROPS_PER_BATCH = 10
LARGEST_BATCH = 50_000

# Java's integer overflow, for the SQL that ``expressions`` makes. The argument is of the next wider type.
_MACROS = (
    "CREATE MACRO wrap32(x) AS CAST(((x + 2147483648) & 4294967295) - 2147483648 AS INTEGER)",
    "CREATE MACRO wrap64(x) AS CAST(((x + 9223372036854775808::HUGEINT) & 18446744073709551615::HUGEINT)"
    " - 9223372036854775808::HUGEINT AS BIGINT)",
)


def open_database() -> duckdb.DuckDBPyConnection:
    """An empty database in memory, on two threads, that never writes to the disk."""
    database = duckdb.connect(":memory:", config={"threads": 2, "temp_directory": ""})
    for macro in _MACROS:
        database.execute(macro)
    return database


class StreamTable:
    """A base stream: gathers the records of its topic and works them into DuckDB in batches.

    It is a Sink. ``accept`` only puts records aside; ``settle`` decodes and inserts what was put aside.
    """

    def __init__(self, source: Source, topic: str, connection: duckdb.DuckDBPyConnection) -> None:
        self.source = source
        self.topic = topic
        self._decoder = JsonDecoder(source.columns)
        self._connection = connection.cursor()
        self._waiting: list[Chunk] = []
        self._next_offset: dict[int, int] = {}
        self._next_seq = 0
        self._dropped = 0
        self._put_aside = threading.Lock()
        self._work_in = threading.Lock()
        columns = ", ".join(f"c{place} {column.type.duckdb}" for place, column in enumerate(source.columns))
        self._connection.execute(f"CREATE TABLE {source.relation} ({columns}, seq BIGINT NOT NULL)")

    @property
    def dropped(self) -> int:
        """How many records could not be read as this stream's columns."""
        return self._dropped

    def drop(self) -> None:
        """Take the table out of the database again."""
        self._connection.execute(f"DROP TABLE {self.source.relation}")

    def accept(self, chunk: Chunk) -> None:
        with self._put_aside:
            seen = self._next_offset.get(chunk.partition, 0)
            if chunk.offsets[-1] < seen:
                return
            if chunk.offsets[0] < seen:
                fresh = next(place for place, offset in enumerate(chunk.offsets) if offset >= seen)
                chunk = Chunk(chunk.partition, chunk.offsets[fresh:], chunk.values[fresh:])
            self._next_offset[chunk.partition] = chunk.offsets[-1] + 1
            self._waiting.append(chunk)

    def settle(self) -> None:
        with self._work_in:
            with self._put_aside:
                chunks, self._waiting = self._waiting, []
            while chunks:
                batch = [chunks.pop(0)]
                size = len(batch[0].values)
                while chunks and size + len(chunks[0].values) <= LARGEST_BATCH:
                    size += len(chunks[0].values)
                    batch.append(chunks.pop(0))
                self._insert(batch)

    def _insert(self, chunks: list[Chunk]) -> None:
        decoded = self._decoder.decode([value for chunk in chunks for value in chunk.values])
        if decoded.dropped:
            self._report(chunks, decoded.dropped)
        if not decoded.kept:
            return
        import pyarrow as pa  # takes half a second to load, and a server without records needs none of it

        arrays = [
            pa.array(values, type=_arrow_type(column.type))
            for values, column in zip(decoded.columns, self.source.columns, strict=True)
        ]
        names = [f"c{place}" for place in range(len(arrays))]
        arrays.append(pa.array(range(self._next_seq, self._next_seq + decoded.kept), type=pa.int64()))
        self._connection.register("batch", pa.Table.from_arrays(arrays, [*names, "seq"]))
        self._connection.execute(f"INSERT INTO {self.source.relation} SELECT * FROM batch")
        self._connection.unregister("batch")
        self._next_seq += decoded.kept

    def _report(self, chunks: list[Chunk], dropped: list[tuple[int, str]]) -> None:
        """Say which records were dropped; in a flood of them the first ones, and how many more."""
        self._dropped += len(dropped)
        places = [(chunk.partition, offset) for chunk in chunks for offset in chunk.offsets]
        for place, reason in dropped[:LOGGED_DROPS_PER_BATCH]:
            partition, offset = places[place]
            processing_log.warning(
                "record-dropped",
                extra={
                    "fields": {
                        "stream": self.source.name,
                        "topic": self.topic,
                        "partition": partition,
                        "offset": offset,
                        "reason": reason,
                    }
                },
            )
        if len(dropped) > LOGGED_DROPS_PER_BATCH:
            partition, offset = places[dropped[-1][0]]
            processing_log.warning(
                "more-records-dropped",
                extra={
                    "fields": {
                        "stream": self.source.name,
                        "topic": self.topic,
                        "count": len(dropped) - LOGGED_DROPS_PER_BATCH,
                        "last_partition": partition,
                        "last_offset": offset,
                    }
                },
            )


def _arrow_type(sql_type: SqlType) -> pa.DataType:
    import pyarrow as pa

    if sql_type.element is not None:
        return pa.list_(_arrow_type(sql_type.element))
    scalars: dict[str, pa.DataType] = {
        "INTEGER": pa.int32(),
        "BIGINT": pa.int64(),
        "BOOLEAN": pa.bool_(),
        "STRING": pa.string(),
    }
    return scalars[sql_type.name]
