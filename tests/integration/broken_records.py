"""Records that a line must survive, made for one topic and one pizza."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

BROKER_BATCH_BYTES = 1_048_588
"""The broker's ``message.max.bytes``, at its default: the largest batch that it takes."""

_BATCH_OVERHEAD = 61 + 3 + 1 + 1 + 1 + 1 + 3 + 1
"""Around the value of a batch's only record, without key and headers: the batch's own fields, then the record's
length, attributes, time and offset within the batch, length of the missing key, length of the value, number of headers.
"""


@dataclass(frozen=True)
class Record:
    """What to write, and which pizza id it claims, if any."""

    what: str
    key: bytes | None
    value: bytes | None
    claims: int | None = None
    compressed: bool = False
    headers: tuple[tuple[str, bytes], ...] = ()


def sound_pizza(pizza_id: int) -> dict[str, Any]:
    """A pizza message that nothing is wrong with."""
    return {
        "pizzaId": pizza_id,
        "orderId": pizza_id,
        "orderSize": 1,
        "startTimestamp": 1,
        "endTimestamp": None,
        "msgDesc": "forged",
        "sauce": "",
        "baked": False,
        "cheese": [],
        "meat": [],
        "veggies": [],
        "recipe": "frozen-vegetariana",
    }


def broken_pizzas(first_stranger: int) -> Iterator[Record]:
    """Every way for a pizza record to be broken. Those that claim an id each claim another, from the one given on."""
    strangers = itertools.count(first_stranger)
    yield Record("null", None, None)
    yield Record("empty", None, b"")
    yield Record("no text", b"\xff\x00", b"\xfe\xff\x00")
    yield Record("an array", None, b"[1, 2]")
    yield Record("nested too deeply", None, b"[" * 30_000)
    yield Record("the largest", None, largest_value())
    yield Record("8 MiB, compressed", None, b" " * (8 << 20), compressed=True)
    yield Record("an id of 5000 digits", b"9" * 5000, b'{"pizzaId": ' + b"9" * 5000 + b"}")
    for what, pizza_id in (("text", "7"), ("beyond 32 bits", 2**31), ("beyond 64 bits", 2**70), ("a fraction", 1.5)):
        yield Record(f"an id that is {what}", None, _json(sound_pizza(1) | {"pizzaId": pizza_id}))
    changed: dict[str, dict[str, Any]] = {
        "a wrong type": {"baked": "no"},
        "toppings of a wrong type": {"meat": [1]},
        "an unknown recipe": {"recipe": "stone"},
        "too large": {"note": "x" * 65_536},
        "another id missing": {"orderId": None},
    }
    for what, changes in changed.items():
        stranger = next(strangers)
        yield Record(what, b"%d" % stranger, _json(sound_pizza(stranger) | changes), claims=stranger)
    for what, key in (("another key", b"1"), ("no key", None)):
        stranger = next(strangers)
        yield Record(what, key, _json(sound_pizza(stranger)), claims=stranger)
    stranger = next(strangers)
    yield Record("not JSON", b"%d" % stranger, b'{"pizzaId": ', claims=stranger)


def forged(pizza_id: int) -> Record:
    """A broken record that bears the id of a real pizza, everywhere."""
    return Record("forged", b"%d" % pizza_id, _json({"pizzaId": pizza_id}), claims=pizza_id)


def stranger(pizza_id: int) -> Record:
    """A sound record of a pizza that no order holds."""
    return Record("a stranger", b"%d" % pizza_id, _json(sound_pizza(pizza_id)))


def largest_value() -> bytes:
    """The largest value that the broker takes in a record without key and headers."""
    return b"x" * (BROKER_BATCH_BYTES - _BATCH_OVERHEAD)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def write(bootstrap_servers: str, topic: str, records: Sequence[Record]) -> list[int]:
    """Write them to the topic; returns their offsets. Raises KafkaException if the broker refuses one."""
    producers = {
        compressed: Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "message.max.bytes": 64 << 20,
                "batch.num.messages": 1,  # one record per batch: the broker's limit is on batches
                "log_level": 0,
                "compression.type": "zstd" if compressed else "none",
            }
        )
        for compressed in (False, True)
    }
    offsets: dict[int, int] = {}
    errors: list[KafkaError] = []
    for number, record in enumerate(records):

        def delivered(error: KafkaError | None, message: Any, number: int = number) -> None:
            if error is not None:
                errors.append(error)
            else:
                offsets[number] = message.offset()

        producer = producers[record.compressed]
        producer.produce(topic, record.value, record.key, 0, on_delivery=delivered, headers=list(record.headers))
    for producer in producers.values():
        assert producer.flush(30) == 0
    if errors:
        raise KafkaException(errors[0])
    return [offsets[number] for number in range(len(records))]
