"""Order-processing on Kafka: the book's decisions carried out, and orders accepted (PROTOCOL.md, rules 2 to 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from machines.order_processing.book import Action, Announce, Close, Dispatch, Order, OrderBook
from machines.runtime import messages
from machines.runtime.kafka import Link, OnAck, Read, now_us
from machines.runtime.logs import Log
from machines.runtime.messages import BrokenRecord, Headers, Menu, encode, microseconds
from machines.runtime.settings import Settings

NAME = "order-processing"
STACK, STARTED, DONE, PIZZA_DONE = "order-stack", "order-processing", "order-done", "pizza-done"
DOUGH, DOUGH_DONE, DEAD_LETTER = "dough-machine", "dough-machine-done", "dead-letter"
KEY_HEADER = "idempotency-key"


class OrderProcessing:
    """The book, its readers and its writers. Private methods run under the link's lock."""

    def __init__(self, settings: Settings, link: Link, log: Log) -> None:
        self.menu = Menu.load(settings.menu_file)
        self.book = OrderBook(settings.capacity(DOUGH))
        self._settings = settings
        self._link = link
        self._log = log
        self._accepted: dict[int, int] = {}  # order id -> size, acknowledged and not read yet
        self._unread_pizzas = 0  # of orders that are written to order-stack and not read yet
        self._by_key: dict[str, tuple[int, int]] = {}  # idempotency key -> (order id, size)
        self._buried: set[tuple[str, int]] = set()
        self._readers: dict[str, Callable[[Read], None]] = {
            STACK: self._read_stack,
            DOUGH_DONE: self._read_dough_done,
            PIZZA_DONE: self._read_pizza_done,
            DEAD_LETTER: self._read_dead_letter,
        }

    def start(self) -> None:
        """Read the past back, then follow the topics."""
        link = self._link
        positions = dict.fromkeys(self._readers, 0)
        link.wait_for_topics({*positions, STARTED, DONE, DOUGH}, self._settings.startup_timeout_s)
        for topics in ([DEAD_LETTER], [STACK], [STARTED, DONE, DOUGH, DOUGH_DONE, PIZZA_DONE]):
            for read in link.read_back(topics):
                if read.topic in positions:
                    positions[read.topic] = read.offset + 1
                    self._readers[read.topic](read)
                else:
                    self._remember(read)
        link.follow(positions, self._on_record)
        self._log.info("subscribed", topics=sorted(positions))
        with link.lock:
            self._carry_out(self.book.caught_up())

    def accept(self, size: int, recipe: str | None, key: str | None, on_ack: OnAck) -> None:
        """Write an order to order-stack: it is accepted once ``on_ack`` gets its offset. Takes the lock."""
        at = now_us()
        value = {"orderSize": size, "recipes": None if recipe is None else [recipe], "acceptedTimestamp": at // 1000}
        headers: Headers = [("at-us", microseconds(at))]
        if key is not None:
            headers.append((KEY_HEADER, key.encode()))

        def accepted(offset: int, at_us: int) -> None:
            if offset >= len(self.book.orders):
                self._accepted[offset + 1] = size
            else:
                self._unread_pizzas -= size
            if key is not None:
                self._by_key.setdefault(key, (offset + 1, size))
            on_ack(offset, at_us)

        with self._link.lock:
            self._link.send(STACK, None, encode(value), headers, accepted)
            self._unread_pizzas += size

    def first_answer(self, key: str) -> tuple[int, int] | None:
        """(order id, size) of the order with this key, from its acknowledgement on. Takes the lock."""
        with self._link.lock:
            return self._by_key.get(key)

    def backlog_pizzas(self) -> int:
        """Pizzas that wait for their dispatch, from the moment their order is written. Takes the lock."""
        with self._link.lock:
            return self.book.backlog_pizzas + self._unread_pizzas

    def describe(self, order_id: int) -> dict[str, object] | None:
        """What GET /orders/{id} tells. Takes the lock."""
        with self._link.lock:
            order = self.book.order(order_id)
            if order is not None:
                return _description(order_id, order.size, self.book.state(order), order.done)
            if order_id in self._accepted:
                return _description(order_id, self._accepted[order_id], "queued", 0)
            return None

    def _remember(self, read: Read) -> None:
        """What an earlier process wrote. A broken record is not its work, whatever ids it bears."""
        try:
            if read.topic == STARTED:
                self.book.was_announced(messages.read_order_event(read.value, "orderSize", "startTimestamp"))
            elif read.topic == DONE:
                self.book.was_closed(messages.read_order_event(read.value, "endTimestamp"))
            else:
                self.book.was_dispatched(messages.read_pizza(read.key, read.value, self.menu)[0]["pizzaId"])
        except BrokenRecord as broken:
            self._log.warning("broken record", topic=read.topic, offset=read.offset, reason=broken.reason)

    def _on_record(self, read: Read, at_us: int) -> None:
        self._readers[read.topic](read)
        self._carry_out(self.book.advance())

    def _read_stack(self, read: Read) -> None:
        try:
            stacked = messages.read_stacked_order(read.value, self.menu)
        except BrokenRecord as broken:
            self._bury(read, broken.reason)
            stacked = None
        order = self.book.stacked(stacked)
        self._unread_pizzas -= self._accepted.pop(order.order_id, 0)
        key = read.headers.get(KEY_HEADER)
        if key is not None and stacked is not None:
            self._by_key.setdefault(key.decode(errors="replace"), (order.order_id, order.size))

    def _read_dough_done(self, read: Read) -> None:
        pizza_id = messages.read_signal(read.value)
        if pizza_id is not None:
            self.book.freed(pizza_id)

    def _read_pizza_done(self, read: Read) -> None:
        try:
            pizza_id = messages.read_pizza_done(read.value)
        except BrokenRecord as broken:
            self._bury(read, broken.reason)
            return
        if self.book.pizza_done(pizza_id):
            self._carry_out(self.book.completed_by(pizza_id))
        else:
            self._bury(read, f"no order holds pizza {pizza_id}")

    def _read_dead_letter(self, read: Read) -> None:
        headers = read.headers
        topic, offset = headers.get("topic", b"").decode(errors="replace"), messages.spelled(headers.get("offset"))
        if topic in self._readers and offset is not None:
            self._buried.add((topic, offset))
        pizza_id, _ = messages.claimed_pizza(read.key, read.value)
        if topic != STACK and pizza_id is not None:
            self.book.buried(pizza_id)

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Announce(order):
                    self._announce(order)
                case Dispatch(order, index, pizza_id):
                    self._dispatch(order, index, pizza_id)
                case Close(order):
                    self._close(order)

    def _announce(self, order: Order) -> None:
        at = now_us()
        message = {"orderId": order.order_id, "orderSize": order.size, "startTimestamp": at // 1000}
        self._send(STARTED, order.order_id, message, at, lambda: self._carry_out(self.book.acknowledged(order)))

    def _dispatch(self, order: Order, index: int, pizza_id: int) -> None:
        assert order.stacked is not None
        at = now_us()
        recipe = order.stacked.recipe(index, pizza_id, self.menu)
        pizza = messages.new_pizza(pizza_id, order.order_id, order.size, recipe, at // 1000)
        self._send(DOUGH, pizza_id, pizza, at, _nothing)

    def _close(self, order: Order) -> None:
        at = now_us()
        self._send(DONE, order.order_id, {"orderId": order.order_id, "endTimestamp": at // 1000}, at, _nothing)

    def _send(self, topic: str, key: int, message: dict[str, Any], at_us: int, then: Callable[[], None]) -> None:
        headers: Headers = [("from", NAME.encode()), ("at-us", microseconds(at_us))]
        self._link.send(topic, b"%d" % key, encode(message), headers, lambda _, __: then())

    def _bury(self, read: Read, reason: str) -> None:
        if (read.topic, read.offset) in self._buried:
            return
        self._buried.add((read.topic, read.offset))
        self._log.warning("dead letter", topic=read.topic, offset=read.offset, reason=reason)
        record = messages.dead_letter(NAME, read.topic, read.offset, read.key, read.value, reason, now_us())
        self._link.send(DEAD_LETTER, *record, lambda _, __: None)


def _nothing() -> None:
    """What follows an acknowledgement that nothing waits for."""


def _description(order_id: int, size: int, state: str, pizzas_done: int) -> dict[str, object]:
    return {"orderId": order_id, "orderSize": size, "state": state, "pizzasDone": pizzas_done}
