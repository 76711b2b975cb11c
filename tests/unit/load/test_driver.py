"""The driver against stub APIs on loopback: open loop, honest times, nothing sent twice, nothing forgotten."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.line import ROOT
from harness.load.driver import SentOrder, drive, judge, send_lag, steady_clock
from harness.load.schedule import PlannedOrder
from harness.scenario import DriverSettings
from tests.unit.load.stub import Answer, order_api

SETTINGS = DriverSettings(request_timeout_s=20.0)
IMPATIENT = DriverSettings(request_timeout_s=1.0)


def plan(*due_ms: int, size: int = 1, recipe: str | None = None) -> list[PlannedOrder]:
    return [PlannedOrder(index, due * 1000, size, recipe, 0) for index, due in enumerate(due_ms)]


def accepting() -> Answer:
    ids = count(1)
    return lambda path: (202, json.dumps({"orderId": next(ids), "orderSize": 1}).encode())


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Set when the test is over, so that no answer is held for ever."""
    event = threading.Event()
    yield event
    event.set()


def test_orders_go_out_although_no_earlier_one_was_answered() -> None:
    everyone = threading.Barrier(20)

    def answer_when_all_are_here(path: str) -> tuple[int, bytes]:
        everyone.wait(15)
        return 202, b'{"orderId": 1, "orderSize": 1}'

    with order_api(answer_when_all_are_here) as stub:
        sent = drive(stub.url, plan(*range(0, 100, 5)), phase="load", settings=SETTINGS)
    assert [order.outcome for order in sent] == ["accepted"] * 20
    assert max(order.sent_us or 0 for order in sent) < min(order.acknowledged_us or 0 for order in sent)


def test_an_accepted_order_keeps_its_id_and_three_times_in_sequence() -> None:
    clock = steady_clock()
    before = clock()
    with order_api(accepting()) as stub:
        sent = drive(stub.url, plan(0, 40, 40, 95, size=3), phase="warmup", settings=SETTINGS, clock=clock)
    after = clock()
    assert [order.index for order in sent] == [0, 1, 2, 3]
    assert sorted(order.order_id or 0 for order in sent) == [1, 2, 3, 4]
    for order in sent:
        assert (order.phase, order.size, order.recipe) == ("warmup", 3, None)
        assert (order.status, order.outcome, order.error) == (202, "accepted", "")
        assert order.sent_us is not None
        assert order.acknowledged_us is not None
        assert before < order.intended_us <= order.sent_us < order.acknowledged_us < after
    start_us = sent[0].intended_us
    assert [order.intended_us - start_us for order in sent] == [0, 40_000, 40_000, 95_000]


def test_size_and_recipe_reach_the_api() -> None:
    with order_api(accepting()) as stub:
        drive(stub.url + "/", plan(0, size=7, recipe="salami"), phase="load", settings=SETTINGS)
        drive(stub.url, plan(0, size=8), phase="load", settings=SETTINGS)
    assert [path for path, _ in stub.received] == ["/start-order/7?recipe=salami", "/start-order/8"]


def test_every_order_has_a_key_of_its_own_across_calls() -> None:
    with order_api(accepting()) as stub:
        drive(stub.url, plan(0, 0, 0), phase="warmup", settings=SETTINGS)
        drive(stub.url, plan(0, 0, 0), phase="load", settings=SETTINGS)
    keys = {key for _, key in stub.received}
    assert len(keys) == 6
    assert "" not in keys


@pytest.mark.parametrize("status", [422, 429])
def test_a_refused_order_is_rejected(status: int) -> None:
    with order_api(lambda path: (status, b"too many pizzas")) as stub:
        (order,) = drive(stub.url, plan(0), phase="load", settings=SETTINGS)
    assert (order.status, order.outcome, order.order_id) == (status, "rejected", None)
    assert order.error == f"HTTP {status}: too many pizzas"
    assert order.acknowledged_us is not None


@pytest.mark.parametrize("status", [200, 302, 404, 500, 503])
def test_any_other_answer_leaves_the_outcome_unknown_and_is_not_followed_by_another_try(status: int) -> None:
    with order_api(lambda path: (status, b"")) as stub:
        (order,) = drive(stub.url, plan(0), phase="load", settings=SETTINGS)
    assert (order.status, order.outcome, order.order_id) == (status, "unknown", None)
    assert len(stub.received) == 1


def test_an_order_that_finds_nobody_listening_is_unknown_and_was_never_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refuses, and nobody else can take the port
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        sent = drive(url, plan(0, 10), phase="load", settings=SETTINGS)
    assert [(order.status, order.outcome, order.sent_us, order.acknowledged_us) for order in sent] == [
        (0, "unknown", None, None)
    ] * 2
    assert all("refused" in order.error.lower() or "connect" in order.error.lower() for order in sent)
    assert send_lag(sent).unsent == 2
    assert send_lag(sent).p99_ms is None


def test_an_order_without_an_answer_in_time_is_unknown_but_was_sent(released: threading.Event) -> None:
    def never(path: str) -> None:
        released.wait(30)

    with order_api(never) as stub:
        sent = drive(stub.url, plan(0, 10), phase="load", settings=IMPATIENT)
        released.set()
    assert [(order.status, order.outcome, order.acknowledged_us) for order in sent] == [(0, "unknown", None)] * 2
    assert all(order.sent_us is not None and order.error == "no answer within 1 s" for order in sent)
    assert len(stub.received) == 2


def test_an_order_whose_connection_breaks_is_unknown_and_not_sent_again() -> None:
    planned = [PlannedOrder(0, 0, 1, None, 0), PlannedOrder(1, 200_000, 2, None, 0)]
    with order_api(lambda path: None if path == "/start-order/2" else (202, b'{"orderId": 1}')) as stub:
        first, second = drive(stub.url, planned, phase="load", settings=SETTINGS)
    assert first.outcome == "accepted"
    assert (second.status, second.outcome) == (0, "unknown")
    assert second.sent_us is not None
    assert second.error != ""
    assert len(stub.received) == 2


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"{}", b'{"orderId": "7"}', b'{"orderId": true}', b"\xff"])
def test_an_accepted_order_without_a_readable_id_is_accepted_and_says_so(body: bytes) -> None:
    with order_api(lambda path: (202, body)) as stub:
        (order,) = drive(stub.url, plan(0), phase="load", settings=SETTINGS)
    assert (order.outcome, order.order_id, order.error) == ("accepted", None, "the answer names no orderId")


@given(st.integers(100, 599), st.binary(max_size=300) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("orderId") | st.text(), inner, max_size=2),
    max_leaves=5,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_answer_confuses_the_driver(status: int, body: bytes) -> None:
    outcome, order_id, error = judge(status, body)
    assert outcome == {202: "accepted", 422: "rejected", 429: "rejected"}.get(status, "unknown")
    assert (order_id is None) == (error != "")


def test_an_answer_nested_too_deeply_is_an_answer_without_an_id() -> None:
    assert judge(202, b"[" * 100_000) == ("accepted", None, "the answer names no orderId")


def test_an_interrupt_keeps_what_was_answered_and_what_was_under_way(released: threading.Event) -> None:
    planned = [PlannedOrder(index, due_us, index + 1, None, 0) for index, due_us in enumerate((0, 100_000, 60_000_000))]
    first_is_finished = threading.Event()

    def interrupt_at_the_second(path: str) -> tuple[int, bytes]:
        if path == "/start-order/2":
            first_is_finished.wait(15)
            os.kill(os.getpid(), signal.SIGINT)
            released.wait(30)
        return 202, b'{"orderId": 1}'

    def note(begun: int, finished: int) -> None:
        if finished:
            first_is_finished.set()

    kept: list[SentOrder] = []
    with order_api(interrupt_at_the_second) as stub:
        with pytest.raises(KeyboardInterrupt):
            drive(stub.url, planned, phase="load", settings=SETTINGS, into=kept, on_progress=note)
        released.set()
    assert [(order.index, order.outcome, order.order_id) for order in kept] == [
        (0, "accepted", 1),
        (1, "unknown", None),
    ]
    assert kept[1].sent_us is not None
    assert kept[1].error == "interrupted before the answer"


def test_an_error_in_the_midst_keeps_what_was_there_too(released: threading.Event) -> None:
    class Terminated(BaseException):
        """What a signal handler may raise."""

    arrived = threading.Event()

    def terminate(begun: int, finished: int) -> None:
        if arrived.is_set():
            raise Terminated

    def hold(path: str) -> None:
        arrived.set()
        released.wait(30)

    kept: list[SentOrder] = []
    with order_api(hold) as stub:
        with pytest.raises((Terminated, BaseExceptionGroup)):
            drive(stub.url, plan(0, 60_000), phase="load", settings=SETTINGS, into=kept, on_progress=terminate)
        released.set()
    assert [(order.index, order.outcome, order.sent_us is not None) for order in kept] == [(0, "unknown", True)]


def test_results_are_added_to_those_of_earlier_calls() -> None:
    kept: list[SentOrder] = []
    with order_api(accepting()) as stub:
        drive(stub.url, plan(0, 0), phase="warmup", settings=SETTINGS, into=kept)
        returned = drive(stub.url, plan(0, 0, 0), phase="load", settings=SETTINGS, into=kept)
    assert [order.phase for order in kept] == ["warmup"] * 2 + ["load"] * 3
    assert [(order.phase, order.index) for order in returned] == [("load", 0), ("load", 1), ("load", 2)]


def test_progress_ends_with_every_order_begun_and_finished() -> None:
    seen: list[tuple[int, int]] = []
    with order_api(accepting()) as stub:
        drive(stub.url, plan(0, 250, 500), phase="load", settings=SETTINGS, on_progress=lambda *n: seen.append(n))
    assert seen[-1] == (3, 3)
    assert len(seen) >= 3
    assert seen == sorted(seen)


def test_nothing_planned_sends_nothing() -> None:
    assert drive("http://127.0.0.1:9", [], phase="warmup", settings=SETTINGS) == []


def test_a_burst_beyond_the_limit_on_open_files_comes_late_but_complete() -> None:
    script = """
import resource, sys
from harness.load.driver import drive, send_lag
from harness.load.schedule import PlannedOrder
from harness.scenario import DriverSettings
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 280))
planned = [PlannedOrder(index, 0, 1, None, 0) for index in range(300)]
sent = drive(sys.argv[1], planned, phase="load", settings=DriverSettings())
assert [order.outcome for order in sent] == ["accepted"] * 300, {order.error for order in sent}
assert send_lag(sent).unsent == 0
"""
    with order_api(accepting()) as stub:
        finished = subprocess.run(
            [sys.executable, "-c", script, stub.url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert finished.returncode == 0, finished.stderr
    assert len(stub.received) == 300


def test_the_limit_on_open_files_is_as_before_afterwards() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowered = (min(256, before[1]), before[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, lowered)
    try:
        with order_api(accepting()) as stub:
            drive(stub.url, plan(0), phase="load", settings=SETTINGS)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == lowered
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_orders_due_while_the_driver_was_held_up_are_all_sent_and_their_lag_shows_it() -> None:
    clock = steady_clock()
    stalls: list[tuple[int, int]] = []

    def stall_once(begun: int, finished: int) -> None:
        if not stalls:
            start_us = clock()
            time.sleep(0.3)
            stalls.append((start_us, clock()))

    with order_api(accepting()) as stub:
        sent = drive(
            stub.url, plan(*range(0, 700, 10)), phase="load", settings=SETTINGS, clock=clock, on_progress=stall_once
        )
    assert len(stub.received) == 70
    ((start_us, end_us),) = stalls
    held_up = [order for order in sent if start_us < order.intended_us < end_us]
    assert held_up
    assert all((order.sent_us or 0) >= end_us for order in held_up)
    assert (send_lag(sent).max_ms or 0) >= (end_us - held_up[0].intended_us) / 1000


@given(st.lists(st.integers(0, 10_000_000), min_size=1, max_size=300), st.integers(0, 5))
def test_send_lag_is_by_nearest_rank_and_counts_the_unsent_apart(lags: list[int], unsent: int) -> None:
    times: list[int | None] = [*(1_000 + lag for lag in lags), *([None] * unsent)]
    orders = [
        SentOrder(index, "load", 1, None, 1_000, sent_us, None, 0, "unknown", None, "")
        for index, sent_us in enumerate(times)
    ]
    lag = send_lag(orders)
    assert lag.unsent == unsent
    assert lag.max_ms == max(lags) / 1000
    for figure, share in ((lag.p50_ms, 50), (lag.p99_ms, 99)):
        assert figure is not None
        at_or_below = sum(one / 1000 <= figure for one in lags)
        below = sum(one / 1000 < figure for one in lags)
        assert at_or_below * 100 >= share * len(lags) > below * 100
