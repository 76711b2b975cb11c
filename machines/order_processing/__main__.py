import asyncio

from aiohttp import web

from machines.order_processing.api import OrderApi
from machines.order_processing.service import NAME, OrderProcessing
from machines.runtime.kafka import Link
from machines.runtime.logs import Log
from machines.runtime.service import serve, wait_for_stop
from machines.runtime.settings import Settings

SHUTDOWN_S = 0.5
"""Half of how long requests that wait for the broker may hold up a stop: aiohttp waits for them twice."""


def main(settings: Settings, link: Link, log: Log) -> None:
    service = OrderProcessing(settings, link, log)
    service.start()
    asyncio.run(_serve_api(settings, service, log))


async def _serve_api(settings: Settings, service: OrderProcessing, log: Log) -> None:
    api = OrderApi(service, settings.max_backlog_pizzas)
    runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=1024).start()
        log.info("ready", addresses=[list(address[:2]) for address in runner.addresses])
        await asyncio.to_thread(wait_for_stop)
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    serve(NAME, main)
