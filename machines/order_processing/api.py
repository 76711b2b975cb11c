"""The order API: POST /start-order/{n}, GET /orders/{id}, GET /healthz (PROTOCOL.md, rule 3).

202 means that the broker has the order. 422 and 429 mean that there is no order. Anything else means unknown: the
order may exist, and a client that cares repeats its request with the same Idempotency-Key.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from machines.order_processing.service import OrderProcessing
from machines.runtime.messages import MAX_ORDER_SIZE

ACCEPT_TIMEOUT_S = 5.0
RETRY_AFTER_S = 1
MAX_KEY_LENGTH = 200

Accepted = tuple[int, int]
"""(order id, order size)"""


class OrderApi:
    """``max_backlog_pizzas`` is where accepting stops."""

    def __init__(self, service: OrderProcessing, max_backlog_pizzas: int) -> None:
        self._service = service
        self._max_backlog = max_backlog_pizzas
        self._under_way: dict[str, asyncio.Future[Accepted]] = {}  # by key; the service knows the acknowledged ones

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/start-order/{size}", self.start_order)
        app.router.add_get("/orders/{order_id}", self.get_order)
        app.router.add_get("/healthz", self.healthz)
        return app

    async def start_order(self, request: web.Request) -> web.Response:
        size = _whole(request.match_info["size"])
        if size is None or not 1 <= size <= MAX_ORDER_SIZE:
            return _problem(422, f"the order size must be a whole number from 1 to {MAX_ORDER_SIZE}")
        recipe = request.query.get("recipe")
        if recipe is not None and recipe not in self._service.menu:
            return _problem(422, f"no recipe {recipe!r}; the menu has {', '.join(self._service.menu.names)}")
        key = request.headers.get("Idempotency-Key")
        if key is not None and not (0 < len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
            return _problem(422, f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} printable ASCII characters")
        earlier = self._earlier(key) if key is not None else None
        if earlier is None and self._service.backlog_pizzas() + size > self._max_backlog:
            return _problem(429, f"more than {self._max_backlog} pizzas would be waiting")
        try:
            accepting = earlier or self._accept(size, recipe, key)
            async with asyncio.timeout(ACCEPT_TIMEOUT_S):
                order_id, order_size = await asyncio.shield(accepting)
        except (TimeoutError, BufferError):
            response = _problem(503, "the broker did not confirm the order; it may exist")
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
            return response
        return web.json_response({"orderId": order_id, "orderSize": order_size}, status=202)

    def _earlier(self, key: str) -> asyncio.Future[Accepted] | None:
        """The answer that an earlier request with this key got or will get."""
        answer = self._service.first_answer(key)
        if answer is None:
            return self._under_way.get(key)
        future: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        future.set_result(answer)
        return future

    def _accept(self, size: int, recipe: str | None, key: str | None) -> asyncio.Future[Accepted]:
        loop = asyncio.get_running_loop()
        accepting: asyncio.Future[Accepted] = loop.create_future()

        def on_ack(offset: int, _: int) -> None:
            try:
                loop.call_soon_threadsafe(accepting.set_result, (offset + 1, size))
            except RuntimeError:
                if not loop.is_closed():  # closed: the service stops, and nobody waits for the answer any more
                    raise

        self._service.accept(size, recipe, key, on_ack)
        if key is not None:
            self._under_way[key] = accepting
            accepting.add_done_callback(lambda _: self._under_way.pop(key, None))
        return accepting

    async def get_order(self, request: web.Request) -> web.Response:
        order_id = _whole(request.match_info["order_id"])
        description = self._service.describe(order_id) if order_id is not None else None
        if description is None:
            return _problem(404, "no such order")
        return web.json_response(description)

    async def healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ready"})


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)
