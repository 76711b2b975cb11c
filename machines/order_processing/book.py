"""The orders and what to do about them, without I/O (PROTOCOL.md, rules 2 to 5, 7 and 11).

The book is told what was read and acknowledged and answers with what to write. Everything in it can be told again
from the topics: a restarted service reads them back and goes on where the last one stopped.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

from machines.runtime.ids import IdSet
from machines.runtime.messages import MAX_ID, StackedOrder

State = Literal["queued", "processing", "done", "failed"]


@dataclass(slots=True)
class Order:
    """One record of order-stack. A broken one has no ``stacked`` and holds no pizzas."""

    order_id: int
    first_pizza: int
    stacked: StackedOrder | None
    announced: bool = False  # its order-processing record is acknowledged
    closed: bool = False  # its order-done record is written
    dispatched: int = 0  # pizzas handed to the dough machine, in order
    done: int = 0  # distinct pizzas seen on pizza-done

    @property
    def size(self) -> int:
        return self.stacked.size if self.stacked else 0


@dataclass(frozen=True, slots=True)
class Announce:
    """Write order-processing; the order's first pizza follows its acknowledgement."""

    order: Order


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Hand the ``index``-th pizza (from 0) of the order to the dough machine."""

    order: Order
    index: int
    pizza_id: int


@dataclass(frozen=True, slots=True)
class Close:
    """Write order-done."""

    order: Order


Action = Announce | Dispatch | Close


class OrderBook:
    """First come, first served. ``capacity`` bounds the pizzas at the dough machine."""

    def __init__(self, capacity: int) -> None:
        self.orders: list[Order] = []
        self._capacity = capacity
        self._starts: list[int] = []  # first pizza id of every order that holds pizzas, ascending
        self._holders: list[Order] = []  # the same orders
        self._next_pizza = 1
        self._head = 0  # index into _holders of the order being dispatched
        self._announcing = False
        self._announced_before = IdSet()
        self._dispatched = IdSet()
        self._freed = IdSet()
        self._at_dough: set[int] = set()
        self._done = IdSet()
        self._claimed: set[int] = set()  # pizza ids that dead letters claim
        self._recovering = True

    # What was read. Before ``caught_up`` these only fill the book.

    def stacked(self, stacked: StackedOrder | None) -> Order:
        """The next record of order-stack; None for a broken one, which uses up its order id and holds no pizzas."""
        if stacked is not None and self._next_pizza + stacked.size - 1 > MAX_ID:
            stacked = None
        order = Order(len(self.orders) + 1, self._next_pizza, stacked)
        self.orders.append(order)
        if stacked is not None:
            self._starts.append(order.first_pizza)
            self._holders.append(order)
            self._next_pizza += stacked.size
        return order

    def was_announced(self, order_id: int) -> None:
        """A record of order-processing, read back."""
        self._announced_before.add(order_id)

    def was_dispatched(self, pizza_id: int) -> None:
        """A record of dough-machine, read back."""
        self._dispatched.add(pizza_id)

    def was_closed(self, order_id: int) -> None:
        """A record of order-done, read back."""
        if 1 <= order_id <= len(self.orders):
            self.orders[order_id - 1].closed = True

    def freed(self, pizza_id: int) -> None:
        """The dough machine is done with a pizza."""
        self._freed.add(pizza_id)
        self._at_dough.discard(pizza_id)

    def pizza_done(self, pizza_id: int) -> bool:
        """A record of pizza-done. False if no order holds this pizza."""
        order = self.holder(pizza_id)
        if order is None:
            return False
        if self._done.add(pizza_id):
            order.done += 1
        return True

    def buried(self, pizza_id: int) -> None:
        """A dead letter that claims this pizza."""
        self._claimed.add(pizza_id)

    def caught_up(self) -> list[Action]:
        """Everything that was in the topics has been told: from now on the book acts."""
        for order in self._holders:
            order.announced = order.order_id in self._announced_before
        ids = (pizza for order in self._holders for pizza in range(order.first_pizza, order.first_pizza + order.size))
        self._at_dough = {pizza for pizza in ids if pizza in self._dispatched and pizza not in self._freed}
        self._recovering = False
        return [action for order in self._holders for action in self._closing(order)] + self.advance()

    # What follows.

    def acknowledged(self, order: Order) -> list[Action]:
        """The order-processing record of ``order`` is acknowledged."""
        order.announced = True
        self._announcing = False
        return self.advance()

    def advance(self) -> list[Action]:
        """Everything that can be dispatched now, in order."""
        actions: list[Action] = []
        while not self._recovering and self._head < len(self._holders) and not self._announcing:
            order = self._holders[self._head]
            pizza_id = order.first_pizza + order.dispatched
            if order.dispatched == order.size:
                self._head += 1
            elif pizza_id in self._dispatched:
                order.dispatched += 1
            elif len(self._at_dough) >= self._capacity:
                break
            elif not order.announced:
                self._announcing = True
                actions.append(Announce(order))
            else:
                self._dispatched.add(pizza_id)
                if pizza_id not in self._freed:
                    self._at_dough.add(pizza_id)
                actions.append(Dispatch(order, order.dispatched, pizza_id))
                order.dispatched += 1
        return actions

    def completed_by(self, pizza_id: int) -> list[Action]:
        """What the completion of this pizza brings about."""
        order = self.holder(pizza_id)
        return [] if order is None or self._recovering else self._closing(order)

    def _closing(self, order: Order) -> list[Action]:
        if order.closed or order.done < order.size:
            return []
        order.closed = True
        return [Close(order)]

    # Questions.

    def holder(self, pizza_id: int) -> Order | None:
        """The order that this pizza belongs to."""
        at = bisect_right(self._starts, pizza_id) - 1
        if at < 0 or pizza_id >= self._starts[at] + self._holders[at].size:
            return None
        return self._holders[at]

    def order(self, order_id: int) -> Order | None:
        return self.orders[order_id - 1] if 1 <= order_id <= len(self.orders) else None

    def state(self, order: Order) -> State:
        """``failed`` while a dead letter claims one of its pizzas and the order is not done all the same."""
        if order.stacked is None:
            return "failed"
        if order.closed:
            return "done"
        pizzas = range(order.first_pizza, order.first_pizza + order.size)
        if self._claimed and any(pizza in self._claimed and pizza not in self._done for pizza in pizzas):
            return "failed"
        return "processing" if order.announced else "queued"

    @property
    def backlog_pizzas(self) -> int:
        """Pizzas of accepted orders that are not dispatched yet."""
        return self._next_pizza - 1 - len(self._dispatched)
