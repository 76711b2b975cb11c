"""What the recorded topics say, read once: who was seen where. Ledger, stages and summary are built on this."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harness.line import DEAD_LETTER, DONE_TOPICS, MACHINE_TOPICS
from harness.measure.events import MISSING, Events, Ints, distinct, header, header_us, id_in, ids, ids_in_values
from harness.measure.orders import OrderBook


@dataclass(frozen=True)
class DeadLetter:
    """A record that the line refused. It *is* ``topic`` and ``offset``; ``pizza_id`` is only what it claims to be."""

    topic: str
    offset: int
    reason: str
    machine: str
    pizza_id: int | None


@dataclass(frozen=True)
class Sightings:
    """The sound records of one topic in offset order: about which id, sent when (epoch us, MISSING if not told).

    ``unreadable`` counts records that are about no id at all and that the line did not dead-letter.
    """

    ids: Ints
    at_us: Ints
    unreadable: int


@dataclass(frozen=True)
class Facts:
    """``sightings`` holds every machine topic, every ``-done`` topic, and the topics below, by name."""

    orders: OrderBook
    dead_letters: tuple[DeadLetter, ...]
    sightings: dict[str, Sightings]
    _seen: dict[str, Ints] = field(default_factory=dict, repr=False, compare=False)

    def seen(self, topic: str) -> Ints:
        """The distinct ids of a topic, ascending."""
        if topic not in self._seen:
            self._seen[topic] = distinct(self.sightings[topic].ids)[0]
        return self._seen[topic]


_ORDER_ID = ("order-processing", "order-done")
_PIZZA_ID = (*MACHINE_TOPICS, *DONE_TOPICS, "pizza-done")


def read_facts(events: Events) -> Facts:
    """Read a run's records. Records that the line dead-lettered count nowhere but in ``dead_letters``."""
    letters = read_dead_letters(events)
    dead: dict[str, set[int]] = {}
    for letter in letters:
        dead.setdefault(letter.topic, set()).add(letter.offset)
    stack = events.topic("order-stack", ["offset", "value", "headers"])
    orders = OrderBook.read(
        stack["offset"].to_numpy().tolist(),
        stack["value"].to_pylist(),
        header_us(stack, "at-us").tolist(),
        dead.get("order-stack", ()),
    )
    sightings = {
        topic: _sightings(events, topic, id_field, dead.get(topic, set()))
        for topics, id_field in ((_ORDER_ID, "orderId"), (_PIZZA_ID, "pizzaId"))
        for topic in topics
    }
    return Facts(orders, letters, sightings)


def _sightings(events: Events, topic: str, id_field: str, dead: set[int]) -> Sightings:
    found = (ids_in_values if topic in _ORDER_ID else ids)(events, topic, id_field)
    # A -done record has no at-us; its times are the stages' matter.
    timed = topic not in DONE_TOPICS
    at_us = (
        header_us(events.topic(topic, ["headers"]), "at-us") if timed else np.full(len(found), MISSING, dtype=np.int64)
    )
    if dead:
        alive = ~np.isin(events.topic(topic, ["offset"])["offset"].to_numpy(), list(dead))
        found, at_us = found[alive], at_us[alive]
    readable = found != MISSING
    return Sightings(found[readable], at_us[readable], int((~readable).sum()))


def read_dead_letters(events: Events) -> tuple[DeadLetter, ...]:
    """Distinct by topic and offset; one that names neither is identified by its own place in ``dead-letter``."""
    table = events.topic(DEAD_LETTER, ["offset", "key", "value", "headers"])
    texts = {
        name: [(value or b"").decode("utf-8", "replace") for value in header(table, name).to_pylist()]
        for name in ("topic", "reason", "machine")
    }
    offsets = header_us(table, "offset").tolist()
    own_offsets = table["offset"].to_numpy().tolist()
    rows = zip(own_offsets, table["key"].to_pylist(), table["value"].to_pylist(), strict=True)
    letters: dict[tuple[str, int], DeadLetter] = {}
    for row, (own_offset, key, value) in enumerate(rows):
        named = texts["topic"][row] and offsets[row] != MISSING
        topic, offset = (texts["topic"][row], offsets[row]) if named else (DEAD_LETTER, own_offset)
        letter = DeadLetter(topic, offset, texts["reason"][row], texts["machine"][row], claimed_pizza(key, value))
        letters.setdefault((topic, offset), letter)
    return tuple(letters.values())


def claimed_pizza(key: bytes | None, value: bytes | None) -> int | None:
    """The pizza id that a broken record claims: its value's, else its key's, else None."""
    claim = id_in(value, "pizzaId")
    if claim == MISSING and key is not None and key.isdigit() and len(key) <= 10:
        claim = int(key)
    return claim if claim >= 1 else None
