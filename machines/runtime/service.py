"""The life of a service's process: settings, start, a clean stop on SIGTERM, an exit code that tells.

Exit codes: 0 after SIGTERM or SIGINT, 1 after a failure (its reason is the last log line), 2 for wrong settings.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from machines.runtime.kafka import Link
from machines.runtime.logs import Log
from machines.runtime.settings import Settings, SettingsError, read_settings

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

Main = Callable[[Settings, Link, Log], None]


def settings_or_exit(log: Log) -> Settings:
    """The settings, or exit code 2 with the variable that is wrong."""
    try:
        return read_settings(os.environ)
    except SettingsError as error:
        log.error("failed", reason=str(error))
        sys.exit(2)


def serve(name: str, main: Main) -> None:
    """Run ``main`` until it returns, which it does when a stop signal came; then exit.

    Stop signals are blocked in every thread: ``main`` takes them with ``wait_for_stop`` or lets an event loop do it.
    """
    log = Log(name)
    settings = settings_or_exit(log)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    link = Link(settings.bootstrap_servers, name, log)
    try:
        main(settings, link, log)
    except Exception as error:  # noqa: BLE001 - whatever it is, the process must end and say it
        link.failure = link.failure or f"{type(error).__name__}: {error}"
    if link.failure is not None:
        log.error("failed", reason=link.failure)
        os._exit(1)  # what was not acknowledged is read back by the next process
    link.close()
    log.info("stopped")


def wait_for_stop() -> None:
    """Return when SIGTERM or SIGINT came, from outside or from a failure within."""
    signal.sigwait(STOP_SIGNALS)
