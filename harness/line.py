"""The line as the specification names it: machines in order, their topics, routes and work times.

The services under ``machines/`` are started as programs and never imported; this module holds what the harness
knows of them. Source of the work times: the original experiment, see docs/scenarios.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout that the harness runs from."""


ALL_TOPPINGS = ("cheese", "meat", "veggies")


@dataclass(frozen=True)
class Machine:
    """One machine: ``topic`` is its input and its key in scenario files, ``module`` the program that runs it."""

    topic: str
    module: str
    next_topics: tuple[str, ...]
    default_work_ms: float
    toppings: tuple[str, ...] = ()
    """The lists of a recipe whose entries count as toppings for ``work_ms_per_topping``."""

    @property
    def done_topic(self) -> str:
        return f"{self.topic}-done"


MACHINES: tuple[Machine, ...] = (
    Machine("dough-machine", "machines.dough_machine", ("dough-shaper",), 1000.0),
    Machine("dough-shaper", "machines.dough_shaper", ("sauce-machine",), 500.0),
    Machine("sauce-machine", "machines.sauce_machine", ("cheese-machine",), 1000.0),
    Machine("cheese-machine", "machines.cheese_grater", ("meat-machine",), 750.0, ("cheese",)),
    Machine("meat-machine", "machines.meat_slicer", ("vegetables-machine",), 1000.0, ("meat",)),
    Machine("vegetables-machine", "machines.vegetables_slicer", ("oven-machine",), 1000.0, ("veggies",)),
    Machine("oven-machine", "machines.oven", ("freezer-machine", "packaging-machine"), 1000.0, ALL_TOPPINGS),
    Machine("freezer-machine", "machines.freezer", ("packaging-machine",), 1000.0, ALL_TOPPINGS),
    Machine("packaging-machine", "machines.packaging_robot", ("pizza-done",), 1000.0, ALL_TOPPINGS),
)
"""Dough to packaging, in the order that a frozen pizza visits them."""

MACHINE_TOPICS: tuple[str, ...] = tuple(machine.topic for machine in MACHINES)
DONE_TOPICS: tuple[str, ...] = tuple(machine.done_topic for machine in MACHINES)
ORDER_TOPICS: tuple[str, ...] = ("order-stack", "order-processing", "order-done", "pizza-done")
DEAD_LETTER = "dead-letter"
ALL_TOPICS: tuple[str, ...] = (*MACHINE_TOPICS, *DONE_TOPICS, *ORDER_TOPICS, DEAD_LETTER)
