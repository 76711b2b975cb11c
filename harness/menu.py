"""The menu: the recipes that machines and harness both read from ``machines/menu.json``."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

MENU_FILE = Path(__file__).resolve().parents[1] / "machines" / "menu.json"


class Recipe(BaseModel):
    """A pizza of the menu: ``cheese``, ``meat``, ``veggies`` are toppings, ``frozen`` ones pass the freezer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sauce: str
    cheese: tuple[str, ...]
    meat: tuple[str, ...]
    veggies: tuple[str, ...]
    frozen: bool


def load_menu(path: Path = MENU_FILE) -> tuple[Recipe, ...]:
    """The recipes in the file's order: the order in which pizzas without a recipe of their own take them.

    The file is part of the product, not user input: a damaged one raises what json or pydantic raise.
    """
    return TypeAdapter(tuple[Recipe, ...]).validate_python(json.loads(path.read_text("utf-8")))
