"""Tiny services for the supervisor: Python programs of a line or two, as files so that a command can name them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from harness.stacks.supervisor import Service

READY_THEN_SLEEP = 'import time; print("ready", flush=True); time.sleep(600)'
IGNORES_SIGTERM = (
    'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print("ready", flush=True); time.sleep(600)'
)
STARTS_A_CHILD = (
    "import subprocess, sys, time; "
    'child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]); '
    'print("child", child.pid, flush=True); print("ready", flush=True); time.sleep(600)'
)


def python_service(
    folder: Path, name: str, program: str, *, restart: bool = True, env: Mapping[str, str] | None = None
) -> Service:
    """A service that runs ``program`` with a bare interpreter, logging to ``folder``/``name``.log."""
    command = (sys.executable, "-I", "-S", "-c", program)
    return Service(name, command, folder / f"{name}.log", cwd=folder, restart=restart, env=env or {})


def alive(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def child_pid(log_file: Path) -> int:
    """The pid that a STARTS_A_CHILD service wrote into its log."""
    return int(log_file.read_text().split("child ")[1].split()[0])
