"""Finding every process that came from one, however far down: by a mark in the environment they inherit."""

from __future__ import annotations

import uuid
from pathlib import Path

MARK = "PIZZA_LINE_TEST"


def new_mark() -> dict[str, str]:
    """An environment variable with a value of its own."""
    return {MARK: uuid.uuid4().hex}


def marked(mark: dict[str, str]) -> dict[int, str]:
    """Pid and command line of all living processes that carry the mark."""
    wanted = f"{MARK}={mark[MARK]}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80]
        except OSError:  # gone meanwhile
            continue
    return found
