from __future__ import annotations

from machines.order_processing.book import Action, Announce, Close, Dispatch, OrderBook
from machines.runtime.messages import MAX_ID, StackedOrder


def _book(sizes: list[int | None], capacity: int = 1) -> OrderBook:
    book = OrderBook(capacity)
    for size in sizes:
        book.stacked(None if size is None else StackedOrder(size, None, 0))
    return book


def _dispatched(actions: list[Action]) -> list[int]:
    return [action.pizza_id for action in actions if isinstance(action, Dispatch)]


def test_an_order_is_announced_before_its_first_pizza_leaves() -> None:
    book = _book([2])
    order = book.orders[0]
    assert book.caught_up() == [Announce(order)]
    assert book.advance() == []
    assert book.acknowledged(order) == [Dispatch(order, 0, 1)]
    assert book.advance() == []
    book.freed(1)
    assert book.advance() == [Dispatch(order, 1, 2)]


def test_the_next_order_starts_when_the_last_pizza_of_the_one_before_has_left() -> None:
    book = _book([1, 1])
    book.caught_up()
    book.acknowledged(book.orders[0])
    assert book.advance() == []  # no place at the dough machine yet: not announced either
    book.freed(1)
    assert book.advance() == [Announce(book.orders[1])]
    assert book.state(book.orders[0]) == "processing"
    assert book.state(book.orders[1]) == "queued"


def test_capacity_bounds_the_pizzas_at_the_dough_machine() -> None:
    book = _book([5], capacity=3)
    book.caught_up()
    assert _dispatched(book.acknowledged(book.orders[0])) == [1, 2, 3]
    book.freed(2)
    book.freed(2)
    assert _dispatched(book.advance()) == [4]


def test_an_order_is_done_when_all_its_distinct_pizzas_are() -> None:
    book = _book([2])
    book.caught_up()
    for _ in range(3):
        assert book.pizza_done(1)
        assert book.completed_by(1) == []
    assert book.pizza_done(2)
    assert book.completed_by(2) == [Close(book.orders[0])]
    assert book.completed_by(2) == []
    assert book.state(book.orders[0]) == "done"


def test_a_broken_order_uses_up_its_id_and_holds_no_pizzas() -> None:
    book = _book([2, None, 3])
    assert [order.first_pizza for order in book.orders if order.stacked] == [1, 3]
    assert book.holder(3) is book.orders[2]
    assert book.state(book.orders[1]) == "failed"
    assert not book.pizza_done(6)
    assert not book.pizza_done(0)


def test_orders_whose_pizza_ids_would_not_fit_are_broken() -> None:
    book = _book([])
    book._next_pizza = MAX_ID
    assert book.stacked(StackedOrder(2, None, 0)).stacked is None
    assert book.stacked(StackedOrder(1, None, 0)).stacked is not None


def test_an_order_is_failed_while_a_dead_letter_claims_a_pizza_that_is_not_done() -> None:
    book = _book([2])
    book.caught_up()
    book.buried(2)
    assert book.state(book.orders[0]) == "failed"
    book.pizza_done(2)
    assert book.state(book.orders[0]) != "failed"


def test_a_restart_goes_on_where_the_topics_end() -> None:
    book = _book([3, 1])
    book.was_announced(1)
    book.was_dispatched(1)
    book.was_dispatched(2)
    book.freed(1)
    assert book.caught_up() == []  # pizza 2 still takes the place
    book.freed(2)
    assert _dispatched(book.advance()) == [3]


def test_a_restart_closes_orders_that_were_complete() -> None:
    book = _book([1, 1])
    for number in (1, 2):
        book.was_announced(number)
        book.was_dispatched(number)
        book.freed(number)
        book.pizza_done(number)
    book.was_closed(1)
    assert book.caught_up() == [Close(book.orders[1])]


def test_the_backlog_counts_accepted_pizzas_that_have_not_left() -> None:
    book = _book([3, 2])
    assert book.backlog_pizzas == 5
    book.caught_up()
    book.acknowledged(book.orders[0])
    assert book.backlog_pizzas == 4
