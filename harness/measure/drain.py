"""Watching a line finish: which orders are accepted, done, failed, still open.

``DrainState`` is the bookkeeping, without any I/O: it gives the same answers in whatever order the topics are read.
``Drain`` feeds it from a broker.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from itertools import accumulate
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from harness.errors import StackError
from harness.line import DEAD_LETTER, MACHINE_TOPICS
from harness.measure.events import MISSING, id_in, number
from harness.measure.facts import claimed_pizza
from harness.measure.orders import stacked_order
from harness.measure.record import end_offsets

WATCHED = ("order-stack", "pizza-done", "order-done", DEAD_LETTER)

_PIZZA_TOPICS = frozenset({*MACHINE_TOPICS, "pizza-done"})
"""Where a broken record stands for a pizza. A broken -done record, say, takes no pizza with it."""


@dataclass(frozen=True)
class DrainProgress:
    """Distinct orders and pizzas so far. ``orders_failed`` counts broken orders too, which are not accepted; a failed
    order with pizzas still on the way is open as well.
    """

    orders_accepted: int
    orders_done: int
    orders_failed: int
    orders_open: int
    pizzas_accepted: int
    pizzas_done: int


@dataclass(frozen=True)
class DrainResult:
    """``complete``: every accepted order is resolved and every acknowledged one was among them.

    ``open_orders`` and ``failed_orders`` are order ids, ascending; ``unseen_orders`` are acknowledged ids that never
    appeared on ``order-stack``.
    """

    complete: bool
    progress: DrainProgress
    open_orders: tuple[int, ...]
    failed_orders: tuple[int, ...]
    unseen_orders: tuple[int, ...]


class DrainState:
    """Who is done. Feed it every record of the watched topics, each topic in its order, topics as they come.

    An order is resolved when it is on ``order-done``, or when it failed and none of its other pizzas is still on the
    way. It fails when its own record is broken, or when a dead letter claims one of its pizzas and that pizza is not
    done all the same. A forged record can claim a pizza that is still on its way: then the order is not waited for.
    """

    def __init__(self) -> None:
        self._sizes: list[int] = []  # by order-stack offset; 0 holds no pizzas
        self._broken: set[int] = set()  # order-stack offsets that the line dead-lettered, seen or not
        self._firsts: list[int] | None = []  # first pizza by offset; None when it must be worked out again
        self._done_orders: set[int] = set()
        self._accepted = self._pizzas = 0
        self._done_pizzas: set[int] = set()
        self._highest_done = 0
        self._dead_pizzas: set[int] = set()
        self._undone: set[int] = set()  # accepted orders that are not on order-done

    def order_stacked(self, offset: int, value: bytes | None) -> None:
        order = None if offset in self._broken else stacked_order(value)
        while len(self._sizes) < offset:  # a gap in the offsets is no order
            self._sizes.append(0)
        self._firsts = None
        self._sizes.append(0 if order is None else order.size)
        if order is None:
            self._broken.add(offset)
            return
        self._accepted += 1
        self._pizzas += order.size
        if offset + 1 not in self._done_orders:
            self._undone.add(offset + 1)

    def pizza_done(self, pizza_id: int) -> None:
        self._done_pizzas.add(pizza_id)
        self._highest_done = max(self._highest_done, pizza_id)

    def order_done(self, order_id: int) -> None:
        self._done_orders.add(order_id)
        self._undone.discard(order_id)

    def dead_letter(self, topic: str, offset: int, claimed: int | None) -> None:
        """``topic`` and ``offset`` are the broken record's own, ``claimed`` the pizza id it claims."""
        if topic == "order-stack":
            self._broken.add(offset)
            self._undone.discard(offset + 1)
            if offset < len(self._sizes) and self._sizes[offset]:
                self._accepted -= 1
                self._pizzas -= self._sizes[offset]
                self._sizes[offset] = 0
                self._firsts = None
        elif topic in _PIZZA_TOPICS and claimed is not None:
            self._dead_pizzas.add(claimed)

    def has_seen(self, order_id: int) -> bool:
        """Whether the order's record was read."""
        return order_id <= len(self._sizes)

    def failed_orders(self) -> set[int]:
        """Orders that will never be done. They may still have pizzas on the way."""
        broken = {offset + 1 for offset in self._broken if offset < len(self._sizes)}
        claimed = {self._order_of(pizza) for pizza in self._dead_pizzas - self._done_pizzas}
        return broken | (claimed & self._undone)

    def open_orders(self) -> set[int]:
        """Accepted orders that are not resolved."""
        return {order for order in self._undone if not self._is_over(order)} if self._dead_pizzas else set(self._undone)

    def progress(self) -> DrainProgress:
        strangers = self._highest_done > self._pizzas
        return DrainProgress(
            orders_accepted=self._accepted,
            orders_done=self._accepted - len(self._undone),
            orders_failed=len(self.failed_orders()),
            orders_open=len(self.open_orders()),
            pizzas_accepted=self._pizzas,
            pizzas_done=sum(pizza <= self._pizzas for pizza in self._done_pizzas)
            if strangers
            else len(self._done_pizzas),
        )

    def _is_over(self, order: int) -> bool:
        """Whether an order that is not done has failed and has nothing on the way any more."""
        first = self._first_pizzas()[order - 1]
        pizzas = set(range(first, first + self._sizes[order - 1]))
        rest = pizzas - self._done_pizzas
        return bool(rest) and rest <= self._dead_pizzas

    def _order_of(self, pizza: int) -> int:
        """The order that holds the pizza; 0 if none does."""
        row = bisect_right(self._first_pizzas(), pizza) - 1
        return row + 1 if row >= 0 and pizza < self._first_pizzas()[row] + self._sizes[row] else 0

    def _first_pizzas(self) -> list[int]:
        if self._firsts is None:
            self._firsts = list(accumulate(self._sizes, initial=1))[:-1]
        return self._firsts


class Drain:
    """Reads the watched topics with a consumer of its own: no group, nothing committed, from the first record on.

    Light on the broker and the processor, which belong to the line under test: it waits long and takes much at once.
    Raises StackError if the topics do not exist or the broker does not answer.
    """

    def __init__(self, bootstrap_servers: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = DrainState()
        self._clock = clock
        self._read_to = dict.fromkeys(WATCHED, 0)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "harness-drain",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 200,
                "fetch.min.bytes": 65_536,
            }
        )
        try:
            end_offsets(self._consumer, WATCHED)
            self._consumer.assign([TopicPartition(topic, 0, 0) for topic in WATCHED])
        except BaseException:
            self._consumer.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._consumer.close()

    def poll(self, timeout_s: float) -> int:
        """Take in what is there, waiting at most ``timeout_s`` seconds for the first record; returns how many."""
        first = self._consumer.poll(timeout_s)
        messages = [] if first is None else [first, *self._consumer.consume(5_000, timeout=0)]
        for message in messages:
            self._take(message)
        return len(messages)

    def wait(
        self,
        timeout_s: float,
        on_progress: Callable[[DrainProgress], object] = lambda progress: None,
        *,
        expected_orders: Collection[int] = (),
        check: Callable[[], object] = lambda: None,
        progress_interval_s: float = 0.5,
    ) -> DrainResult:
        """Wait until every order is resolved, at most ``timeout_s`` seconds.

        ``expected_orders`` are the ids that the order API acknowledged: each must have been read from
        ``order-stack`` first. ``on_progress`` and ``check`` are called every ``progress_interval_s``; what ``check``
        raises (the stack is down for good, say) ends the waiting, and ``result`` still tells what was seen by then.
        """
        deadline = self._clock() + timeout_s
        report = self._clock()
        while True:
            now = self._clock()
            if now >= report:
                check()
                on_progress(self.state.progress())
                report = now + progress_interval_s
            took = self.poll(max(0.0, min(0.2, deadline - now)))
            late = self._clock() >= deadline
            if took and not late:
                continue
            result = self.result(expected_orders)
            complete = result.complete and self._at_the_end()
            if complete or late:
                on_progress(result.progress)
                return replace(result, complete=complete)

    def result(self, expected_orders: Collection[int] = ()) -> DrainResult:
        """How things stand with the records read so far."""
        unseen = tuple(sorted(order for order in expected_orders if not self.state.has_seen(order)))
        open_orders = tuple(sorted(self.state.open_orders()))
        return DrainResult(
            complete=not unseen and not open_orders,
            progress=self.state.progress(),
            open_orders=open_orders,
            failed_orders=tuple(sorted(self.state.failed_orders())),
            unseen_orders=unseen,
        )

    def _at_the_end(self) -> bool:
        """Whether no accepted order can have been missed; an order whose answer got lost has no expected id."""
        try:
            _, end = self._consumer.get_watermark_offsets(TopicPartition("order-stack", 0), timeout=5.0, cached=False)
        except KafkaException:
            return False  # the broker may be on its way back; the deadline decides
        return self._read_to["order-stack"] >= end

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise StackError(f"{message.topic()} cannot be read: {error.str()}")
            return  # the client reconnects by itself, and the deadline decides
        topic: Any = message.topic()
        offset: Any = message.offset()
        key: Any = message.key()
        value: Any = message.value()
        self._read_to[topic] = offset + 1
        if topic == "order-stack":
            self.state.order_stacked(offset, value)
        elif topic == DEAD_LETTER:
            headers = dict(message.headers() or ())
            source, place = headers.get("topic"), number(headers.get("offset"))
            if isinstance(source, bytes) and place != MISSING:
                self.state.dead_letter(source.decode("utf-8", "replace"), place, claimed_pizza(key, value))
        elif topic == "order-done":
            order_id = id_in(value, "orderId")  # broken ones are not dead-lettered, so a key proves nothing
            if order_id != MISSING:
                self.state.order_done(order_id)
        else:
            pizza_id = number(key)
            if pizza_id == MISSING:
                pizza_id = id_in(value, "pizzaId")
            if pizza_id != MISSING:
                self.state.pizza_done(pizza_id)
