"""The scenario's models: frozen, validated once, units in the key names, unknown keys refused."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from harness.line import MACHINE_TOPICS, MACHINES

MAX_PIZZAS = 2**31 - 1
"""Pizza ids count up from 1 and are 32-bit integers in the latency tables."""

MAX_ORDERS = 1_000_000
"""The driver plans every order before the first one is sent."""

_LATENCIES = ("order_latency", "customer_latency", "pizza_latency")
SUMMARY_NAMES: tuple[str, ...] = (
    *(f"{latency}_{figure}_ms" for latency in _LATENCIES for figure in ("p50", "p95", "p99", "max")),
    "throughput_pizzas_per_s",
    "line_efficiency",
    "makespan_s",
    "unfinished_orders",
    "failed_orders",
    "lost_pizzas",
    "duplicate_pizzas",
    "dead_letters",
    "send_lag_p99_ms",
)
"""The figures of a run's summary: what a threshold can be set on."""


def _one_of(names: Sequence[str]) -> AfterValidator:
    """Accepts these table keys only."""

    def check(key: str) -> str:
        if key not in names:
            raise PydanticCustomError("unknown_key", "unknown key", {"known": tuple(names)})
        return key

    return AfterValidator(check)


def _on_the_menu(recipe: str, info: ValidationInfo) -> str:
    """Checks against the context's menu, if any; an archived scenario keeps the recipes of its day."""
    menu = (info.context or {}).get("menu")
    if menu is not None and recipe not in menu:
        raise PydanticCustomError("unknown_name", "no recipe of this name", {"known": tuple(menu)})
    return recipe


_Int = Annotated[int, Field(strict=True)]
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Text = Annotated[str, Field(min_length=1)]
_Capacity = Annotated[_Int, Field(ge=1, le=1000)]
_WorkMs = Annotated[_Number, Field(ge=0, le=3_600_000)]
_Seconds = Annotated[_Number, Field(gt=0, le=86_400)]


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MachineSettings(Table):
    """One machine's settings, before ``time_scale``."""

    work_ms: _WorkMs = Field(description="work on one pizza, without its toppings")
    work_ms_per_topping: _WorkMs = Field(default=0.0, description="added for each topping")
    capacity: _Capacity | None = Field(
        default=None, description="pizzas that one sender may have here at a time; default: the line's"
    )
    command: Annotated[tuple[_Text, ...], Field(min_length=1)] | None = Field(
        default=None, description="program and arguments that replace this machine on the local stack"
    )


class LineSettings(Table):
    """The line under test. ``machines`` always holds all nine, whichever of them the file mentions."""

    time_scale: Annotated[_Number, Field(ge=0, le=1000)] = Field(
        default=1.0, description="factor on all work times; 0 means no work at all"
    )
    capacity: _Capacity = Field(default=1, description="capacity of the machines that set none of their own")
    machines: dict[Annotated[str, _one_of(MACHINE_TOPICS)], MachineSettings] = Field(
        default_factory=dict, validate_default=True, description="settings per machine, by its topic"
    )

    @field_validator("machines", mode="before")
    @classmethod
    def _complete(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        complete: dict[object, object] = {m.topic: {"work_ms": m.default_work_ms} for m in MACHINES}
        for topic, settings in given.items():
            known = complete.get(topic)
            complete[topic] = known | settings if isinstance(known, dict) and isinstance(settings, dict) else settings
        return complete

    def capacity_of(self, topic: str) -> int:
        """Pizzas that one sender may have at this machine at a time."""
        own = self.machines[topic].capacity
        return self.capacity if own is None else own

    def work_us(self, topic: str, toppings: int) -> int:
        """Nominal work here on a pizza with this many toppings: microseconds, ``time_scale`` applied."""
        machine = self.machines[topic]
        work_ms = machine.work_ms + machine.work_ms_per_topping * toppings
        return round(work_ms * self.time_scale * 1000)


class OrderSpec(Table):
    """``count`` equal orders of ``size`` pizzas each; without a recipe an order cycles through the menu."""

    size: Annotated[_Int, Field(ge=1, le=10_000)] = Field(description="pizzas in the order")
    count: Annotated[_Int, Field(ge=1, le=MAX_ORDERS)] = Field(default=1, description="orders like this one")
    recipe: Annotated[str, AfterValidator(_on_the_menu)] | None = Field(
        default=None, description="one recipe for all pizzas; default: the menu in turn"
    )


_Orders = Annotated[tuple[OrderSpec, ...], Field(min_length=1)]


class PhaseBase(Table):
    start_after_s: Annotated[_Number, Field(ge=0, le=86_400)] = Field(
        default=0.0, description="pause between the last due time of the phase before and this phase's start"
    )
    orders: _Orders = Field(description="the phase's orders, due in this order")


class BurstPhase(PhaseBase):
    """All orders are due at the phase's start."""

    arrivals: Literal["burst"]


class ConstantPhase(PhaseBase):
    """The first order is due at the phase's start, each later one ``1 / rate_per_s`` after the one before."""

    arrivals: Literal["constant"]
    rate_per_s: Annotated[_Number, Field(ge=0.0001, le=1_000_000)] = Field(description="orders per second")


Phase = Annotated[BurstPhase | ConstantPhase, Field(discriminator="arrivals")]


class Warmup(Table):
    """Orders sent at once and finished before the load begins; latency, throughput and efficiency leave them out."""

    orders: tuple[OrderSpec, ...] = Field(default=(), description="the warm-up orders")


class Load(Table):
    """The phases follow one another."""

    phases: Annotated[tuple[Phase, ...], Field(min_length=1)] = Field(description="at least one")


class DriverSettings(Table):
    """How orders are sent, and how late they may be sent before the run does not count."""

    request_timeout_s: _Seconds = Field(
        default=10.0, description="an order without an answer by then has an unknown outcome"
    )
    max_send_lag_p99_ms: Annotated[_Number, Field(gt=0, le=60_000)] = Field(
        default=50.0, description="if orders leave later than this after they were due, the run is marked driver_late"
    )


class Drain(Table):
    """The wait for open orders after the last one was sent."""

    timeout_s: _Seconds = Field(default=60.0, description="patience until every order is done")


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
_THRESHOLD = re.compile(r"\s*(<=|>=|==|<|>)\s*([+-]?\d{1,15}(?:\.\d{1,15})?(?:e[+-]?\d{1,2})?)\s*", re.ASCII)


class Threshold(Table):
    """What a figure must be for the run to pass, in files written as ``"<= 0"``."""

    op: Literal["<", "<=", ">", ">=", "=="]
    limit: _Number

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, given: object) -> object:
        if isinstance(given, Mapping):
            return given
        match = _THRESHOLD.fullmatch(given) if isinstance(given, str) else None
        if match is None:
            raise PydanticCustomError(
                "threshold", 'must be a text of operator (< <= > >= ==) and number, such as "<= 0"'
            )
        return {"op": match[1], "limit": float(match[2])}

    @model_serializer
    def __str__(self) -> str:
        return f"{self.op} {int(self.limit) if self.limit.is_integer() else self.limit}"

    def holds(self, value: float | None) -> bool:
        """Whether ``value`` passes. A figure that could not be measured (None, NaN) never does."""
        return value is not None and _COMPARE[self.op](value, self.limit)


class Scenario(Table):
    """A validated scenario. ``model_dump(mode="json")`` is archived, ``model_validate`` reads it back."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)] = Field(
        description="names the run's folder; default: the file's name without .toml"
    )
    description: str = Field(default="", description="which question the scenario answers")
    seed: Annotated[_Int, Field(ge=0, le=2**63 - 1)] = Field(
        default=1, description="of everything random in the scenario"
    )
    line: LineSettings = Field(default_factory=LineSettings)
    warmup: Warmup = Field(default_factory=Warmup)
    load: Load
    driver: DriverSettings = Field(default_factory=DriverSettings)
    drain: Drain = Field(default_factory=Drain)
    thresholds: dict[Annotated[str, _one_of(SUMMARY_NAMES)], Threshold] = Field(
        default_factory=dict, description="what must hold for the run to pass, by the summary's names"
    )

    @model_validator(mode="after")
    def _bounded(self) -> Scenario:
        specs = [*self.warmup.orders, *(spec for phase in self.load.phases for spec in phase.orders)]
        orders = sum(spec.count for spec in specs)
        pizzas = sum(spec.count * spec.size for spec in specs)
        for what, total, most in (("orders", orders, MAX_ORDERS), ("pizzas", pizzas, MAX_PIZZAS)):
            if total > most:
                raise PydanticCustomError(
                    "too_much", "{total} {what} in all, at most {most} fit into one run; lower count or size",
                    {"total": total, "what": what, "most": most},
                )  # fmt: skip
        return self
