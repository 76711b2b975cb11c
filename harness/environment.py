"""What a run ran on, for its archive: versions, machine, and how busy the machine was with other things."""

from __future__ import annotations

import os
import platform
import subprocess
import threading
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

_PACKAGES = ("confluent-kafka", "aiohttp", "duckdb", "pyarrow", "pydantic")
_PROC = Path("/proc")
_CHECKOUT = Path(__file__).resolve().parents[1]


def describe_environment(versions: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Facts for ``run.json``, as JSON values. ``versions`` adds those that only the stack knows (java, kafka).

    A fact that this machine does not tell is None. Takes about 10 ms, for git.
    """
    return {
        "harness_version": _package_version("pizza-line-harness"),
        "git": git_state(_CHECKOUT),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"count": os.cpu_count(), "usable": len(os.sched_getaffinity(0)), "model": _cpu_model()},
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "versions": {
            **{package: _package_version(package) for package in _PACKAGES},
            "librdkafka": _librdkafka_version(),
            **(versions or {}),
        },
    }


def git_state(root: Path) -> dict[str, Any] | None:
    """``{"commit", "dirty"}`` of the checkout at ``root``; None if it is none or git is missing."""
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no").strip())}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ("git", "-C", str(root), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout


def _package_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _librdkafka_version() -> str | None:
    try:
        from confluent_kafka import libversion
    except ImportError:
        return None
    return libversion()[0]


def _cpu_model(proc: Path = _PROC) -> str | None:
    try:
        lines = (proc / "cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


class NoiseSampler:
    """How busy the machine was while inside, sampled once a second by a thread: a context manager.

    ``summary`` tells shares of all cores' time between 0 and 1, over the whole stretch and in the worst sample,
    and the load averages at both ends. ``steal`` is time that the host gave to other guests; ``busy`` includes
    the line and the harness themselves. Where /proc is missing, the summary is empty.
    """

    def __init__(self, *, interval_s: float = 1.0, proc: Path = _PROC) -> None:
        self._interval_s = interval_s
        self._proc = proc
        self._samples: list[_CpuTimes] = []
        self._loads: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="noise sampler", daemon=True)

    def __enter__(self) -> NoiseSampler:
        if (self._proc / "stat").exists():
            self.sample()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._samples:
            self.sample()

    def _run(self) -> None:
        while not self._end.wait(self._interval_s):
            self.sample()

    def sample(self) -> None:
        """Take one sample now."""
        self._samples.append(_CpuTimes.read(self._proc / "stat"))
        self._loads.append(float((self._proc / "loadavg").read_text().split()[0]))

    def summary(self) -> dict[str, Any]:
        """``seconds``, ``load_before``, ``load_after``, ``load_max``, and for ``busy`` and ``steal`` mean and max."""
        if len(self._samples) < 2:
            return {}
        first, last = self._samples[0], self._samples[-1]
        steps = [
            (later.busy_share(earlier), later.steal_share(earlier))
            for earlier, later in zip(self._samples, self._samples[1:], strict=False)
        ]
        return {
            "seconds": round(last.at - first.at, 3),
            "load_before": self._loads[0],
            "load_after": self._loads[-1],
            "load_max": max(self._loads),
            "busy": {"mean": last.busy_share(first), "max": max(busy for busy, _ in steps)},
            "steal": {"mean": last.steal_share(first), "max": max(steal for _, steal in steps)},
        }


class _CpuTimes:
    """The first line of /proc/stat: ticks since boot, summed over cores."""

    def __init__(self, ticks: list[int], at: float) -> None:
        self._ticks = ticks
        self.at = at

    @classmethod
    def read(cls, stat: Path) -> _CpuTimes:
        fields = stat.read_text().split("\n", 1)[0].split()
        # user nice system idle iowait irq softirq steal; guest times after them are contained in the first two
        return cls([int(field) for field in fields[1:9]], time.monotonic())

    def busy_share(self, earlier: _CpuTimes) -> float:
        idle_and_iowait = self._ticks[3] + self._ticks[4] - earlier._ticks[3] - earlier._ticks[4]
        return 1.0 - self._share(earlier, idle_and_iowait, otherwise=1.0)

    def steal_share(self, earlier: _CpuTimes) -> float:
        return self._share(earlier, self._ticks[7] - earlier._ticks[7], otherwise=0.0)

    def _share(self, earlier: _CpuTimes, ticks: int, *, otherwise: float) -> float:
        total = sum(self._ticks) - sum(earlier._ticks)
        return round(ticks / total, 4) if total > 0 else otherwise
