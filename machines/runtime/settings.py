"""What a service is told through its environment (PROTOCOL.md, section "Settings")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class SettingsError(ValueError):
    """An environment variable is missing or has a value that cannot be meant."""


@dataclass(frozen=True)
class Settings:
    """Validated settings. Times are in the units that their names say."""

    bootstrap_servers: str
    menu_file: Path
    work_ms: float
    work_ms_per_topping: float
    time_scale: float
    capacity_by_topic: Mapping[str, int]
    default_capacity: int
    startup_timeout_s: float
    host: str
    port: int
    max_backlog_pizzas: int
    partitions: int

    def capacity(self, topic: str) -> int:
        """How many pizzas one sender may have at the machine that reads ``topic``."""
        return self.capacity_by_topic.get(topic, self.default_capacity)

    def work_s(self, toppings: int) -> float:
        """Seconds of work for a pizza on which this machine handles that many toppings."""
        return (self.work_ms + self.work_ms_per_topping * toppings) * self.time_scale / 1000.0


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read and check the environment. Raises SettingsError, naming the variable."""
    prefix = "CAPACITY_"
    capacities = {
        name.removeprefix(prefix).lower().replace("_", "-"): _integer(environment, name, 1, least=1)
        for name in environment
        if name.startswith(prefix)
    }
    return Settings(
        bootstrap_servers=environment.get("BOOTSTRAP_SERVERS", "localhost:9092"),
        menu_file=Path(environment.get("MENU_FILE", Path(__file__).parents[1] / "menu.json")),
        work_ms=_number(environment, "WORK_MS", 0.0),
        work_ms_per_topping=_number(environment, "WORK_MS_PER_TOPPING", 0.0),
        time_scale=_number(environment, "TIME_SCALE", 1.0),
        capacity_by_topic=capacities,
        default_capacity=_integer(environment, "CAPACITY", 1, least=1),
        startup_timeout_s=_number(environment, "STARTUP_TIMEOUT_S", 30.0),
        host=environment.get("HOST", "127.0.0.1"),
        port=_integer(environment, "PORT", 8082, least=0),
        max_backlog_pizzas=_integer(environment, "MAX_BACKLOG_PIZZAS", 1_000_000, least=1),
        partitions=_integer(environment, "PARTITIONS", 1, least=1),
    )


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{name}={text!r} is not a number") from None
    if not math.isfinite(value) or value < 0:
        raise SettingsError(f"{name}={text!r} must be a finite number, 0 or more")
    return value


def _integer(environment: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = environment.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        raise SettingsError(f"{name}={text!r} is not a whole number") from None
    if value < least:
        raise SettingsError(f"{name}={text!r} must be at least {least}")
    return value
