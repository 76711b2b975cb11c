"""Expected values and answers against real ones. A mismatch is an AssertionError that says what differs."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from tests.contract.case import CaseError, Json
from tests.contract.records import Seen, Sent

_COMPARISON = re.compile(r"(\S.*?) (<=|>=|<|>|=) (.+?)(?: \+ (\d+))?")


def match(expected: Json, actual: Json, where: str, *, exact: bool = True) -> None:
    """Compare JSON values strictly: 1 is neither true nor 1.0. Not ``exact``: an object may have further fields."""
    if isinstance(expected, dict) and set(expected) == {"$"}:
        _match_kind(expected["$"], actual, where)
    elif isinstance(expected, dict):
        assert isinstance(actual, dict), f"{where}: {actual!r} is not an object"
        missing, extra = set(expected) - set(actual), set(actual) - set(expected)
        assert not missing, f"{where}: without {sorted(missing)}: {actual}"
        assert not (exact and extra), f"{where}: with unexpected {sorted(extra)}: {actual}"
        for name, value in expected.items():
            match(value, actual[name], f"{where}.{name}")
    elif isinstance(expected, list):
        assert isinstance(actual, list), f"{where}: {actual!r} is not an array"
        assert len(actual) == len(expected), f"{where}: {actual!r}, expected {expected!r}"
        for index, value in enumerate(expected):
            match(value, actual[index], f"{where}[{index}]")
    else:
        assert type(actual) is type(expected), f"{where}: {actual!r}, expected {expected!r}"
        assert actual == expected, f"{where}: {actual!r}, expected {expected!r}"


def _match_kind(kind: str, actual: Json, where: str) -> None:
    if kind == "text":
        assert isinstance(actual, str), f"{where}: {actual!r} is not a text"
        assert actual.strip(), f"{where}: an empty text"
    elif kind == "recent-ms":
        assert type(actual) is int, f"{where}: {actual!r} is not a whole number"
        age_s = time.time() - actual / 1000
        assert -0.001 <= age_s < 60, f"{where}: {actual} is not a moment of this case"
    else:
        raise CaseError(f"no kind of value {kind!r}")


def match_record(expected: Json, seen: Seen, labelled: Mapping[str, Seen | Sent]) -> None:
    """One record against what a case expects of it; a bare number is the record of that id."""
    item: dict[str, Any] = {"id": expected} if isinstance(expected, int) else expected
    if "id" in item:
        assert seen.key == str(item["id"]).encode(), f"expected id {item['id']}, got {seen}"
        names = ("orderId",) if seen.topic in ("order-processing", "order-done") else ("pizzaId",)
        for name in names:
            match(item["id"], seen.json.get(name), f"{seen}: {name}")
    if "key" in item:
        key = None if item["key"] is None else str(item["key"]).encode()
        assert seen.key == key, f"expected key {key!r}, got {seen}"
    if "value" in item:
        match(item["value"], seen.json, str(seen))
    if "has" in item:
        match(item["has"], seen.json, str(seen), exact=False)
    for name, text in item.get("headers", {}).items():
        assert seen.headers.get(name) == text, f"header {name} must be {text!r}: {seen}"
    if seen.topic.endswith("-done") and "machine" in seen.headers:
        recovered = "recovered" in seen.headers
        wanted = item.get("recovered", False)
        assert wanted in (None, recovered), f"header recovered: {'not' if recovered else 'but'} expected: {seen}"
    if "of" in item:
        broken = labelled[item["of"]]
        assert seen.headers.get("topic") == broken.topic, f"expected the dead letter of {broken.topic}: {seen}"
        assert seen.header("offset") == broken.offset, f"expected the dead letter of offset {broken.offset}: {seen}"


def compare(comparison: str, labelled: Mapping[str, Seen | Sent]) -> None:
    """Check ``LEFT <= RIGHT`` or ``LEFT >= RIGHT + 1000``; see machines/contract/README.md for the terms."""
    found = _COMPARISON.fullmatch(comparison)
    if found is None:
        raise CaseError(f"not a comparison: {comparison!r}")
    left, right = _term(found[1], labelled), _term(found[3], labelled) + int(found[4] or 0)
    holds = {"<=": left <= right, ">=": left >= right, "<": left < right, ">": left > right, "=": left == right}
    assert holds[found[2]], f"{comparison} does not hold: {left} against {right}"


def _term(term: str, labelled: Mapping[str, Seen | Sent]) -> int:
    label, *path = term.split()
    record = labelled[label]
    match path, record:
        case ["sent"], Sent():
            return record.sent_us
        case ["appended"], Seen():
            return record.appended_ms * 1000
        case [name], Seen() if name.endswith("-us"):
            return record.header(name)
        case [name, "in", "ms"], Seen() if name.endswith("-us"):
            return record.header(name) // 1000
        case ["value", name], Seen():
            number = record.json.get(name)
            assert type(number) is int, f"{name} is not a whole number: {record}"
            return number
    raise CaseError(f"not a term: {term!r}")
