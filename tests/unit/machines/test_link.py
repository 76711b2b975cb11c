"""A service's connection to the line while it starts and there is no broker: every wait can be broken off."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from machines.runtime.kafka import STOP_SIGNALS, Link, LinkFailed, Stopped
from machines.runtime.logs import Log

WAITS: list[Callable[[Link], object]] = [
    lambda link: link.wait_for_topics(["dough-machine"], 20.0),
    lambda link: list(link.read_back(["dough-machine"])),
]


@pytest.fixture
def link() -> Iterator[Link]:
    """A link to a broker that takes connections and never answers; stop signals are blocked as in a service."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield Link(f"127.0.0.1:{silent.getsockname()[1]}", "dough-machine", Log("dough-machine"))
    while signal.sigtimedwait(STOP_SIGNALS, 0) is not None:
        pass
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.parametrize("wait", WAITS)
def test_a_stop_signal_ends_a_wait_of_the_start(link: Link, wait: Callable[[Link], object]) -> None:
    caller = threading.get_ident()
    later = threading.Timer(0.1, lambda: signal.pthread_kill(caller, signal.SIGTERM))
    later.start()
    with pytest.raises(Stopped):
        wait(link)
    later.join()


@pytest.mark.parametrize("wait", WAITS)
def test_a_failure_ends_a_wait_of_the_start_with_its_reason(link: Link, wait: Callable[[Link], object]) -> None:
    link.failure = "a delivery failed"
    with pytest.raises(LinkFailed, match="a delivery failed"):
        wait(link)
