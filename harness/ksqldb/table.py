"""What a pull query returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of a ksqlDB table as they were at one moment, in no particular order.

    ``columns`` are ksqlDB's names (upper-case unless back-quoted), ``types`` its type names (``INTEGER``,
    ``BIGINT``, ``STRING``, ``ARRAY<STRING>``, ...), ``rows`` one list of JSON values per row.
    """

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]

    def records(self) -> list[dict[str, Any]]:
        """The rows as dictionaries by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]
