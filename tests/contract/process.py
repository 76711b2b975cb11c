"""A service as a process: started by any command, judged by its log lines and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from harness.line import ROOT
from harness.waiting import wait_until
from tests.contract.case import Json

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 4.0
"""What the protocol allows between SIGTERM and the end."""


class ServiceProcess:
    """One start of a service. A context manager that leaves no process behind.

    ``log_file`` takes its standard output; what it says on standard error goes beside it.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], log_file: Path) -> None:
        self._log_file = log_file
        with log_file.open("wb") as output, log_file.with_suffix(".err").open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    def __enter__(self) -> ServiceProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def wait_ready(self) -> None:
        """Return when it has logged ``subscribed`` and then ``ready``; AssertionError if it ends instead."""
        self.wait_event("ready")
        events = self.events()
        assert "subscribed" in events[: events.index("ready")], f"'subscribed' must come before 'ready': {events}"

    def wait_event(self, event: str) -> None:
        """Return when it has logged ``event``; AssertionError if it ends instead."""

        def is_logged() -> bool:
            ended = self._process.poll() is not None
            if event in self.events():
                return True
            assert not ended, f"it ended with exit code {self._process.returncode} before it was {event}"
            return False

        wait_until(is_logged, START_TIMEOUT_S, f"the event {event!r}", interval_s=0.01)

    def wait_exit(self, timeout_s: float) -> int:
        """Its exit code, once it has ended by itself."""
        return self._process.wait(timeout_s)

    def check_alive(self) -> None:
        code = self._process.poll()
        assert code is None, f"it ended with exit code {code}"

    def stop(self) -> None:
        """SIGTERM: it must end in time and with exit code 0."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(STOP_TIMEOUT_S)
        assert code == 0, f"exit code {code} after SIGTERM, not 0"

    def kill(self) -> None:
        """SIGKILL, to it and all that it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def log(self) -> list[dict[str, Json]]:
        """Its complete log lines. AssertionError if one is not as the protocol says."""
        lines = []
        for line in self._log_file.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            try:
                parsed = json.loads(line)
            except ValueError:
                parsed = None
            assert isinstance(parsed, dict), f"a log line is not a JSON object: {line!r}"
            for name in ("time", "level", "service", "event"):
                assert isinstance(parsed.get(name), str), f"a log line without {name}: {line!r}"
                assert parsed[name], f"a log line with an empty {name}: {line!r}"
            lines.append(parsed)
        return lines

    def events(self) -> list[str]:
        """The events of its log, in order."""
        return [line["event"] for line in self.log()]

    def last_words(self) -> str:
        """The end of both outputs, for a failure's message."""
        texts = (self._log_file.read_text(), self._log_file.with_suffix(".err").read_text())
        return "\n".join(f"    {line[:400]}" for text in texts for line in text.splitlines()[-6:])
