"""Processes of a working line are killed: nothing is lost, nothing comes twice, and nobody has to do anything.

All tests share one line, and each balances the books of the line's whole life.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest

from harness.line import MACHINE_TOPICS
from tests.integration.line_under_test import (
    ORDER_PROCESSING,
    SERVICES,
    LineUnderTest,
    PlacedOrder,
    is_frozen,
    now_us,
    running_line,
)

WORKING_AGAIN_S = 5.0
SIZE = 16
"""Long enough that an order is before, in and behind a machine at once; three of these pizzas or four are frozen."""

logger = logging.getLogger(__name__)
"""Tells the times measured: pytest --log-cli-level=INFO."""


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LineUnderTest]:
    with running_line(tmp_path_factory.mktemp("line"), time_scale=0.05) as running:
        yield running
        running.assert_exactly_once()  # nor did anything follow late


def is_amid(line: LineUnderTest, machine: str, order: PlacedOrder) -> bool:
    """The order has pizzas behind the machine, at it and still to come; fresh ones and frozen are in the line."""
    ids, through = line.watch.ids, order.pizzas_through(machine)
    few = machine == "freezer-machine"
    behind, reached = ids[f"{machine}-done"] & through, ids[machine] & through
    under_way = (ids["dough-machine"] & set(order.pizzas)) - ids["pizza-done"]
    return (
        len(behind) >= (1 if few else 4)
        and len(reached - behind) >= 1
        and len(through - reached) >= (1 if few else 3)
        and len({is_frozen(pizza) for pizza in under_way}) == 2
    )


def next_work_us(line: LineUnderTest, service: str, since_us: int) -> int | None:
    """When the service first handed on a pizza that it took up after ``since_us``; None if it has not yet."""
    if service == ORDER_PROCESSING:
        times = [record.number("at-us") for record in line.watch.records["dough-machine"]]
        return min((at for at in times if at > since_us), default=None)
    signals = [record for record in line.watch.records[f"{service}-done"] if record.number("started-us") > since_us]
    return min((record.number("handed-off-us") for record in signals), default=None)


def wait_working(line: LineUnderTest, service: str, since_us: int) -> int:
    """Wait for the service to hand on a pizza that it took up after ``since_us``; returns when it did."""
    return line.watch.until(lambda: next_work_us(line, service, since_us), 30, f"{service} working again")


def wait_pizzas_done(line: LineUnderTest, count: int) -> None:
    line.watch.until(lambda: len(line.watch.ids["pizza-done"]) >= count, 40, f"{count} pizzas done")


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_works_again_within_5_s_and_its_order_completes_exactly_once(
    line: LineUnderTest, service: str
) -> None:
    order = line.order(SIZE)
    machine = MACHINE_TOPICS[0] if service == ORDER_PROCESSING else service
    line.watch.until(lambda: is_amid(line, machine, order), 30, f"order {order.order_id} amid {machine}")

    killed_us = now_us()
    line.stack.kill(service)
    works_us = wait_working(line, service, killed_us)
    line.stack.wait_ready(service)
    line.wait_done([order])

    logger.info("%s worked again %.2f s after the kill", service, (works_us - killed_us) / 1e6)
    assert works_us - killed_us <= WORKING_AGAIN_S * 1e6
    line.assert_exactly_once()


def test_orders_that_were_accepted_but_not_dispatched_survive_in_their_order(line: LineUnderTest) -> None:
    first = line.order(SIZE)
    line.wait_for("dough-machine", first.first_pizza)
    with line.paused("dough-machine"):  # it takes one pizza in and lets no other follow
        queued = [line.order(size, key=f"queued-{size}") for size in (3, 1, 4)]
        line.stack.kill(ORDER_PROCESSING)
        line.stack.wait_ready(ORDER_PROCESSING)

        assert [line.describe(order)["state"] for order in queued] == ["queued"] * 3
        repeated = line.post(1, key="queued-1")
        assert (repeated.status_code, repeated.json()["orderId"]) == (202, queued[1].order_id)
        line.watch.until(lambda: queued[-1].order_id <= len(line.watch.records["order-stack"]), 5, "order-stack")
        assert not line.watch.ids["order-processing"] & {order.order_id for order in queued}

    line.wait_done([first, *queued])
    assert line.post(9, key="queued-4").json() == {"orderId": queued[2].order_id, "orderSize": 4}
    started = [int(record.key or b"0") for record in line.watch.records["order-processing"]]
    assert started == sorted(started)
    line.assert_exactly_once()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_of_kills_loses_and_duplicates_nothing(line: LineUnderTest, seed: int) -> None:
    chance = random.Random(seed)
    orders = [line.order_by_all_means(SIZE, f"storm-{seed}-0")]
    for strike in range(1, 6):
        # The next strike comes when a few more pizzas are through, wherever that finds everyone else.
        done = len(line.watch.ids["pizza-done"])
        target = min(done + chance.randrange(1, 5), sum(order.size for order in line.orders))
        wait_pizzas_done(line, target)
        line.kill_at_once(chance.sample(SERVICES, chance.choice([1, 2, 3, len(SERVICES)])))
        if strike in (1, 3):
            orders.append(line.order_by_all_means(chance.randrange(3, 9), f"storm-{seed}-{strike}"))
    line.wait_done(orders)
    line.assert_exactly_once()


def test_a_broker_that_is_killed_and_restarted_on_its_data_costs_nothing_but_time(
    line: LineUnderTest,
) -> None:
    order = line.order(SIZE)
    line.watch.until(lambda: is_amid(line, "dough-machine", order), 30, "an order amid the line")
    killed_us = now_us()
    line.stack.kafka.kill()
    line.stack.kafka.start()
    back_us = now_us()
    for service in SERVICES:
        wait_working(line, service, killed_us)
    line.wait_done([order])

    finished_us = max(record.number("at-us") for record in line.watch.records["order-done"])
    back_s, finished_s = (back_us - killed_us) / 1e6, (finished_us - killed_us) / 1e6
    logger.info("broker back %.2f s after the kill, the order done after %.2f s", back_s, finished_s)
    line.assert_exactly_once()
