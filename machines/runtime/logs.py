"""Logs: one JSON object per line on stdout (PROTOCOL.md, rule 13)."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime


class Log:
    """Writes what happened to one service. ``event`` is a short fixed word, the fields are its particulars."""

    def __init__(self, service: str) -> None:
        self._service = service

    def info(self, event: str, **fields: object) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        moment = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": level, "service": self._service, "event": event, **fields}
        sys.stdout.write(json.dumps(line, default=str) + "\n")
        sys.stdout.flush()
