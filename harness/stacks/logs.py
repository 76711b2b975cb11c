"""Log files of services: what was written lately, and the line that says a service is ready."""

from __future__ import annotations

import json
import re
from pathlib import Path

_READY = re.compile(r"\bready\b", re.IGNORECASE)
_NOT_READY = re.compile(r"\b(?:not|isn't|until|when|before)\b.*\bready\b", re.IGNORECASE)


def says_ready(line: str) -> bool:
    """Whether a log line reports readiness: a JSON line with the event "ready", or a plain one with that word."""
    text = line.strip()
    if text.startswith("{"):
        try:
            record = json.loads(text)
        except ValueError:
            return False
        return isinstance(record, dict) and record.get("event") == "ready"
    return _READY.search(text) is not None and _NOT_READY.search(text) is None


class LogTail:
    """The lines appended to a file since this object was made; the file need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0
        self._partial = b""

    def new_lines(self) -> list[str]:
        """Whole lines that came since the last call, without their ends."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        return [line.decode(errors="replace") for line in lines]


def last_lines(path: Path, count: int = 15, width: int = 300) -> list[str]:
    """The last ``count`` non-empty lines of a file, each cut to ``width`` characters; none if it does not exist."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 64 * 1024))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line[:width] for line in text.splitlines() if line.strip()][-count:]
