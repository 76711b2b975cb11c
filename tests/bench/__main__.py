"""``make bench``: every benchmark, or those named as arguments. Prints ratios and archives all figures.

The figures are of this machine at this hour; only what was measured side by side in one benchmark may be compared.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.environment import NoiseSampler, describe_environment
from harness.run import RESULTS_DIR
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
TARGETS = {
    "driver": "median send lag p99 < 2 ms at 1,000 orders/s, none left out",
    "latency": "median ratio of pizza latency to nine hops <= 1.2",
    "cycle": "median ratio of the bottleneck's cycle to work + 2 hops + ack <= 1.15",
    "efficiency-0.01-capacity-2": "median line efficiency >= 0.90",
    "throughput": "as high as it gets, beside the broker's limit",
    "efficiency-0.1": "median line efficiency >= 0.95",
    "efficiency-1": "median line efficiency >= 0.99",
}


def main(names: list[str]) -> None:
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    folder = RESULTS_DIR / "bench" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    folder.mkdir(parents=True)
    figures: dict[str, Any] = {"environment": describe_environment()}
    for name in names or BENCHMARKS:
        print(f"{name}: target {TARGETS[name]}", flush=True)
        with NoiseSampler() as noise:
            figures[name] = BENCHMARKS[name](folder)
        figures[name]["noise"] = noise.summary()
        _show(figures[name])
        (folder / "figures.json").write_text(json.dumps(figures, indent=2, default=float) + "\n")
    print(f"archived in {folder}")


def _show(figures: dict[str, Any]) -> None:
    """One line per repetition, then what sums them up."""
    tables = {name: value for name, value in figures.items() if isinstance(value, list) and isinstance(value[0], dict)}
    for row in (row for table in tables.values() for row in table):
        print("   ", ", ".join(f"{key} {_text(item)}" for key, item in row.items()))
    for name in figures.keys() - tables.keys() - {"noise", "target"}:
        print(f"    {name}: {_text(figures[name])}")
    print(flush=True)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main(sys.argv[1:])
