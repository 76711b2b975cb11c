"""Latency tables: the REST client of ksqlDB, and the engine that stands in where no server is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.ksqldb.client import KsqlClient
    from harness.ksqldb.table import Table

__all__ = ["KsqlClient", "Table"]


def __getattr__(name: str) -> Any:
    """The public names, loaded when asked for: the engine's process needs no HTTP client, and is to start quickly."""
    if name == "KsqlClient":
        from harness.ksqldb.client import KsqlClient

        return KsqlClient
    if name == "Table":
        from harness.ksqldb.table import Table

        return Table
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
