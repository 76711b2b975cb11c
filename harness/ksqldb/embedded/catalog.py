"""The engine's words for types, columns, streams and tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

SourceKind = Literal["STREAM", "TABLE"]


@dataclass(frozen=True)
class SqlType:
    """A ksqlDB type. ``name`` is as ksqlDB prints it, ``duckdb`` the column type that holds its values."""

    name: str
    duckdb: str
    element: SqlType | None = None


INTEGER = SqlType("INTEGER", "INTEGER")
BIGINT = SqlType("BIGINT", "BIGINT")
BOOLEAN = SqlType("BOOLEAN", "BOOLEAN")
STRING = SqlType("STRING", "VARCHAR")

SCALARS = {
    "INT": INTEGER,
    "INTEGER": INTEGER,
    "BIGINT": BIGINT,
    "BOOLEAN": BOOLEAN,
    "VARCHAR": STRING,
    "STRING": STRING,
}
"""Scalar types by the names that a declaration may use."""

NUMERIC = (INTEGER, BIGINT)


def array_of(element: SqlType) -> SqlType:
    return SqlType(f"ARRAY<{element.name}>", f"{element.duckdb}[]", element)


@dataclass(frozen=True)
class Column:
    """A column of a source. ``name`` has its final case."""

    name: str
    type: SqlType
    is_key: bool = False


@dataclass(frozen=True)
class Source:
    """A stream or a table.

    ``relation`` is its DuckDB table or view, whose columns are called ``c0, c1, ...`` by their place in ``columns``
    (DuckDB cannot tell names apart that differ only in case); a stream's relation also has ``seq``, the
    order in which its records arrived. ``topics`` are the Kafka topics that its content comes from;
    ``partitions`` is how many partitions it has in ksqlDB.
    """

    name: str
    kind: SourceKind
    columns: tuple[Column, ...]
    relation: str
    topics: frozenset[str]
    partitions: int

    @property
    def key(self) -> Column | None:
        return next((column for column in self.columns if column.is_key), None)

    def position(self, name: str) -> int | None:
        """The place of the column called ``name``, or None."""
        return next((i for i, column in enumerate(self.columns) if column.name == name), None)


@dataclass(frozen=True)
class Definition:
    """A source that was accepted and how to make it: a base stream over ``topic``, or a view with ``query``."""

    source: Source
    topic: str | None = None
    query: str | None = None
    query_prefix: str | None = None


@dataclass
class Catalog:
    """The sources by name. Statements are first planned against a copy, so that a refused request changes nothing."""

    sources: dict[str, Source] = field(default_factory=dict)

    def copy(self) -> Catalog:
        return Catalog(dict(self.sources))

    def add(self, source: Source) -> None:
        self.sources[source.name] = source

    def find(self, name: str) -> Source | None:
        return self.sources.get(name)

    def next_relation(self) -> str:
        """A DuckDB name that no source has yet."""
        return f"r{len(self.sources)}"
