"""The books of a run, kept from the recorded topics alone: what came in, what came out, and what became of the rest.

Every accepted pizza is done, dead-lettered or missing; every accepted order is done, failed or unfinished. Sets of
distinct ids are counted, duplicates apart from them, and ids that no order holds apart from both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.line import MACHINE_TOPICS, MACHINES
from harness.measure.events import Ints, distinct
from harness.measure.facts import DeadLetter, Facts

Ranges = tuple[tuple[int, int], ...]
"""Ids as (first, last) pairs, ascending: a lost order of 10,000 pizzas is one pair."""

NOT_DISPATCHED = "order-stack"
_DONE = len(MACHINE_TOPICS)


@dataclass(frozen=True)
class UnfinishedOrder:
    """An accepted order that is neither done nor failed; ``missing`` gives its pizzas by where each was last seen."""

    order_id: int
    size: int
    pizzas_done: int
    missing: dict[str, Ranges]


@dataclass(frozen=True)
class Ledger:
    """Counts of distinct orders and pizzas, and by id whatever is not as it should be.

    ``lost`` and ``open`` hold the pizzas that were accepted, are not on ``pizza-done`` and were not dead-lettered,
    by the last topic on which they were seen: lost if the run has ended, open if it was interrupted and they may
    still have been on their way. ``duplicates`` counts, per topic, records beyond the first about the same id,
    ``unknown`` distinct ids that no order holds, ``unreadable`` records about no id that the line did not
    dead-letter either. ``duplicate_pizzas`` are the ids that stand on ``pizza-done`` more than once.
    """

    orders_accepted: int
    orders_broken: int
    orders_started: int
    orders_done: int
    pizzas_accepted: int
    pizzas_dispatched: int
    pizzas_done: int
    pizzas_dead_lettered: int
    failed_orders: tuple[int, ...]
    unfinished_orders: tuple[UnfinishedOrder, ...]
    lost: dict[str, Ranges]
    open: dict[str, Ranges]
    duplicate_pizzas: Ranges
    duplicates: dict[str, int]
    unknown: dict[str, int]
    unreadable: dict[str, int]
    dead_letters: tuple[DeadLetter, ...]

    @property
    def lost_pizzas(self) -> int:
        return sum(count(ranges) for ranges in self.lost.values())

    @property
    def open_pizzas(self) -> int:
        return sum(count(ranges) for ranges in self.open.values())

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON has them; beside them ``lost_pizzas`` and ``open_pizzas`` as counts, and the findings."""
        counts = {"lost_pizzas": self.lost_pizzas, "open_pizzas": self.open_pizzas}
        return asdict(self) | counts | {"findings": self.findings()}

    def findings(self) -> list[str]:
        """One sentence for each thing that is not as it should be; empty for a clean run."""
        lines = [
            f"order {order.order_id} ({order.size} pizzas) is unfinished: {order.pizzas_done} pizzas done"
            + "".join(f"; {_name(ranges)} last seen on {topic}" for topic, ranges in order.missing.items())
            for order in self.unfinished_orders
        ]
        lines += [f"order {order_id} failed" for order_id in self.failed_orders]
        lines += [f"{_name(ranges)} lost, last seen on {topic}" for topic, ranges in self.lost.items()]
        lines += [f"{n} duplicate records on {topic}" for topic, n in self.duplicates.items()]
        lines += [f"{n} ids on {topic} belong to no order" for topic, n in self.unknown.items()]
        lines += [f"{n} unreadable records on {topic} were not dead-lettered" for topic, n in self.unreadable.items()]
        lines += [f"dead letter: {one.topic} at offset {one.offset}: {one.reason}" for one in self.dead_letters]
        return lines


def build_ledger(facts: Facts, *, ended: bool = True) -> Ledger:
    """Balance the books. ``ended`` is False for a run that was interrupted while the line was still working."""
    orders = facts.orders
    known_orders = orders.order_ids
    done_orders = np.intersect1d(facts.seen("order-done"), known_orders)
    last_seen = _last_seen(facts)
    done = last_seen == _DONE
    dead, claimed = _dead_lettered(facts, last_seen)
    missing = ~done & ~dead

    # As the line sees it: a claim fails an order unless the pizza is done all the same.
    claimed_orders = orders.orders_of(claimed[~done[claimed - 1]])
    failed = np.union1d(np.setdiff1d(claimed_orders, done_orders), orders.broken).astype(np.int64)
    unfinished = np.setdiff1d(known_orders, np.union1d(done_orders, failed))
    by_topic = _by_last_seen(np.flatnonzero(missing) + 1, last_seen)

    pizza_done = facts.sightings["pizza-done"].ids
    repeated = np.delete(pizza_done, distinct(pizza_done)[1])
    duplicates = {topic: len(seen.ids) - len(facts.seen(topic)) for topic, seen in facts.sightings.items()}
    return Ledger(
        orders_accepted=len(known_orders),
        orders_broken=len(orders.broken),
        orders_started=len(np.intersect1d(facts.seen("order-processing"), known_orders)),
        orders_done=len(done_orders),
        pizzas_accepted=orders.pizzas,
        pizzas_dispatched=int(_known(facts, MACHINE_TOPICS[0]).size),
        pizzas_done=int(done.sum()),
        pizzas_dead_lettered=int(dead.sum()),
        failed_orders=tuple(failed.tolist()),
        unfinished_orders=tuple(_unfinished(facts, unfinished, last_seen, missing)),
        lost=by_topic if ended else {},
        open={} if ended else by_topic,
        duplicate_pizzas=as_ranges(np.unique(repeated)),
        duplicates=_nonzero(duplicates),
        unknown=_nonzero({topic: _unknown(facts, topic) for topic in facts.sightings}),
        unreadable=_nonzero({topic: seen.unreadable for topic, seen in facts.sightings.items()}),
        dead_letters=facts.dead_letters,
    )


def as_ranges(ids: Ints) -> Ranges:
    """Ascending ids as (first, last) pairs of consecutive ones."""
    if not len(ids):
        return ()
    ends = np.flatnonzero(np.diff(ids) != 1)
    firsts = ids[np.concatenate([[0], ends + 1])]
    lasts = ids[np.concatenate([ends, [len(ids) - 1]])]
    return tuple(zip(firsts.tolist(), lasts.tolist(), strict=True))


def count(ranges: Ranges) -> int:
    """How many ids the pairs hold."""
    return sum(last - first + 1 for first, last in ranges)


def _known(facts: Facts, topic: str) -> Ints:
    """The distinct ids on a pizza topic that belong to an order."""
    seen = facts.seen(topic)
    return seen[seen <= facts.orders.pizzas]


def _unknown(facts: Facts, topic: str) -> int:
    seen = facts.seen(topic)
    if topic in ("order-processing", "order-done"):
        return int((~np.isin(seen, facts.orders.order_ids)).sum())
    return int((seen > facts.orders.pizzas).sum())


def _last_seen(facts: Facts) -> Ints:
    """Per pizza the furthest topic that has a sound record of it: -1 none, else its machine, _DONE on pizza-done."""
    last = np.full(facts.orders.pizzas, -1, dtype=np.int64)
    for place, topic in enumerate((*MACHINE_TOPICS, "pizza-done")):
        last[_known(facts, topic) - 1] = place
    return last


def _dead_lettered(facts: Facts, last_seen: Ints) -> tuple[np.ndarray[Any, np.dtype[np.bool_]], Ints]:
    """Which pizzas ended as dead letters, and which ids dead letters claim on the way of pizzas.

    A claim alone proves nothing, for anybody can write a broken record with any id. It is believed of a pizza that was
    last seen right before the topic where the broken record stands, for there its own record would have come next.
    """
    dead = np.zeros(facts.orders.pizzas, dtype=np.bool_)
    claimed: list[int] = []
    for letter in facts.dead_letters:
        before = _PLACES_BEFORE.get(letter.topic)
        if before is not None and letter.pizza_id is not None and letter.pizza_id <= len(dead):
            claimed.append(letter.pizza_id)
            dead[letter.pizza_id - 1] |= int(last_seen[letter.pizza_id - 1]) in before
    return dead, np.unique(np.array(claimed, dtype=np.int64))


_PLACES_BEFORE: dict[str, frozenset[int]] = {
    topic: frozenset(
        {-1} if topic == MACHINE_TOPICS[0] else {i for i, m in enumerate(MACHINES) if topic in m.next_topics}
    )
    for topic in (*MACHINE_TOPICS, "pizza-done")
}


def _by_last_seen(pizza_ids: Ints, last_seen: Ints) -> dict[str, Ranges]:
    places = last_seen[pizza_ids - 1]
    return {
        (NOT_DISPATCHED if place < 0 else MACHINE_TOPICS[place]): as_ranges(pizza_ids[places == place])
        for place in np.unique(places).tolist()
    }


def _unfinished(facts: Facts, order_ids: Ints, last_seen: Ints, missing: Any) -> Iterable[UnfinishedOrder]:
    rows = np.searchsorted(facts.orders.order_ids, order_ids)
    for order_id, row in zip(order_ids.tolist(), rows.tolist(), strict=True):
        first, size = int(facts.orders.first_pizzas[row]), int(facts.orders.sizes[row])
        own = slice(first - 1, first - 1 + size)
        places = _by_last_seen(np.flatnonzero(missing[own]) + first, last_seen)
        yield UnfinishedOrder(order_id, size, int((last_seen[own] == _DONE).sum()), places)


def _nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {topic: n for topic, n in counts.items() if n}


def _name(ranges: Ranges) -> str:
    spans = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    shown = ", ".join(spans[:10]) + (f" and {len(spans) - 10} more ranges" if len(spans) > 10 else "")
    return f"pizza{'s' if count(ranges) > 1 else ''} {shown}"
