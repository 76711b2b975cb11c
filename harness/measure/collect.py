"""Reading the latency tables once they have caught up with what the topics say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from harness.errors import KsqlError
from harness.measure.events import Ints
from harness.measure.facts import Facts

Row = Sequence[Any]

ORDER_LATENCY, PIZZA_LATENCY = "order_latency", "pizza_latency"


class PulledTable(Protocol):
    """The answer to a pull query: upper-case column names, and rows of JSON values."""

    @property
    def columns(self) -> Sequence[str]: ...

    @property
    def rows(self) -> Sequence[Row]: ...


class TableSource(Protocol):
    """Whatever answers pull queries; raises KsqlError if it cannot."""

    def pull(self, query: str) -> PulledTable: ...


@dataclass(frozen=True)
class LatencyTable:
    """A latency table as ksqlDB gave it: its columns in its order, null as None, times in milliseconds.

    Rows are sorted by STARTTIMESTAMP and then by id, for pull queries know no order.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def column(self, name: str) -> list[Any]:
        """Its values by row. Raises KsqlError if the table has no such column."""
        if name not in self.columns:
            raise KsqlError(f"no column {name}; there are {', '.join(self.columns)}")
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


@dataclass(frozen=True)
class Expected:
    """Ids that a table must hold: ``started`` with a row, those also in ``done`` with an end."""

    started: Ints
    done: Ints


@dataclass(frozen=True)
class Collected:
    """``complete`` if both tables hold everything expected; if not, ``lacking`` says what they lack."""

    order_latency: LatencyTable
    pizza_latency: LatencyTable
    complete: bool
    lacking: tuple[str, ...]


def expected_of(facts: Facts) -> dict[str, Expected]:
    """What each latency table must hold: the orders and pizzas that were accepted, as far as the topics show them.

    Ids that no order holds may stand in the tables or not: a stranger's record need not be one that ksqlDB can read.
    """
    orders = facts.orders.order_ids
    pizzas = np.arange(1, facts.orders.pizzas + 1, dtype=np.int64)
    return {
        table: Expected(np.intersect1d(facts.seen(start), known), np.intersect1d(facts.seen(done), known))
        for table, start, done, known in (
            (ORDER_LATENCY, "order-processing", "order-done", orders),
            (PIZZA_LATENCY, "dough-machine", "pizza-done", pizzas),
        )
    }


def collect(
    source: TableSource,
    expected: dict[str, Expected],
    timeout_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Collected:
    """Read both tables until they hold what is expected, at most ``timeout_s`` seconds; then take them as they are.

    Two equal reads would prove nothing, as ksqlDB commits in intervals: only what the topics say tells when a table
    is complete. Raises KsqlError if a table could not be read at all.
    """
    deadline = clock() + timeout_s
    tables: dict[str, LatencyTable] = {}
    lacking: dict[str, str] = {}
    for name, id_column in ((ORDER_LATENCY, "ORDERID"), (PIZZA_LATENCY, "PIZZAID")):
        while True:
            began = clock()
            try:
                tables[name] = _sorted(source.pull(name), id_column)
                lacking[name] = _lacking(name, tables[name], id_column, expected[name])
            except KsqlError:
                if name not in tables and clock() >= deadline:
                    raise
            if (name in tables and not lacking[name]) or clock() >= deadline:
                break
            # A large table takes long to read: leave the server at least as long between two reads.
            sleep(max(0.0, min(max(0.1, clock() - began), deadline - clock())))
    shortfalls = tuple(text for text in lacking.values() if text)
    return Collected(tables[ORDER_LATENCY], tables[PIZZA_LATENCY], not shortfalls, shortfalls)


def _sorted(table: PulledTable, id_column: str) -> LatencyTable:
    columns = tuple(table.columns)
    found = LatencyTable(columns, tuple(tuple(row) for row in table.rows))
    starts, ids = found.column("STARTTIMESTAMP"), found.column(id_column)

    def key(row: int) -> tuple[bool, int, int]:
        return starts[row] is None, starts[row] or 0, ids[row]

    return LatencyTable(columns, tuple(found.rows[row] for row in sorted(range(len(ids)), key=key)))


def _lacking(name: str, table: LatencyTable, id_column: str, expected: Expected) -> str:
    ids = np.array(table.column(id_column), dtype=np.int64)
    ended = np.array([end is not None for end in table.column("ENDTIMESTAMP")], dtype=np.bool_)
    rows = len(np.setdiff1d(expected.started, ids))
    ends = len(np.setdiff1d(np.intersect1d(expected.started, expected.done), ids[ended]))
    if not rows and not ends:
        return ""
    return f"{name} lacks {rows} of {len(expected.started)} rows and {ends} ends"
