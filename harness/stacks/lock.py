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

from harness.errors import LockHeld, StackError

DEFAULT_LOCK_FILE = Path(tempfile.gettempdir()) / "pizza-line-harness.lock"


@contextmanager
def run_lock(scenario: str, path: Path = DEFAULT_LOCK_FILE) -> Iterator[None]:
    """Hold the machine's lock while inside. Raises LockHeld, telling who holds it; StackError if the file is unusable.

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
        return os.fdopen(_descriptor(path), "r+")
    except OSError as error:
        raise StackError(
            f"the file that keeps two runs apart cannot be used: {error}",
            hint=f"If no run is under way, have its owner remove {path}; its folder must be one you can write to.",
        ) from error


def _descriptor(path: Path) -> int:
    try:
        # First without O_CREAT, which Linux may refuse on another user's file in a shared folder such as /tmp.
        return os.open(path, os.O_RDWR)
    except FileNotFoundError:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:  # another run was quicker
            return os.open(path, os.O_RDWR)
        os.fchmod(descriptor, 0o666)  # whatever the umask of the run that comes first
        return descriptor


def _holder(text: str) -> str:
    try:
        facts = json.loads(text)
        return f"pid {facts['pid']}, scenario {facts['scenario']}, since {facts['started']}"
    except (ValueError, KeyError, TypeError):
        return "it has not yet said which"
