from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines.runtime import messages
from machines.runtime.messages import MAX_VALUE_BYTES, BrokenRecord, Menu, StackedOrder, new_pizza

MENU = Menu.load(Path(messages.__file__).parents[1] / "menu.json")
PIZZA = new_pizza(7, 2, 3, MENU["salami"], 1731571200000)


def _value(**changes: object) -> bytes:
    return orjson.dumps({**PIZZA, **changes})


def test_a_new_pizza_is_a_sound_record() -> None:
    pizza, recipe = messages.read_pizza(b"7", orjson.dumps(PIZZA), MENU)
    assert (pizza, recipe.name) == (PIZZA, "salami")


def test_a_pizza_without_recipe_follows_the_first_one_and_unknown_fields_stay() -> None:
    value = orjson.dumps({name: field for name, field in PIZZA.items() if name != "recipe"} | {"oliveOil": {"ml": 3}})
    pizza, recipe = messages.read_pizza(b"7", value, MENU)
    assert recipe is MENU.first
    assert pizza["oliveOil"] == {"ml": 3}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "not a JSON object"),
        (_value(pizzaId=True), "pizzaId"),
        (_value(pizzaId=0), "pizzaId"),
        (_value(pizzaId=2**31), "pizzaId"),
        (_value(pizzaId=7.0), "pizzaId"),
        (_value(orderId="2"), "orderId"),
        (_value(orderSize=10_001), "orderSize"),
        (_value(startTimestamp=None), "startTimestamp"),
        (_value(startTimestamp=2**64 - 1), "startTimestamp"),
        (_value(endTimestamp="soon"), "endTimestamp"),
        (_value(msgDesc=None), "msgDesc"),
        (_value(sauce=3), "sauce"),
        (_value(baked=0), "baked"),
        (_value(cheese="gouda"), "cheese"),
        (_value(meat=[1]), "meat"),
        (_value(veggies=None), "veggies"),
        (_value(recipe="calzone"), "calzone"),
        (_value(recipe=3), "recipe"),
        (_value(pizzaId=8), "key"),
        (_value(note="x" * MAX_VALUE_BYTES), "bytes"),
    ],
)
def test_a_broken_record_is_refused_with_its_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(BrokenRecord, match=reason):
        messages.read_pizza(b"7", value, MENU)


def test_a_missing_field_is_refused() -> None:
    for name in set(PIZZA) - {"recipe", "endTimestamp"}:
        value = orjson.dumps({key: field for key, field in PIZZA.items() if key != name})
        with pytest.raises(BrokenRecord, match=name):
            messages.read_pizza(b"7", value, MENU)


@pytest.mark.parametrize(
    ("key", "value", "claimed"),
    [
        (b"7", _value(sauce=1), (7, 2)),
        (b"7", b"nonsense", (7, None)),
        (None, b"nonsense", (None, None)),
        (b"x", b"[]", (None, None)),
        (b"9", orjson.dumps({"pizzaId": 3}), (3, None)),
        (b"9", orjson.dumps({"pizzaId": True, "orderId": 4}), (9, 4)),
        (b"99999999999", b"", (None, None)),
        (None, orjson.dumps({"pizzaId": 2**31}), (None, None)),
    ],
)
def test_a_broken_record_claims_the_id_of_its_value_or_else_of_its_key(
    key: bytes | None, value: bytes, claimed: tuple[int | None, int | None]
) -> None:
    assert messages.claimed_pizza(key, value) == claimed


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(PIZZA)), JSON, max_size=4), st.binary(max_size=40) | st.none())
def test_reading_never_fails_otherwise_than_by_refusing(changes: dict[str, Any], raw: bytes | None) -> None:
    for value in (orjson.dumps({**PIZZA, **changes}), raw):
        try:
            pizza, recipe = messages.read_pizza(b"7", value, MENU)
        except BrokenRecord:
            continue
        assert pizza["pizzaId"] == 7
        assert recipe.name in MENU


def test_a_dead_letter_keeps_64_kib_of_the_value_and_says_how_much_there_was() -> None:
    key, value, headers = messages.dead_letter("oven-machine", "oven-machine", 3, b"k" * 2000, b"v" * 100_000, "why", 5)
    assert key is None
    assert value == b"v" * MAX_VALUE_BYTES
    assert dict(headers) == {
        "topic": b"oven-machine",
        "offset": b"3",
        "reason": b"why",
        "size": b"100000",
        "machine": b"oven-machine",
        "at-us": b"5",
    }


def test_an_order_without_recipes_takes_the_menu_in_turn_by_pizza_id() -> None:
    order = messages.read_stacked_order(b'{"orderSize": 2, "recipes": null, "acceptedTimestamp": 1}', MENU)
    assert [order.recipe(index, 5 + index, MENU).name for index in range(2)] == [MENU.names[4], MENU.names[0]]


def test_an_order_names_one_recipe_for_all_or_one_per_pizza() -> None:
    assert StackedOrder(2, ("salami",), 0).recipe(1, 9, MENU).name == "salami"
    assert StackedOrder(2, ("salami", "margherita"), 0).recipe(1, 9, MENU).name == "margherita"


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"{}",
        b'{"orderSize": 0, "acceptedTimestamp": 1}',
        b'{"orderSize": 10001, "acceptedTimestamp": 1}',
        b'{"orderSize": 2, "acceptedTimestamp": "now"}',
        b'{"orderSize": 3, "recipes": ["salami", "salami"], "acceptedTimestamp": 1}',
        b'{"orderSize": 1, "recipes": ["calzone"], "acceptedTimestamp": 1}',
        b'{"orderSize": 1, "recipes": "salami", "acceptedTimestamp": 1}',
    ],
)
def test_a_broken_order_is_refused(value: bytes | None) -> None:
    with pytest.raises(BrokenRecord):
        messages.read_stacked_order(value, MENU)


def test_a_signal_must_say_that_it_is_done() -> None:
    assert messages.read_signal(b'{"pizzaId": 4, "orderId": 1, "doneMsg": true}') == 4
    for value in (None, b"", b'{"pizzaId": 4, "doneMsg": false}', b'{"pizzaId": "4", "doneMsg": true}'):
        assert messages.read_signal(value) is None


def test_a_menu_needs_a_frozen_recipe() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Menu([MENU["salami"]])
