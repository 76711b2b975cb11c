"""The life of a service's process: settings, start, a clean stop on SIGTERM, an exit code that tells.

Exit codes: 0 after SIGTERM or SIGINT, 1 after a failure (its reason is the last log line), 2 for wrong settings.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from machines.runtime.kafka import STOP_SIGNALS, Link, Stopped
from machines.runtime.logs import Log
from machines.runtime.settings import Settings, SettingsError, read_settings

Main = Callable[[Settings, Link, Log], None]


def settings_or_exit(log: Log) -> Settings:
    """The settings, or exit code 2 with the variable that is wrong."""
    try:
        return read_settings(os.environ)
    except SettingsError as error:
        log.error("failed", reason=str(error))
        sys.exit(2)


def serve(name: str, main: Main) -> None:
    """Run ``main`` until it returns or raises Stopped, which it does when a stop signal came; then end the process.

    Stop signals are blocked in every thread: while ``main`` starts, the link looks whether one is pending; once it
    is ready, it takes them with ``wait_for_stop``.
    """
    log = Log(name)
    settings = settings_or_exit(log)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    log.info("starting")
    link = Link(settings.bootstrap_servers, name, log)
    try:
        main(settings, link, log)
    except Stopped:
        pass
    except Exception as error:  # noqa: BLE001 - whatever it is, the process must end and say it
        link.failure = link.failure or f"{type(error).__name__}: {error}"
    if link.failure is not None:
        log.error("failed", reason=link.failure)
        os._exit(1)  # what was not acknowledged is read back by the next process
    link.close()
    log.info("stopped")
    os._exit(0)  # a clean-up of the client library could wait for a broker that is silent


def wait_for_stop() -> None:
    """Return when SIGTERM or SIGINT came, from outside or from a failure within."""
    signal.sigwait(STOP_SIGNALS)
