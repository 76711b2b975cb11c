"""How punctual the load driver is: its send lag against a stub of the order API in a process of its own.

``python -m tests.bench.driver`` prints a table. Beside each repetition stands how late the machine itself wakes a
sleeping process at that time: a lag that the machine has anyway is none of the driver's.
"""

from __future__ import annotations

import asyncio
import csv
import itertools
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from harness.line import ROOT
from harness.load.driver import SentOrder, drive, send_lag
from harness.load.schedule import schedule
from harness.scenario import ConstantPhase, DriverSettings, Load, OrderSpec

TARGET_RATE_PER_S = 1000
TARGET_P99_MS = 2.0
DURATION_S = 10
REPETITIONS = {500: 2, TARGET_RATE_PER_S: 5, 2000: 2}
"""Repetitions for each rate, orders per second. Only one rate has a target, the others are for information."""


def run(out_dir: Path) -> dict[str, Any]:
    """Measures every rate, leaves each order's lag in ``out_dir/driver-lags.csv``, returns the figures.

    The figures: ``target_met`` (the median repetition's p99 under the target, no order left out in any) and
    ``repetitions``, one dictionary each, times in milliseconds.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    rounds = itertools.zip_longest(*([rate] * times for rate, times in REPETITIONS.items()))
    repetitions = []
    with (out_dir / "driver-lags.csv").open("w", newline="", encoding="utf-8") as file:
        raw = csv.writer(file)
        raw.writerow(["repetition", "rate_per_s", "index", "lag_us"])
        for number, rate in enumerate(rate for one_round in rounds for rate in one_round if rate is not None):
            figures, sent = _repetition(rate)
            repetitions.append(figures)
            raw.writerows(
                (number, rate, order.index, order.sent_us - order.intended_us)
                for order in sent
                if order.sent_us is not None
            )
    judged = [figures for figures in repetitions if figures["rate_per_s"] == TARGET_RATE_PER_S]
    median_p99_ms = sorted(figures["p99_ms"] for figures in judged)[len(judged) // 2]
    return {
        "target": f"send lag p99 < {TARGET_P99_MS:g} ms at {TARGET_RATE_PER_S} orders/s, none left out",
        "median_p99_ms": median_p99_ms,
        "target_met": median_p99_ms < TARGET_P99_MS and all(figures["left_out"] == 0 for figures in repetitions),
        "repetitions": repetitions,
    }


def _repetition(rate: int) -> tuple[dict[str, Any], list[SentOrder]]:
    orders = (OrderSpec(size=1, count=rate * DURATION_S),)
    phase = ConstantPhase(arrivals="constant", rate_per_s=float(rate), orders=orders)
    planned = schedule(Load(phases=(phase,)))
    machine_p99_ms = _machine_p99_ms(rate)
    with _stub() as url:
        cpu_s, wall_s = _cpu_s(), time.monotonic()
        sent = drive(url, planned, phase="load", settings=DriverSettings())
        cpu_share = (_cpu_s() - cpu_s) / (time.monotonic() - wall_s)
    lag = send_lag(sent)
    figures = {
        "rate_per_s": rate,
        "orders": len(planned),
        "left_out": len(planned) - sum(order.outcome == "accepted" for order in sent),
        "p50_ms": lag.p50_ms,
        "p99_ms": lag.p99_ms,
        "max_ms": lag.max_ms,
        "machine_p99_ms": machine_p99_ms,
        "driver_cpu_share": round(cpu_share, 3),
    }
    return figures, sent


def _machine_p99_ms(rate: int, duration_s: float = 2.0) -> float:
    """How late a plain sleep ends at this rate, with nothing to do in between."""
    gap_ns = 1_000_000_000 // rate
    start_ns = time.monotonic_ns()
    late_ns = []
    for number in range(1, int(rate * duration_s) + 1):
        due_ns = start_ns + number * gap_ns
        if (left_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)
        late_ns.append(time.monotonic_ns() - due_ns)
    return sorted(late_ns)[math.ceil(0.99 * len(late_ns)) - 1] / 1e6


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def _stub() -> Iterator[str]:
    """The stub as a child process; it ends with its standard input."""
    command = [sys.executable, "-m", "tests.bench.driver", "--serve"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.stdin.close()


async def _serve() -> None:
    ids = itertools.count(1)

    async def start_order(request: web.Request) -> web.Response:
        return web.json_response({"orderId": next(ids), "orderSize": int(request.match_info["size"])}, status=202)

    app = web.Application()
    app.router.add_post("/start-order/{size}", start_order)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


def _table(figures: dict[str, Any]) -> Iterator[str]:
    columns = ("rate_per_s", "orders", "left_out", "p50_ms", "p99_ms", "max_ms", "machine_p99_ms", "driver_cpu_share")
    yield "  ".join(f"{column:>14}" for column in columns)
    for repetition in figures["repetitions"]:
        yield "  ".join(f"{repetition[column]:>14.6g}" for column in columns)
    verdict = "met" if figures["target_met"] else "NOT met"
    yield f"{figures['target']}: {verdict} (median of the repetitions: {figures['median_p99_ms']:g} ms)"


def main(arguments: Sequence[str]) -> None:
    """Serves as the stub with ``--serve``, else measures and prints."""
    if "--serve" in arguments:
        asyncio.run(_serve())
        return
    with tempfile.TemporaryDirectory() as folder:
        for line in _table(run(Path(folder))):
            print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
