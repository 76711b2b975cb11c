"""Child processes of the local stack: started with a log each, watched, restarted, stopped without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from harness.errors import StackError
from harness.stacks import watchdog
from harness.stacks.logs import LogTail, last_lines, says_ready
from harness.stacks.signals import signals_deferred

POLL_S = 0.01
"""How often logs are read while waiting for services to become ready. Nothing polls afterwards."""

_LAUNCHER = ("/bin/sh", "-c", 'printf "+%s\\n" "$$" >&0 && exec "$@" </dev/null', "launcher")
"""Tells the watchdog its own process group, then becomes the service.

Its standard input is the watchdog's pipe. If the harness told the group instead, a harness killed between the
two steps would leave the service behind; here the pipe cannot end before the group is told.
"""


@dataclass(frozen=True)
class Service:
    """One child process. ``env`` is added to the harness's own environment.

    ``is_ready`` judges one log line. ``restart`` says whether it is started anew when it dies after having
    been ready; before that, a death is a failed start.
    """

    name: str
    command: tuple[str, ...]
    log_file: Path
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    is_ready: Callable[[str], bool] = says_ready
    restart: bool = True


@dataclass(frozen=True)
class RestartPolicy:
    """A service that dies is restarted at once; one that keeps dying young waits longer each time, then is given up.

    A death within ``young_s`` seconds of its start counts as one in a row; a longer life starts the count anew.
    """

    max_in_a_row: int = 10
    young_s: float = 5.0
    first_delay_s: float = 0.1
    max_delay_s: float = 2.0

    def delay_s(self, deaths_in_a_row: int) -> float | None:
        """Seconds to wait before the restart after the nth young death in a row (1 is the first); None: give up."""
        if deaths_in_a_row > self.max_in_a_row:
            return None
        if deaths_in_a_row <= 1:
            return 0.0
        return min(self.first_delay_s * 2.0 ** (deaths_in_a_row - 2), self.max_delay_s)


@dataclass
class _Child:
    """A service's present process. Signals go out under the supervisor's lock, while the pid is surely its own."""

    service: Service
    process: subprocess.Popen[bytes]
    started: float
    tail: LogTail
    ready: bool = False
    expected_to_end: bool = False
    exit_code: int | None = None


class Supervisor:
    """Starts services, watches over them, stops them all. A context manager; its end stops everything.

    Each service leads its own process group, which goes as a whole when the service ends. If the harness
    itself is killed, a watchdog process kills the groups. Call the methods from one thread.
    """

    def __init__(
        self,
        *,
        policy: RestartPolicy | None = None,
        on_event: Callable[[str], None] = lambda _text: None,
        grace_s: float = 5.0,
    ) -> None:
        """``on_event`` hears of restarts, from a watching thread. ``grace_s``: from SIGTERM to SIGKILL."""
        self.restarts: dict[str, int] = {}
        self._policy = policy or RestartPolicy()
        self._on_event = on_event
        self._grace_s = grace_s
        self._children: dict[str, _Child] = {}
        self._deaths_in_a_row: dict[str, int] = {}
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._watchdog: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- starting ------------------------------------------------------------------------------------------

    def start(self, service: Service) -> None:
        """Start ``service`` and return at once; ``wait_ready`` tells how it went."""
        self._start(service, expected_to_end=False)

    def _start(self, service: Service, *, expected_to_end: bool) -> None:
        with signals_deferred(), self._changed:
            existing = self._children.get(service.name)
            if existing is not None and existing.exit_code is None:
                raise StackError(f"{service.name} is running already")
            if self._stopping.is_set():  # a new life after stop()
                self._stopping.clear()
                self._failure = None
            self._start_watchdog()
            self._deaths_in_a_row[service.name] = 0
            self.restarts.setdefault(service.name, 0)
            self._spawn(service, expected_to_end=expected_to_end)

    def wait_ready(self, names: Iterable[str], timeout_s: float) -> None:
        """Return when every named service has said that it is ready since its last start.

        Raises StackError, after stopping everything, when one ends before that or ``timeout_s`` seconds pass.
        """
        waiting = list(names)
        deadline = time.monotonic() + timeout_s
        while True:
            self.check()
            waiting = [name for name in waiting if not self._is_ready(name)]
            if not waiting:
                return
            if time.monotonic() > deadline:
                late = waiting[0]
                self._fail_start(late, f"{late} was not ready within {timeout_s:g} s")
            with self._changed:
                self._changed.wait(POLL_S)

    def run_once(self, service: Service, timeout_s: float) -> None:
        """Run a service that is meant to end, such as one that creates topics, and wait for its exit code 0.

        Raises StackError, after stopping everything, on any other exit code or after ``timeout_s`` seconds.
        """
        self._start(service, expected_to_end=True)
        with self._changed:
            child = self._children[service.name]
            self._changed.wait_for(lambda: child.exit_code is not None, timeout_s)
        if child.exit_code is None:
            self._fail_start(service.name, f"{service.name} had not finished after {timeout_s:g} s")
        if child.exit_code != 0:
            self._fail_start(service.name, f"{service.name} {_describe_exit(child.exit_code)}")
        with self._changed:
            del self._children[service.name]
            del self.restarts[service.name]

    def _is_ready(self, name: str) -> bool:
        with self._changed:
            child = self._children[name]
            child.ready = child.ready or any(child.service.is_ready(line) for line in child.tail.new_lines())
            if child.exit_code is None:
                return child.ready
            if self._is_restarted(child):
                return False  # its next process counts
            early = "" if child.ready else " before it was ready"
            what = f"{name} {_describe_exit(child.exit_code)}{early}"
        return self._fail_start(name, what)

    def _is_restarted(self, child: _Child) -> bool:
        """Whether the death of this process leads to a restart, as far as the number of restarts allows."""
        was_up = child.ready or self.restarts[child.service.name] > 0
        return was_up and child.service.restart and not child.expected_to_end

    def _fail_start(self, name: str, what: str) -> NoReturn:
        log_file = self._children[name].service.log_file
        self.stop()
        shown = "".join(f"\n  | {line}" for line in last_lines(log_file))
        raise StackError(f"{what}; its last log lines:{shown or ' none'}", hint=_where_the_log_is(log_file))

    # -- watching ------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise StackError if a service died and was not, or could no longer be, restarted."""
        failure = self._failure
        if failure is None:
            guard = self._watchdog
            if guard is not None and guard.poll() is not None:
                raise StackError(
                    f"the watchdog process {_describe_exit(guard.returncode)}",
                    hint="It guards against processes left behind; something outside the harness ended it.",
                )
            return
        if isinstance(failure, StackError):
            raise failure
        raise StackError(f"watching over the services failed: {failure!r}") from failure

    def require_running(self, name: str) -> None:
        """For services whose readiness shows elsewhere than in their log: fail as ``wait_ready`` does if it ended."""
        with self._changed:
            child = self._children[name]
        if child.exit_code is not None and not self._is_restarted(child):
            self._fail_start(name, f"{name} {_describe_exit(child.exit_code)}")

    def pid(self, name: str) -> int:
        """Process id of the present process of ``name``. Raises StackError when it does not run."""
        with self._changed:
            return self._running(name).process.pid

    def running(self) -> tuple[str, ...]:
        """Names of the services whose process is alive."""
        with self._changed:
            return tuple(name for name, child in self._children.items() if child.exit_code is None)

    def started(self) -> tuple[str, ...]:
        """Names of all services that were started, alive or not, in that order."""
        with self._changed:
            return tuple(self._children)

    def kill(self, name: str, *, restart: bool = True) -> int:
        """SIGKILL ``name``'s process; returns the pid it had.

        With ``restart`` its death is treated as any other: it is restarted and counted, where its ``restart``
        flag allows; this returns when the new process was launched (``wait_ready`` waits for the rest).
        Without, it returns when the process is gone, and the service stays down until started again.
        """
        with self._changed:
            child = self._running(name)
            child.ready = child.ready or restart  # killed on purpose: never a failed start
            child.expected_to_end = not restart
            os.kill(child.process.pid, signal.SIGKILL)
            self._changed.wait_for(lambda: child.exit_code is not None)
            if self._is_restarted(child):
                self._changed.wait_for(lambda: self._children[name] is not child or self._failure is not None)
            return child.process.pid

    def _running(self, name: str) -> _Child:
        child = self._children.get(name)
        if child is None or child.exit_code is not None:
            raise StackError(f"{name} is not running")
        return child

    # -- stopping ------------------------------------------------------------------------------------------

    def stop(self, names: Iterable[str] | None = None, *, grace_s: float | None = None) -> None:
        """Stop the named services, or all: SIGTERM to each at once, SIGKILL after ``grace_s`` (its own by default).

        Returns when they are gone. Ctrl-C and SIGTERM wait until it is done. Stopping twice does nothing.
        """
        with signals_deferred():
            with self._changed:
                if names is None:
                    self._stopping.set()
                    self._changed.notify_all()
                chosen = [self._children[name] for name in (self._children if names is None else names)]
                for child in chosen:
                    child.expected_to_end = True
                    self._signal_group(child, signal.SIGTERM)
                everyone_ended = lambda: all(child.exit_code is not None for child in chosen)  # noqa: E731
                if not self._changed.wait_for(everyone_ended, self._grace_s if grace_s is None else grace_s):
                    for child in chosen:
                        self._signal_group(child, signal.SIGKILL)
                    self._changed.wait_for(everyone_ended)
            if names is None:
                self._stop_watchdog()

    def _signal_group(self, child: _Child, number: signal.Signals) -> None:
        if child.exit_code is None:
            os.killpg(child.process.pid, number)

    # -- inside; all of it with the lock held, but for the watching thread's wait ------------------------------

    def _spawn(self, service: Service, *, expected_to_end: bool = False) -> None:
        assert self._watchdog is not None
        tail = LogTail(service.log_file)
        try:
            with service.log_file.open("ab") as log:
                process = subprocess.Popen(
                    (*_LAUNCHER, *service.command),
                    stdin=self._watchdog.stdin,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=service.cwd,
                    env={**os.environ, **service.env},
                    process_group=0,
                )
        except OSError as error:
            raise StackError(f"{service.name} cannot be started: {error}") from error
        child = _Child(service, process, time.monotonic(), tail, expected_to_end=expected_to_end)
        self._children[service.name] = child
        threading.Thread(target=self._watch, args=(child,), name=f"watch {service.name}", daemon=True).start()

    def _watch(self, child: _Child) -> None:
        try:
            # Learns of the end but leaves the zombie, whose pid keeps the group's number from being reused.
            os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOWAIT)
            with self._changed:
                os.killpg(child.process.pid, signal.SIGKILL)  # what the service itself had started
                self._tell_watchdog(f"-{child.process.pid}\n")
                child.exit_code = child.process.wait()
                self._changed.notify_all()
                if not child.expected_to_end and not self._stopping.is_set():
                    self._after_death(child)
        except Exception as error:  # noqa: BLE001 - raised again by check(), in the caller's thread
            self._failure = error
            with self._changed:
                self._changed.notify_all()

    def _after_death(self, child: _Child) -> None:
        service, name = child.service, child.service.name
        assert child.exit_code is not None
        # It may have said so a moment ago, before anyone read it.
        child.ready = child.ready or any(service.is_ready(line) for line in child.tail.new_lines())
        if not child.ready and self.restarts[name] == 0:
            return  # a failed start, which wait_ready() tells
        what = f"{name} {_describe_exit(child.exit_code)}"
        young = time.monotonic() - child.started < self._policy.young_s
        self._deaths_in_a_row[name] = self._deaths_in_a_row[name] + 1 if young else 1
        delay_s = self._policy.delay_s(self._deaths_in_a_row[name]) if service.restart else None
        if delay_s is None:
            how_often = f" after {self.restarts[name]} restarts" if service.restart else ""
            shown = "".join(f"\n  | {line}" for line in last_lines(service.log_file))
            hint = _where_the_log_is(service.log_file)
            raise StackError(f"{what}{how_often}; its last log lines:{shown}", hint=hint)
        self._changed.wait_for(self._stopping.is_set, delay_s)
        if self._stopping.is_set() or child.expected_to_end or self._children[name] is not child:
            return
        self.restarts[name] += 1
        self._spawn(service)
        self._changed.notify_all()
        self._on_event(f"{what} and was restarted ({self.restarts[name]})")

    def _start_watchdog(self) -> None:
        if self._watchdog is None:
            self._watchdog = subprocess.Popen(
                [sys.executable, "-I", "-S", watchdog.__file__], stdin=subprocess.PIPE, process_group=0
            )

    def _tell_watchdog(self, line: str) -> None:
        if self._watchdog is None or self._watchdog.stdin is None:
            return
        try:
            self._watchdog.stdin.write(line.encode())
            self._watchdog.stdin.flush()
        except BrokenPipeError:
            return  # it died; check() tells

    def _stop_watchdog(self) -> None:
        guard, self._watchdog = self._watchdog, None
        if guard is not None and guard.stdin is not None:
            with suppress(BrokenPipeError):
                guard.stdin.close()
            guard.wait()


def _where_the_log_is(log_file: Path) -> str:
    """Without the folder: the stack's own is temporary, and only the archive knows where the copy lies."""
    return f"If the run is archived, its folder has the whole log: logs/{log_file.name}"


def _describe_exit(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
