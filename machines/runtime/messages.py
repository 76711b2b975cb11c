"""The messages of the line: reading them strictly, writing them exactly (PROTOCOL.md, section "Messages").

Nothing here touches Kafka. ``read_*`` functions raise BrokenRecord with a reason that ends in ``dead-letter``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

MAX_ID = 2**31 - 1
"""Ids fit ksqlDB's INT."""
MAX_LONG = 2**63 - 1
"""JSON parsers give larger whole numbers than this; messages do not hold them."""
MAX_ORDER_SIZE = 10_000
MAX_VALUE_BYTES = 65_536
"""The largest value that the line takes; a dead letter keeps as much, so it is always whole for sound records."""
MAX_KEY_BYTES = 1024
"""A dead letter keeps keys up to this size; longer ones are left out."""

_LISTS = ("cheese", "meat", "veggies")
_ONLY_STRINGS = {str}

Pizza = dict[str, Any]
"""A pizza message as its JSON object; fields that the line does not know pass through."""

Headers = list[tuple[str, str | bytes | None]]


class BrokenRecord(ValueError):
    """The record does not parse or breaks the schema.

    ``pizza_id`` and ``order_id`` are what it claims, where it claims a whole number: good enough to return a
    credit, never to identify a pizza.
    """

    def __init__(self, reason: str, *, pizza_id: int | None = None, order_id: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pizza_id = pizza_id
        self.order_id = order_id


@dataclass(frozen=True, slots=True)
class Recipe:
    """An entry of menu.json."""

    name: str
    sauce: str
    cheese: tuple[str, ...]
    meat: tuple[str, ...]
    veggies: tuple[str, ...]
    frozen: bool


class Menu:
    """The recipes by name, and by turn for orders that name none."""

    def __init__(self, recipes: list[Recipe]) -> None:
        if not recipes or not any(recipe.frozen for recipe in recipes):
            raise ValueError("a menu needs at least one recipe, and at least one that is frozen")
        self._recipes = recipes
        self._by_name = {recipe.name: recipe for recipe in recipes}

    @classmethod
    def load(cls, path: Path) -> Menu:
        return cls(
            [
                Recipe(
                    entry["name"],
                    entry["sauce"],
                    tuple(entry["cheese"]),
                    tuple(entry["meat"]),
                    tuple(entry["veggies"]),
                    bool(entry["frozen"]),
                )
                for entry in orjson.loads(path.read_bytes())
            ]
        )

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Recipe:
        return self._by_name[name]

    @property
    def first(self) -> Recipe:
        return self._recipes[0]

    def by_turn(self, pizza_id: int) -> Recipe:
        return self._recipes[(pizza_id - 1) % len(self._recipes)]

    @property
    def names(self) -> list[str]:
        return list(self._by_name)


def whole(value: object) -> int | None:
    """``value`` if it is a JSON integer (not a boolean) that 64 bits hold, else None."""
    if type(value) is int and -MAX_LONG - 1 <= value <= MAX_LONG:
        return value
    return None


def spelled(text: bytes | None) -> int | None:
    """The number that a key or header spells in decimal digits, if it is none that is too long to be meant."""
    return int(text) if text is not None and text.isdigit() and len(text) <= 18 else None


def read_object(value: bytes | None, max_bytes: int = MAX_VALUE_BYTES) -> dict[str, Any]:
    """Parse a JSON object of at most ``max_bytes``."""
    if value is None:
        raise BrokenRecord("the value is null")
    if len(value) > max_bytes:
        raise BrokenRecord(f"the value has {len(value)} bytes; {max_bytes} are allowed")
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise BrokenRecord(f"not JSON: {error}") from None
    if type(parsed) is not dict:
        raise BrokenRecord("not a JSON object")
    return parsed


def claimed_pizza(key: bytes | None, value: bytes | None) -> tuple[int | None, int | None]:
    """(pizzaId, orderId) as a broken record claims them; the pizza's from the key where the value has none."""
    pizza_id = order_id = None
    try:
        parsed = orjson.loads(value or b"")
        if type(parsed) is dict:
            pizza_id, order_id = _id(parsed.get("pizzaId")), _id(parsed.get("orderId"))
    except orjson.JSONDecodeError:
        pizza_id = None
    return pizza_id if pizza_id is not None else _id(spelled(key)), order_id


def _id(value: object) -> int | None:
    number = whole(value)
    return number if number is not None and 1 <= number <= MAX_ID else None


def read_pizza(
    key: bytes | None, value: bytes | None, menu: Menu, max_bytes: int = MAX_VALUE_BYTES
) -> tuple[Pizza, Recipe]:
    """A pizza message and the recipe it follows. Raises BrokenRecord with the claimed ids."""
    try:
        pizza = read_object(value, max_bytes)
        _check_pizza(pizza)
        if key != b"%d" % pizza["pizzaId"]:
            raise BrokenRecord("the key is not the pizzaId")
        name = pizza.get("recipe")
        if name is None:
            return pizza, menu.first
        if type(name) is not str or name not in menu:
            raise BrokenRecord(f"recipe {name!r} is not on the menu")
        return pizza, menu[name]
    except BrokenRecord as broken:
        pizza_id, order_id = claimed_pizza(key, value)
        raise BrokenRecord(broken.reason, pizza_id=pizza_id, order_id=order_id) from None


def _check_pizza(pizza: Pizza) -> None:
    """Every field of the specification. Written out flat: this stands in the way of every pizza at every machine."""
    pizza_id, order_id, size = pizza.get("pizzaId"), pizza.get("orderId"), pizza.get("orderSize")
    if type(pizza_id) is not int or not 1 <= pizza_id <= MAX_ID:
        raise BrokenRecord(f"pizzaId must be a whole number from 1 to {MAX_ID}")
    if type(order_id) is not int or not 1 <= order_id <= MAX_ID:
        raise BrokenRecord(f"orderId must be a whole number from 1 to {MAX_ID}")
    if type(size) is not int or not 1 <= size <= MAX_ORDER_SIZE:
        raise BrokenRecord(f"orderSize must be a whole number from 1 to {MAX_ORDER_SIZE}")
    start, end = pizza.get("startTimestamp"), pizza.get("endTimestamp")
    if type(start) is not int or start > MAX_LONG:
        raise BrokenRecord("startTimestamp must be a whole number")
    if end is not None and (type(end) is not int or end > MAX_LONG):
        raise BrokenRecord("endTimestamp must be a whole number or null")
    if type(pizza.get("msgDesc")) is not str:
        raise BrokenRecord("msgDesc must be a string")
    if type(pizza.get("sauce")) is not str:
        raise BrokenRecord("sauce must be a string")
    if type(pizza.get("baked")) is not bool:
        raise BrokenRecord("baked must be a boolean")
    for name in _LISTS:
        toppings = pizza.get(name)
        if type(toppings) is not list or (toppings and set(map(type, toppings)) != _ONLY_STRINGS):
            raise BrokenRecord(f"{name} must be an array of strings")


def new_pizza(pizza_id: int, order_id: int, order_size: int, recipe: Recipe, start_ms: int) -> Pizza:
    """A pizza as order-processing hands it to the dough machine: nothing on it yet."""
    return {
        "pizzaId": pizza_id,
        "orderId": order_id,
        "orderSize": order_size,
        "startTimestamp": start_ms,
        "endTimestamp": None,
        "msgDesc": "Pizza ordered",
        "sauce": "",
        "baked": False,
        "cheese": [],
        "meat": [],
        "veggies": [],
        "recipe": recipe.name,
    }


@dataclass(frozen=True, slots=True)
class StackedOrder:
    """A record of order-stack. ``recipes`` is None, one name for all pizzas, or a name per pizza."""

    size: int
    recipes: tuple[str, ...] | None
    accepted_ms: int

    def recipe(self, index: int, pizza_id: int, menu: Menu) -> Recipe:
        """The recipe of the order's ``index``-th pizza (from 0), the same at every reading."""
        if self.recipes is None:
            return menu.by_turn(pizza_id)
        return menu[self.recipes[index] if len(self.recipes) > 1 else self.recipes[0]]


def read_stacked_order(value: bytes | None, menu: Menu) -> StackedOrder:
    """An order as it was accepted. Raises BrokenRecord."""
    order = read_object(value)
    size, accepted = whole(order.get("orderSize")), whole(order.get("acceptedTimestamp"))
    if size is None or not 1 <= size <= MAX_ORDER_SIZE:
        raise BrokenRecord(f"orderSize must be a whole number from 1 to {MAX_ORDER_SIZE}")
    if accepted is None:
        raise BrokenRecord("acceptedTimestamp must be a whole number")
    recipes = order.get("recipes")
    if recipes is None:
        return StackedOrder(size, None, accepted)
    if type(recipes) is not list or len(recipes) not in (1, size):
        raise BrokenRecord("recipes must be null, or an array of one name or of one name per pizza")
    for name in recipes:
        if type(name) is not str or name not in menu:
            raise BrokenRecord(f"recipe {name!r} is not on the menu")
    return StackedOrder(size, tuple(recipes), accepted)


def read_pizza_done(value: bytes | None) -> int:
    """The pizzaId of a pizza-done record. Raises BrokenRecord."""
    done = read_object(value)
    for name in ("pizzaId", "orderId"):
        if _id(done.get(name)) is None:
            raise BrokenRecord(f"{name} must be a whole number from 1 to {MAX_ID}")
    for name in ("orderSize", "endTimestamp"):
        if whole(done.get(name)) is None:
            raise BrokenRecord(f"{name} must be a whole number")
    pizza_id: int = done["pizzaId"]
    return pizza_id


def read_order_event(value: bytes | None, *whole_numbers: str) -> int:
    """The orderId of an order-processing or order-done record, which has these fields too. Raises BrokenRecord."""
    event = read_object(value)
    order_id = _id(event.get("orderId"))
    if order_id is None:
        raise BrokenRecord(f"orderId must be a whole number from 1 to {MAX_ID}")
    for name in whole_numbers:
        if whole(event.get(name)) is None:
            raise BrokenRecord(f"{name} must be a whole number")
    return order_id


def read_signal(value: bytes | None) -> int | None:
    """The pizzaId of a ``-done`` record, or None if it is no such record: a broken signal frees nothing."""
    try:
        signal = read_object(value)
    except BrokenRecord:
        return None
    return _id(signal.get("pizzaId")) if signal.get("doneMsg") is True else None


def dead_letter(
    machine: str, topic: str, offset: int, key: bytes | None, value: bytes | None, reason: str, at_us: int
) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers of the ``dead-letter`` record for a broken one."""
    headers: Headers = [
        ("topic", topic.encode()),
        ("offset", b"%d" % offset),
        ("reason", reason.encode(errors="replace")),
        ("size", b"%d" % len(value or b"")),
        ("machine", machine.encode()),
        ("at-us", microseconds(at_us)),
    ]
    return (
        key if key is None or len(key) <= MAX_KEY_BYTES else None,
        value and value[:MAX_VALUE_BYTES],
        headers,
    )


def encode(message: dict[str, Any]) -> bytes:
    return orjson.dumps(message)


def microseconds(value: int) -> bytes:
    """A timing header's text."""
    return b"%d" % value
