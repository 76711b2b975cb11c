"""Records: written as a case describes them, and as read from the line."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import Any

from tests.contract.case import CaseError, Json


def now_us() -> int:
    """Epoch microseconds."""
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Sent:
    """A record that the case wrote: ``sent_us`` is the instant just before it was produced."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    sent_us: int


@dataclass(frozen=True)
class Seen:
    """A record that the service wrote. ``appended_ms`` is the broker's clock at the append."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]
    appended_ms: int

    @property
    def json(self) -> dict[str, Json]:
        """The value as a JSON object; AssertionError if it is none."""
        try:
            parsed = json.loads(self.value or b"")
        except ValueError:
            parsed = None
        assert isinstance(parsed, dict), f"{self}: the value is not a JSON object"
        return parsed

    def header(self, name: str) -> int:
        """A timing header's epoch microseconds; AssertionError if it is missing or not decimal."""
        text = self.headers.get(name)
        assert text is not None, f"{self}: header {name} is missing"
        assert text.isascii(), f"{self}: header {name} is not decimal"
        assert text.isdigit(), f"{self}: header {name} is not decimal"
        return int(text)

    def __str__(self) -> str:
        value = self.value if self.value is None or len(self.value) <= 300 else self.value[:300] + b"..."
        return f"{self.topic}@{self.offset} key={self.key!r} value={value!r} headers={self.headers}"


def encoded(record: dict[str, Any], pizza: dict[str, Json]) -> tuple[bytes | None, bytes | None]:
    """Key and value of a record that a case describes; ``pizza`` is the sound message that ``pizza`` varies."""
    value = _value(record, pizza)
    if "key" in record:
        key = record["key"]
        return None if key is None else str(key).encode(), value
    if "pizza" in record:
        return str(record["pizza"].get("pizzaId", pizza["pizzaId"])).encode(), value
    content = record.get("value")
    if isinstance(content, dict) and "pizzaId" in content:
        return str(content["pizzaId"]).encode(), value
    if isinstance(content, dict) and "orderId" in content:
        return str(content["orderId"]).encode(), value
    return None, value


def _value(record: dict[str, Any], pizza: dict[str, Json]) -> bytes | None:
    if record.get("tombstone"):
        return None
    if "text" in record:
        return str(record["text"]).encode()
    if "base64" in record:
        return base64.b64decode(record["base64"])
    if "repeat" in record:
        return str(record["repeat"][0]).encode() * int(record["repeat"][1])
    if "pizza" in record:
        content = {**pizza, **record["pizza"]}
        content = {name: value for name, value in content.items() if name not in record.get("without", ())}
    elif "value" in record:
        content = record["value"]
    else:
        raise CaseError(f"the record has no value: {record}")
    if "padded_to" in record:
        bare = len(_dump({**content, "padding": ""}))
        content = {**content, "padding": "x" * (record["padded_to"] - bare)}
    return _dump(content)


def _dump(content: Json) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
