"""The orders of a run as ``order-stack`` has them: which exist, and which pizzas are theirs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.measure.events import Ints, json_object

RecipeNames = tuple[str, ...] | None


@dataclass(frozen=True)
class StackedOrder:
    """An ``order-stack`` record: its size in pizzas; recipes as one name for all, a name per pizza, or None."""

    size: int
    recipes: RecipeNames


def stacked_order(value: bytes | None) -> StackedOrder | None:
    """Read an ``order-stack`` value; None if no order can be read from it.

    Deliberately no stricter than needed to know its pizzas: the line's own verdict on a record is its dead letter.
    """
    order: dict[str, Any] = json_object(value) or {}
    size, recipes = order.get("orderSize"), order.get("recipes")
    if type(size) is not int or size < 1:
        return None
    if recipes is None:
        return StackedOrder(size, None)
    if type(recipes) is not list or len(recipes) not in (1, size) or not all(type(name) is str for name in recipes):
        return None
    return StackedOrder(size, tuple(recipes))


@dataclass(frozen=True)
class OrderBook:
    """The orders that hold pizzas, by order id, as parallel columns; ``broken`` are the ids of the others.

    An order id is the record's offset + 1. Pizza ids run on from order to order, beginning with 1: order ``i`` of
    the book has ``first_pizzas[i]`` to ``first_pizzas[i] + sizes[i] - 1``. ``accepted_us`` is MISSING where the
    record does not tell.
    """

    order_ids: Ints
    sizes: Ints
    first_pizzas: Ints
    accepted_us: Ints
    recipes: tuple[RecipeNames, ...]
    broken: tuple[int, ...]

    @classmethod
    def read(
        cls, offsets: Iterable[int], values: Iterable[bytes | None], at_us: Iterable[int], dead: Collection[int] = ()
    ) -> OrderBook:
        """From the topic's records, in their order; ``dead`` holds the offsets that the line has dead-lettered."""
        rows: list[tuple[int, int, int]] = []
        recipes: list[RecipeNames] = []
        broken: list[int] = []
        for offset, value, accepted_us in zip(offsets, values, at_us, strict=True):
            order = None if offset in dead else stacked_order(value)
            if order is None:
                broken.append(offset + 1)
            else:
                rows.append((offset + 1, order.size, accepted_us))
                recipes.append(order.recipes)
        columns = np.array(rows, dtype=np.int64).reshape(len(rows), 3).T
        firsts = 1 + np.concatenate([[0], np.cumsum(columns[1])])[: len(rows)].astype(np.int64)
        return cls(columns[0], columns[1], firsts, columns[2], tuple(recipes), tuple(broken))

    @property
    def pizzas(self) -> int:
        """How many pizzas were accepted; their ids are 1 to this."""
        return int(self.sizes.sum())

    def rows_of(self, pizza_ids: Ints) -> Ints:
        """The book's row for each pizza. The ids must be between 1 and ``pizzas``."""
        return np.searchsorted(self.first_pizzas, pizza_ids, side="right") - 1

    def orders_of(self, pizza_ids: Ints) -> Ints:
        """The order id for each pizza, 0 for ids that no order holds."""
        known = (pizza_ids >= 1) & (pizza_ids <= self.pizzas)
        out = np.zeros(len(pizza_ids), dtype=np.int64)
        out[known] = self.order_ids[self.rows_of(pizza_ids[known])]
        return out

    def recipe_numbers(self, menu: Sequence[str]) -> Ints:
        """Each pizza's recipe as a position on the menu, shape (pizzas,), pizza 1 first. KeyError if not on it."""
        number = {name: i for i, name in enumerate(menu)}
        out = np.arange(self.pizzas, dtype=np.int64) % len(menu)  # without recipes the menu is taken in turn
        for first, size, recipes in zip(self.first_pizzas.tolist(), self.sizes.tolist(), self.recipes, strict=True):
            if recipes is not None:
                out[first - 1 : first - 1 + size] = [number[name] for name in recipes]
        return out
