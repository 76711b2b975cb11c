"""The recorded topics as columns: the schema of ``events.parquet`` and quick access to it by topic.

Whoever reads records here reads the line's own account: keys, JSON values and headers as the protocol has them. A
record that says nothing usable yields ``MISSING``, never an exception, because the topics also hold what the line
itself found broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

pc: Any = pyarrow.compute
"""Its published types know neither plain Python scalars nor nested columns."""

Ints = NDArray[np.int64]

MISSING = -1
"""Stands in integer columns where a record says nothing; no id and no time is negative."""

MAX_ID = 2**31 - 1
"""Ids are INT in the latency tables."""

EVENTS_SCHEMA = pa.schema(
    [
        ("topic", pa.dictionary(pa.int32(), pa.string())),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("ms", tz="UTC")),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
    ]
)
"""One row per record. ``timestamp`` is the broker's; null key, value or header value means null in Kafka."""


class Events(Protocol):
    """The records of a run, wherever they are kept."""

    def topic(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The topic's records by offset, with the columns asked for (default: all); empty if it has none."""
        ...


class EventsTable:
    """Events in memory, in the EVENTS_SCHEMA."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def topic(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        rows = self._table.filter(pc.equal(self._table["topic"], name))
        return rows.select(list(columns)) if columns is not None else rows


class EventsFile:
    """Events in a Parquet file written topic by topic; only what is asked for is read.

    Raises what pyarrow raises (OSError, pa.ArrowInvalid) if the file is missing or no Parquet.
    """

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        self._groups: dict[str, list[int]] = {}
        column = self._file.schema_arrow.names.index("topic")
        for group in range(self._file.num_row_groups):
            statistics = self._file.metadata.row_group(group).column(column).statistics
            if statistics is not None and statistics.has_min_max and statistics.min == statistics.max:
                topics: list[Any] = [statistics.min]
            else:
                topics = pc.unique(self._file.read_row_group(group, ["topic"])["topic"].cast(pa.string())).to_pylist()
            for topic in topics:
                self._groups.setdefault(topic, []).append(group)

    def topic(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        wanted = list(EVENTS_SCHEMA.names if columns is None else columns)
        read = list(dict.fromkeys(["topic", *wanted]))
        table = self._file.read_row_groups(self._groups.get(name, []), columns=read)
        return table.filter(pc.equal(table["topic"], name)).select(wanted)


def decimal(texts: pa.Array[Any], most_digits: int = 18) -> Ints:
    """Non-negative integers from binary decimal text; MISSING for null and for anything else."""
    strings = pc.cast(texts, pa.string(), safe=False)  # bytes that are no text are no digits either
    fits = pc.less_equal(pc.binary_length(texts), most_digits)
    valid = pc.fill_null(pc.and_(pc.ascii_is_decimal(strings), fits), False)
    out = np.full(len(texts), MISSING, dtype=np.int64)
    out[valid.to_numpy(zero_copy_only=False)] = strings.filter(valid).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return out


def number(text: object) -> int:
    """The number that one key or header value spells in decimal digits; MISSING if it is none, or too long for one."""
    return int(text) if isinstance(text, bytes) and text.isdigit() and len(text) <= 18 else MISSING


def header(table: pa.Table, name: str) -> pa.ChunkedArray[Any]:
    """The header's value (binary) per record; null where the record has none, its last one where it has several."""
    chunks = []
    for headers in table["headers"].chunks:
        flat = pc.list_flatten(headers)
        chosen = pc.equal(pc.struct_field(flat, "key"), name)
        take = np.full(len(headers), MISSING, dtype=np.int64)
        positions = np.flatnonzero(pc.fill_null(chosen, False).to_numpy(zero_copy_only=False))
        take[pc.list_parent_indices(headers).to_numpy()[positions]] = positions
        chunks.append(pc.struct_field(flat, "value").take(pa.array(take, mask=take == MISSING)))
    return pa.chunked_array(chunks, pa.binary())


def header_us(table: pa.Table, name: str) -> Ints:
    """A timing header, epoch microseconds per record; MISSING where there is none."""
    return _concatenate([decimal(chunk) for chunk in header(table, name).chunks])


def ids(events: Events, topic: str, field: str) -> Ints:
    """The id that each of a topic's records is about, by offset: its decimal key, else the integer ``field`` of its
    JSON value, else MISSING.

    Every sound record of the line has the id as its key; values are read only if some record has not.
    """
    keys = events.topic(topic, ["key"])["key"]
    found = _concatenate([decimal(chunk, 10) for chunk in keys.chunks])
    without = np.flatnonzero(found == MISSING)
    if len(without):
        values = events.topic(topic, ["value"])["value"].take(pa.array(without, pa.int64())).to_pylist()
        found[without] = [id_in(value, field) for value in values]
    found[(found < 1) | (found > MAX_ID)] = MISSING
    return found


def ids_in_values(events: Events, topic: str, field: str) -> Ints:
    """The same by the values alone: where nobody dead-letters broken records, a key proves nothing."""
    values = events.topic(topic, ["value"])["value"].to_pylist()
    return np.array([id_in(value, field) for value in values], dtype=np.int64)


def distinct(found: Ints) -> tuple[Ints, Ints]:
    """The distinct values, ascending, and where each stands first. Quick where they ascend already: most do."""
    if (found[1:] > found[:-1]).all():
        return found, np.arange(len(found))
    values, first = np.unique(found, return_index=True)
    return values, first


def json_object(value: bytes | None) -> dict[str, Any] | None:
    """The JSON object in ``value``; None if there is no such thing."""
    try:
        parsed = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return parsed if type(parsed) is dict else None


def id_in(value: bytes | None, field: str) -> int:
    """The id in the JSON object's ``field``; MISSING if it is not a whole number from 1 to MAX_ID."""
    number = (json_object(value) or {}).get(field)
    return number if type(number) is int and 1 <= number <= MAX_ID else MISSING


def _concatenate(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
