"""One run at a time on a machine: two would measure each other."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from harness.errors import LockHeld

DEFAULT_LOCK_FILE = Path(tempfile.gettempdir()) / "pizza-line-harness.lock"


@contextmanager
def run_lock(scenario: str, path: Path = DEFAULT_LOCK_FILE) -> Iterator[None]:
    """Hold the machine's lock while inside. Raises LockHeld, telling who holds it.

    It is a lock of the operating system on an open file, so it ends with its holder however that ends, and the
    file may lie there for ever. The file tells the holder's pid, scenario and start.
    """
    with _open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockHeld(
                f"another run uses this machine: {_holder(file.read())}",
                hint="Wait until it has ended, or end it: two runs at once would measure each other.",
            ) from None
        started = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(json.dumps({"pid": os.getpid(), "scenario": scenario, "started": started}))
        file.flush()
        file.truncate()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()


def _open(path: Path) -> TextIO:
    """Open for reading and writing, for every user of the machine, without emptying what a holder wrote."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    return os.fdopen(descriptor, "r+")


def _holder(text: str) -> str:
    try:
        facts = json.loads(text)
        return f"pid {facts['pid']}, scenario {facts['scenario']}, since {facts['started']}"
    except (ValueError, KeyError, TypeError):
        return "it has not yet said which"
