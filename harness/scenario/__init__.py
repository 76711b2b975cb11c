"""The scenario: what is ordered, when, on which line settings, and what must hold afterwards.

A scenario is a TOML file, read and validated once by ``load_scenario``; docs/scenarios.md has every key.
"""

from harness.scenario.loader import load_scenario
from harness.scenario.model import (
    MAX_ORDERS,
    MAX_PIZZAS,
    SUMMARY_NAMES,
    BurstPhase,
    ConstantPhase,
    Drain,
    DriverSettings,
    LineSettings,
    Load,
    MachineSettings,
    OrderSpec,
    Phase,
    Scenario,
    Threshold,
    Warmup,
)

__all__ = [
    "MAX_ORDERS",
    "MAX_PIZZAS",
    "SUMMARY_NAMES",
    "BurstPhase",
    "ConstantPhase",
    "Drain",
    "DriverSettings",
    "LineSettings",
    "Load",
    "MachineSettings",
    "OrderSpec",
    "Phase",
    "Scenario",
    "Threshold",
    "Warmup",
    "load_scenario",
]
