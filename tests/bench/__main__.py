"""``make bench``: every benchmark, or those named as arguments. Prints ratios and archives all figures.

The figures are of this machine at this hour; only what was measured side by side in one benchmark may be compared.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.environment import NoiseSampler, describe_environment
from harness.run import RESULTS_DIR
from harness.stacks.lock import run_lock
from harness.stacks.signals import signals_as_exceptions
from tests.bench import driver, line

BENCHMARKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "driver": driver.run,
    "latency": lambda _: line.latency(),
    "cycle": lambda _: line.cycle(),
    "efficiency-0.01-capacity-2": lambda _: line.efficiency(0.01, capacity=2, repetitions=5),
    "throughput": lambda _: line.throughput(),
    "efficiency-0.1": lambda _: line.efficiency(0.1),
    "efficiency-1": lambda _: line.efficiency(1.0, repetitions=2),
}


@dataclass(frozen=True)
class Target:
    """What a figure should be: ``op`` is <= or >=. None of these decides the exit code: the machine may be busy."""

    text: str
    figure: str = ""
    op: str = "<="
    limit: float = 0.0

    def verdict(self, figures: dict[str, Any]) -> str:
        if not self.figure:
            return "no target"
        value = float(figures[self.figure])
        reached = value <= self.limit if self.op == "<=" else value >= self.limit
        return f"{'reached' if reached else 'MISSED'}: {value:g} {self.op} {self.limit:g}"


TARGETS = {
    "driver": Target("send lag p99 < 2 ms at 1,000 orders/s, none left out", "target_met", ">=", 1),
    "latency": Target("pizza latency over nine hops, medians", "median_ratio", "<=", 1.2),
    "cycle": Target("the bottleneck's cycle over work + 2 hops + ack, medians", "median_ratio", "<=", 1.15),
    "efficiency-0.01-capacity-2": Target("median line efficiency", "median_efficiency", ">=", 0.90),
    "throughput": Target("as high as it gets, beside the broker's limit"),
    "efficiency-0.1": Target("median line efficiency", "median_efficiency", ">=", 0.95),
    "efficiency-1": Target("median line efficiency", "median_efficiency", ">=", 0.99),
}


def main(names: list[str]) -> None:
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    with signals_as_exceptions(), run_lock("bench"):
        _run(names or list(BENCHMARKS))


def _run(names: list[str]) -> None:
    folder = RESULTS_DIR / "bench" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    folder.mkdir(parents=True)
    figures: dict[str, Any] = {"environment": describe_environment()}
    for name in names:
        print(f"{name}: {TARGETS[name].text}", flush=True)
        with NoiseSampler() as noise:
            figures[name] = BENCHMARKS[name](folder)
        figures[name]["noise"] = noise.summary()
        _show(figures[name])
        figures[name]["verdict"] = TARGETS[name].verdict(figures[name])
        print(f"    {figures[name]['verdict']}\n", flush=True)
        (folder / "figures.json").write_text(json.dumps(figures, indent=2, default=float) + "\n")
    print(f"archived in {folder}")


def _show(figures: dict[str, Any]) -> None:
    """One line per repetition, then what sums them up."""
    tables = {name: value for name, value in figures.items() if isinstance(value, list) and isinstance(value[0], dict)}
    for row in (row for table in tables.values() for row in table):
        print("   ", ", ".join(f"{key} {_text(item)}" for key, item in row.items()))
    for name in figures.keys() - tables.keys() - {"noise", "target"}:
        print(f"    {name}: {_text(figures[name])}")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main(sys.argv[1:])
