from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.ksqldb.embedded.catalog import BIGINT, BOOLEAN, INTEGER, STRING, Column, SqlType, array_of
from harness.ksqldb.embedded.decode import JsonDecoder, Unreadable

STRINGS = array_of(STRING)
ALL_TYPES = [
    Column("I", INTEGER),
    Column("L", BIGINT),
    Column("B", BOOLEAN),
    Column("S", STRING),
    Column("A", STRINGS),
]


def read(sql_type: SqlType, text: str) -> Any:
    """The value of a column of this type in the record ``{"V": text}``, by way of a batch."""
    decoded = JsonDecoder([Column("V", sql_type)]).decode([f'{{"V": {text}}}'.encode()])
    if decoded.dropped:
        raise Unreadable(decoded.dropped[0][1])
    return decoded.columns[0][0]


@pytest.mark.parametrize(
    ("sql_type", "text", "value"),
    [
        (INTEGER, "42", 42),
        (INTEGER, "null", None),
        (INTEGER, "1.7", 1),
        (INTEGER, "-1.7", -1),
        (INTEGER, "2147483648", -2147483648),
        (INTEGER, "-2147483649", 2147483647),
        (INTEGER, "1e3", 1000),
        (INTEGER, "1e400", 0),
        (INTEGER, "1e-400", 0),
        (INTEGER, '"17"', 17),
        (INTEGER, '"+17"', 17),
        (BIGINT, "1731571200000", 1731571200000),
        (BIGINT, "9223372036854775808", -9223372036854775808),
        (BIGINT, "18446744073709551617", 1),
        (BIGINT, "9007199254740993.9", 9007199254740993),
        (BOOLEAN, "true", True),
        (STRING, '"tomato"', "tomato"),
        (STRING, "1.50", "1.50"),
        (STRING, "1e5", "1E+5"),
        (STRING, "true", "true"),
        (STRING, '{"a": [1, null, "x"]}', '{"a":[1,null,"x"]}'),
        (STRING, '["a", 1, null, [true]]', "[a, 1, null, [true]]"),
        (STRING, '"\\ud800"', "?"),
        (STRINGS, '["a", null, 1]', ["a", None, "1"]),
        (STRINGS, "[]", []),
        (array_of(INTEGER), '[1, "2", 3.9]', [1, 2, 3]),
    ],
)
def test_values_are_coerced_as_ksqldb_does(sql_type: SqlType, text: str, value: Any) -> None:
    found = read(sql_type, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("sql_type", "text"),
    [
        (INTEGER, "true"),
        (INTEGER, '"1.5"'),
        (INTEGER, '" 1"'),
        (INTEGER, '""'),
        (INTEGER, '"2147483648"'),
        (INTEGER, "[1]"),
        (INTEGER, "{}"),
        (BIGINT, '"9223372036854775808"'),
        (BIGINT, '"' + "9" * 5000 + '"'),
        (BOOLEAN, "1"),
        (BOOLEAN, '"true"'),
        (STRINGS, '"a"'),
        (STRINGS, "{}"),
        (array_of(INTEGER), "[1, true]"),
    ],
)
def test_a_value_that_cannot_be_coerced_drops_its_record_and_says_where(sql_type: SqlType, text: str) -> None:
    with pytest.raises(Unreadable, match=r"path: \$\.V"):
        read(sql_type, text)


@pytest.mark.parametrize(
    ("record", "value"),
    [
        (b'{"pizzaId": 1}', 1),
        (b'{"PIZZAID": 2, "pizzaId": 1}', 2),
        (b'{"pizzaId": 1, "PIZZAID": 2}', 2),
        (b'{"PIZZAID": null, "pizzaId": 1}', None),
        (b'{"pizzaid": 1, "PizzaId": 2}', 2),
        (b'{"pizzaId": 1, "pizzaId": 2}', 2),
        (b'{"other": 1}', None),
        (b"{}", None),
    ],
)
def test_a_field_is_looked_up_by_its_exact_name_then_in_capitals(record: bytes, value: int | None) -> None:
    assert JsonDecoder([Column("PIZZAID", INTEGER)]).decode([record]).columns == [[value]]


def test_a_quoted_column_finds_only_its_exact_name() -> None:
    decoder = JsonDecoder([Column("pizzaId", INTEGER)])
    assert decoder.decode([b'{"pizzaId": 1}', b'{"PIZZAID": 2}']).columns == [[1, None]]


@pytest.mark.parametrize(
    "record", [b"", b"   ", b"garbage", b"[1]", b"1", b'"text"', b'{"I": 1', b'{"I": NaN}', b"\xff\xfe", b"\x00{}"]
)
def test_what_is_no_json_object_is_dropped_and_its_neighbours_stay(record: bytes) -> None:
    decoded = JsonDecoder([Column("I", INTEGER)]).decode([b'{"I": 1}', record, b'{"I": 3}'])
    assert decoded.columns == [[1, 3]]
    assert [place for place, _ in decoded.dropped] == [1]


def test_a_record_that_nests_beyond_all_bounds_is_dropped() -> None:
    decoded = JsonDecoder([Column("S", STRING)]).decode([b'{"S": ' + b"[" * 100_000, b'{"S": "x"}'])
    assert (decoded.columns, len(decoded.dropped)) == ([["x"]], 1)


def test_nulls_give_no_row_and_are_not_called_dropped() -> None:
    decoded = JsonDecoder([Column("I", INTEGER)]).decode([None, b"null", b'{"I": 1}'])
    assert (decoded.columns, decoded.kept, decoded.dropped) == ([[1]], 1, [])


def test_what_follows_the_json_value_is_ignored_as_jackson_does() -> None:
    assert JsonDecoder([Column("I", INTEGER)]).decode([b'\xef\xbb\xbf{"I": 1} tail']).columns == [[1]]


def test_records_of_very_many_shapes_are_read_right() -> None:
    records = [json.dumps({f"f{n}": 0, "i": n}).encode() for n in range(3000)]
    assert JsonDecoder([Column("I", INTEGER)]).decode(records).columns == [list(range(3000))]


numbers = st.integers() | st.integers(-(2**33), 2**33) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=4) | st.integers().map(str)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
names = st.sampled_from(["I", "i", "L", "l", "B", "b", "S", "s", "A", "a", "x"])
json_records = st.dictionaries(names, values, max_size=6).map(lambda fields: json.dumps(fields).encode())
records = json_records | st.none() | st.binary(max_size=6) | values.map(lambda value: json.dumps(value).encode())


@given(st.lists(records, max_size=12))
@example([b'{"I": 1}', b'{"I": 1.5}', None, b"broken", b'{"S": "\\ud800"}', b'{"L": 18446744073709551615}'])
def test_a_batch_reads_as_its_records_do_one_by_one(batch: list[bytes | None]) -> None:
    decoder = JsonDecoder(ALL_TYPES)
    rows, dropped = [], []
    for place, record in enumerate(batch):
        try:
            row = None if record is None else decoder.coerce(record)
        except Unreadable as reason:
            dropped.append((place, str(reason)))
            continue
        if row is not None:
            rows.append(row)
    decoded = JsonDecoder(ALL_TYPES).decode(batch)
    assert [list(row) for row in zip(*decoded.columns, strict=True)] == rows
    assert decoded.kept == len(rows)
    assert decoded.dropped == dropped
