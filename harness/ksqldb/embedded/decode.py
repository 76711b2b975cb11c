"""JSON records as ksqlDB reads them.

Two ways lead to the same values. Records whose values have just the declared types, which is nearly all of them,
are decoded by orjson and checked column by column. Every other record is read again, exactly (numbers of any
size and precision), and coerced by ksqlDB's rules or dropped with a reason.

The rules were read in KsqlJsonDeserializer and JsonSerdeUtils of ksqlDB: a field is looked up by its exact name and
then by its name in capitals; what is missing is null; INTEGER and BIGINT take any number (fractions are cut
off, the rest wraps around) and a string that is a whole number; BOOLEAN takes only booleans, STRING anything,
ARRAY only arrays. One value that cannot be coerced drops its whole record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import compress
from operator import itemgetter
from typing import Any

import orjson

from harness.ksqldb.embedded.catalog import BIGINT, BOOLEAN, INTEGER, STRING, Column, SqlType

_NULL = type(None)
_WHOLE_NUMBER = re.compile(r"[+-]?\d+")
_BITS = {INTEGER: 32, BIGINT: 64}
_MOST_SHAPES = 1000
_NO_FRACTION_BEYOND = 64  # 10**64 is a multiple of 2**64, so larger exponents wrap around to zero


class Unreadable(ValueError):
    """ksqlDB would drop this record; the message says why."""


@dataclass
class Decoded:
    """The rows of a batch, by column, and what was dropped: (place in the batch, reason).

    ``kept`` is the number of rows. Records that are null, or the JSON literal null, give no row and are not dropped: no
    query that the engine supports can see them.
    """

    columns: list[list[Any]]
    kept: int
    dropped: list[tuple[int, str]] = field(default_factory=list)


class JsonDecoder:
    """Decodes the records of one stream."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)
        self._names = tuple(column.name for column in columns)
        self._are_clean = tuple(_column_check(column.type) for column in columns)
        self._is_clean = tuple(_value_check(column.type) for column in columns)
        self._shapes: dict[tuple[str, ...], tuple[str | None, ...]] = {}

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a batch. One bad record never affects another."""
        records: list[dict[str, Any]] = []
        places: list[int] = []
        unclean: set[int] = set()
        stand_in: dict[str, Any] = {}
        for place, value in enumerate(values):
            if value is None:
                continue
            try:
                record = orjson.loads(value)
            except ValueError:
                record = False  # no record, and no null either
            if type(record) is dict:
                stand_in = record
            elif record is None:
                continue
            else:
                # Another record keeps its place until it is read exactly.
                unclean.add(len(records))
                record = stand_in
            records.append(record)
            places.append(place)
        columns = self._by_column(records)
        unclean |= self._unclean_rows(columns)
        if not unclean:
            return Decoded(columns, len(records))
        dropped = []
        stays = [True] * len(records)
        for row in sorted(unclean):
            place = places[row]
            value = values[place]
            assert value is not None
            try:
                coerced = self.coerce(value)
            except Unreadable as reason:
                dropped.append((place, str(reason)))
                coerced = None
            if coerced is None:
                stays[row] = False
                continue
            for column, item in zip(columns, coerced, strict=True):
                column[row] = item
        columns = [list(compress(column, stays)) for column in columns]
        return Decoded(columns, sum(stays), dropped)

    def coerce(self, value: bytes) -> list[Any] | None:
        """One record by ksqlDB's rules, whatever its types; None for a null. Raises Unreadable."""
        try:
            fields = _exact_json(value)
            if fields is None:
                return None
            if not isinstance(fields, dict):
                raise Unreadable(f"Can't convert type. sourceType: {_json_type(fields)}, requiredType: STRUCT, path: $")
            return [
                _coerce(None if name is None else fields[name], column.type, f"$.{column.name}")
                for name, column in zip(self._lookup(tuple(fields)), self._columns, strict=True)
            ]
        except RecursionError as error:
            raise Unreadable("The JSON is nested too deeply.") from error

    def _by_column(self, records: list[dict[str, Any]]) -> list[list[Any]]:
        """The values of each column. Records of one shape, which is the usual case, are read a column at a time."""
        lookups = {self._lookup(shape) for shape in set(map(tuple, records))}
        if len(lookups) == 1:
            (names,) = lookups
            return [[None] * len(records) if name is None else list(map(itemgetter(name), records)) for name in names]
        rows = [[None if name is None else record[name] for name in self._lookup(tuple(record))] for record in records]
        return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in self._names]

    def _lookup(self, names: tuple[str, ...]) -> tuple[str | None, ...]:
        """For each column the field of a record with these field ``names`` that holds it."""
        found = self._shapes.get(names)
        if found is None:
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            present = set(names)
            by_capitals = {name.upper(): name for name in names}
            found = tuple(name if name in present else by_capitals.get(name) for name in self._names)
            self._shapes[names] = found
        return found

    def _unclean_rows(self, columns: list[list[Any]]) -> set[int]:
        unclean: set[int] = set()
        for column, are_clean, is_clean in zip(columns, self._are_clean, self._is_clean, strict=True):
            if not are_clean(column):
                unclean.update(row for row, value in enumerate(column) if not is_clean(value))
        return unclean


def _value_check(sql_type: SqlType) -> Callable[[Any], bool]:
    """Whether a value, as orjson gives it, needs no coercion."""
    if sql_type in _BITS:
        least, most = -(1 << (_BITS[sql_type] - 1)), (1 << (_BITS[sql_type] - 1)) - 1
        return lambda value: value is None or (type(value) is int and least <= value <= most)
    if sql_type == BOOLEAN:
        return lambda value: value is None or type(value) is bool
    if sql_type == STRING:
        return lambda value: value is None or type(value) is str
    assert sql_type.element is not None
    element_is_clean = _value_check(sql_type.element)
    return lambda value: value is None or (type(value) is list and all(map(element_is_clean, value)))


def _column_check(sql_type: SqlType) -> Callable[[list[Any]], bool]:
    """The same for all values of a column at once; it may say no to a clean column, never yes to an unclean one."""
    is_clean = _value_check(sql_type)
    if sql_type.element is not None:
        return lambda values: all(map(is_clean, values))
    permitted = {_NULL, int if sql_type in _BITS else bool if sql_type == BOOLEAN else str}

    def check(values: list[Any]) -> bool:
        types = set(map(type, values))
        if not types <= permitted:
            return False
        if sql_type not in _BITS or int not in types:
            return True
        present = values if _NULL not in types else [value for value in values if value is not None]
        return is_clean(min(present)) and is_clean(max(present))

    return check


def _exact_json(value: bytes) -> Any:
    """The first JSON value of a record, as Jackson reads it: numbers exact, what follows the value ignored."""
    try:
        text = value.decode("utf-8-sig").lstrip(" \t\r\n")
        parsed, _ = _EXACT.raw_decode(text)
    except ValueError as error:
        raise Unreadable(f"The record is not JSON: {str(error)[:200]}") from error
    return parsed


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


_EXACT = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant)


def _coerce(value: Any, sql_type: SqlType, path: str) -> Any:
    if value is None:
        return None
    if sql_type in _BITS:
        return _to_integer(value, sql_type, path)
    if sql_type == BOOLEAN:
        if isinstance(value, bool):
            return value
        raise _mismatch(value, sql_type, path)
    if sql_type == STRING:
        # Java writes a lone surrogate as '?'.
        return _to_string(value).encode("utf-8", "replace").decode("utf-8")
    if not isinstance(value, list):
        raise _mismatch(value, sql_type, path)
    assert sql_type.element is not None
    return [_coerce(item, sql_type.element, f"{path}[{place}]") for place, item in enumerate(value)]


def _to_integer(value: Any, sql_type: SqlType, path: str) -> int:
    bits = _BITS[sql_type]
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise _mismatch(value, sql_type, path)
    if isinstance(value, str):
        try:
            number = int(value) if _WHOLE_NUMBER.fullmatch(value) else None
        except ValueError:  # more digits than Python converts
            number = None
        if number is None or not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
            raise Unreadable(f"Can't coerce string to type. targetType: {sql_type.name}, path: {path}")
        return number
    if isinstance(value, Decimal):
        exponent = value.as_tuple().exponent
        assert isinstance(exponent, int)
        if exponent >= _NO_FRACTION_BEYOND or value.adjusted() < 0:
            return 0
        value = int(value)
    wrapped: int = value & ((1 << bits) - 1)
    return wrapped - (1 << bits) if wrapped >> (bits - 1) else wrapped


def _to_string(value: Any) -> str:
    """Java's text of a JSON value."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "[" + ", ".join("null" if item is None else _to_string(item) for item in value) + "]"
    return _json_text(value)


def _json_text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{_json_text(name)}:{_json_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json_text, value)) + "]"
    if isinstance(value, Decimal):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _json_type(value: Any) -> str:
    """Jackson's name for the kind of a value, as ksqlDB's messages have it."""
    names = {bool: "BooleanNode", int: "IntNode", Decimal: "DecimalNode", str: "TextNode", list: "ArrayNode"}
    return names.get(type(value), "ObjectNode")


def _mismatch(value: Any, sql_type: SqlType, path: str) -> Unreadable:
    return Unreadable(
        f"Can't convert type. sourceType: {_json_type(value)}, requiredType: {sql_type.name}, path: {path}"
    )
