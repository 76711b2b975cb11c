"""The order API in front of a line whose acknowledgements and records come when the test says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import cast

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from confluent_kafka import Message

from machines.order_processing import api
from machines.order_processing.api import OrderApi
from machines.order_processing.service import STACK, OrderProcessing
from machines.runtime.kafka import Link, OnAck, Read
from machines.runtime.logs import Log
from machines.runtime.messages import Headers
from machines.runtime.settings import read_settings


class Held:
    """A link that holds back what is written to order-stack."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.orders: list[tuple[bytes | None, Headers, OnAck]] = []
        self.written = asyncio.Semaphore(0)
        self.on_record: Callable[[Read, int], None] = lambda read, at: None

    def wait_for_topics(self, topics: Iterable[str], timeout_s: float) -> None:
        """They are there."""

    def read_back(self, topics: Iterable[str]) -> list[Read]:
        return []

    def follow(self, positions: dict[str, int], on_record: Callable[[Read, int], None]) -> None:
        self.on_record = on_record

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, on_ack: OnAck) -> None:
        if topic == STACK:
            self.orders.append((value, headers, on_ack))
            self.written.release()

    def acknowledge(self, offset: int) -> None:
        with self.lock:
            self.orders[offset][2](offset, 0)

    def deliver(self, offset: int) -> None:
        """The service reads its own order back."""
        value, headers, _ = self.orders[offset]

        class Record:
            def headers(self) -> Headers:
                return headers

        with self.lock:
            self.on_record(Read(STACK, offset, None, value, cast(Message, Record())), 0)


class Shop:
    def __init__(self) -> None:
        self.link = Held()
        service = OrderProcessing(read_settings({}), cast(Link, self.link), Log("order-processing"))
        service.start()
        self.api = OrderApi(service, 1000)

    def run(self, play: Callable[[TestClient], Awaitable[None]]) -> None:  # type: ignore[type-arg]
        async def playing() -> None:
            async with TestClient(TestServer(self.api.application())) as client:
                await play(client)

        asyncio.run(playing())

    async def written(self) -> None:
        """Return when one more order is written."""
        async with asyncio.timeout(5):
            await self.link.written.acquire()


def order(client: TestClient, key: str = "table 7") -> asyncio.Task[ClientResponse]:  # type: ignore[type-arg]
    async def post() -> ClientResponse:
        return await client.post("/start-order/2", headers={"Idempotency-Key": key})

    return asyncio.create_task(post())


async def order_id(response: Awaitable[ClientResponse]) -> int:
    answer = await response
    assert answer.status == 202
    return cast(int, (await answer.json())["orderId"])


def test_repeats_get_the_first_answer_before_and_after_the_acknowledgement_and_the_reading() -> None:
    shop = Shop()

    async def play(client: TestClient) -> None:  # type: ignore[type-arg]
        first, second = order(client), order(client)
        await shop.written()
        await asyncio.to_thread(shop.link.acknowledge, 0)
        assert [await order_id(first), await order_id(second)] == [1, 1]
        assert await order_id(order(client)) == 1  # acknowledged, not read
        shop.link.deliver(0)
        assert await order_id(order(client)) == 1
        assert len(shop.link.orders) == 1

    shop.run(play)


@pytest.mark.parametrize("read_first", [False, True])
def test_a_repeat_after_a_timeout_gets_the_order_that_arrives_later(
    monkeypatch: pytest.MonkeyPatch, read_first: bool
) -> None:
    monkeypatch.setattr(api, "ACCEPT_TIMEOUT_S", 0.05)
    shop = Shop()

    async def play(client: TestClient) -> None:  # type: ignore[type-arg]
        assert (await order(client)).status == 503
        assert (await order(client)).status == 503  # still the same order
        if read_first:
            shop.link.deliver(0)
            assert await order_id(order(client)) == 1
        shop.link.acknowledge(0)
        assert await order_id(order(client)) == 1
        assert len(shop.link.orders) == 1

    shop.run(play)


def test_no_request_is_kept_under_way_once_its_order_is_acknowledged() -> None:
    shop = Shop()

    async def play(client: TestClient) -> None:  # type: ignore[type-arg]
        for index in range(5):
            asked = order(client, f"key {index}")
            await shop.written()
            shop.link.acknowledge(index)
            assert await order_id(asked) == index + 1
        assert shop.api._under_way == {}

    shop.run(play)


def test_an_acknowledgement_after_the_api_has_closed_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "ACCEPT_TIMEOUT_S", 0.05)
    shop = Shop()

    async def play(client: TestClient) -> None:  # type: ignore[type-arg]
        assert (await order(client)).status == 503

    shop.run(play)
    shop.link.acknowledge(0)
