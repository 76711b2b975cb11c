"""ksqlDB's REST endpoints over an engine.

Plain Starlette: the bodies are ksqlDB's and not ours to declare, and the engine is to start quickly.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from harness.ksqldb.embedded.catalog import Column
from harness.ksqldb.embedded.engine import VERSION, Engine
from harness.ksqldb.embedded.errors import BAD_REQUEST, NOT_ACCEPTABLE, NOT_FOUND, SERVER_ERROR, Refusal

V1_JSON = "application/vnd.ksql.v1+json"
JSON = "application/json"
DELIMITED = "application/vnd.ksqlapi.delimited.v1"
LARGEST_BODY = 1 << 20

_log = logging.getLogger(__name__)


def application(engine: Engine) -> Starlette:
    """The endpoints of ksqlDB that the engine has. The caller closes the engine."""
    endpoints = _Endpoints(engine)
    return Starlette(
        routes=[
            Route("/ksql", endpoints.ksql, methods=["POST"]),
            Route("/query", endpoints.query, methods=["POST"]),
            Route("/query-stream", endpoints.query_stream, methods=["POST"]),
            Route("/close-query", endpoints.close_query, methods=["POST"]),
            Route("/info", endpoints.info, methods=["GET"]),
            Route("/healthcheck", endpoints.healthcheck, methods=["GET"]),
            Route("/status/{command_id:path}", endpoints.status, methods=["GET"]),
        ],
        exception_handlers={
            Refusal: _refused,
            HTTPException: _no_such_endpoint,
            Exception: _failed,
        },
    )


class _Endpoints:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def ksql(self, request: Request) -> Response:
        media = _media(request, V1_JSON, JSON)
        statements, properties = await _body(request, "ksql", "streamsProperties")
        return _json(await run_in_threadpool(self.engine.execute, statements, properties), media)

    async def query(self, request: Request) -> Response:
        media = _media(request, V1_JSON, JSON, anything=False)
        sql, properties = await _body(request, "ksql", "streamsProperties")
        rows = await run_in_threadpool(self.engine.pull, sql, properties, ',\n{"row":{"columns":', "}}")
        header = orjson.dumps({"header": {"queryId": _query_id(), "schema": _schema(rows.columns)}})
        return _stream(b"[" + header, rows.blocks, b"]\n", media, b",\n")

    async def query_stream(self, request: Request) -> Response:
        media = _media(request, DELIMITED, JSON, anything=False)
        sql, properties = await _body(request, "sql", "properties")
        before, after = ("", "\n") if media == DELIMITED else (",\n", "")
        rows = await run_in_threadpool(self.engine.pull, sql, properties, before, after)
        header = orjson.dumps(
            {
                "queryId": _query_id(),
                "columnNames": [column.name for column in rows.columns],
                "columnTypes": [column.type.name for column in rows.columns],
            }
        )
        if media == DELIMITED:
            return _stream(header + b"\n", rows.blocks, b"", media, b"")
        return _stream(b"[" + header, rows.blocks, b"]\n", media, b",\n")

    async def close_query(self, request: Request) -> Response:
        """Only push queries stay open, and there are none: no id is known."""
        raise Refusal("No query with id " + str((await _object(request)).get("queryId")), code=BAD_REQUEST)

    async def info(self, request: Request) -> Response:
        cluster = await run_in_threadpool(self.engine.cluster_id)
        info = {
            "version": VERSION,
            "kafkaClusterId": cluster,
            "ksqlServiceId": "embedded",
            "serverStatus": "RUNNING",
        }
        return _json({"KsqlServerInfo": info}, _media(request, V1_JSON, JSON))

    async def healthcheck(self, request: Request) -> Response:
        problem = await run_in_threadpool(self.engine.problem)
        healthy = problem is None
        kafka: dict[str, Any] = {"isHealthy": healthy}
        if problem is not None:
            kafka["reason"] = problem
        answer = {
            "isHealthy": healthy,
            "details": {"metastore": {"isHealthy": True}, "kafka": kafka, "commandRunner": {"isHealthy": True}},
            "serverState": "READY",
        }
        return _json(answer, _media(request, V1_JSON, JSON))

    async def status(self, request: Request) -> Response:
        command_id = request.path_params["command_id"]
        status = self.engine.status(command_id)
        if status is None:
            raise Refusal("Command not found", code=NOT_FOUND)
        return _json(status, _media(request, V1_JSON, JSON))


def _media(request: Request, *offered: str, anything: bool = True) -> str:
    """The media type to answer in. Raises Refusal with code 40600.

    Where ksqlDB answers ``*/*`` in a form that is not offered here, ``anything`` is False.
    """
    accepted = {part.split(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")}
    for media in offered:
        if media in accepted:
            return media
    if anything and accepted & {"*/*", "application/*"}:
        return offered[0]
    raise Refusal(f"Send an Accept header with one of: {', '.join(offered)}", code=NOT_ACCEPTABLE)


async def _object(request: Request) -> dict[str, Any]:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > LARGEST_BODY:
            raise Refusal(f"The request is larger than {LARGEST_BODY} bytes.", code=BAD_REQUEST)
    try:
        body = orjson.loads(content)
    except ValueError as error:
        raise Refusal(f"The body is not JSON: {error}", code=BAD_REQUEST) from error
    if not isinstance(body, dict):
        raise Refusal("The body is not a JSON object.", code=BAD_REQUEST)
    return body


async def _body(request: Request, text: str, properties: str) -> tuple[str, Mapping[str, Any]]:
    """The statement text and the properties of a request; other keys are ignored, as ksqlDB does."""
    body = await _object(request)
    statements, given = body.get(text), body.get(properties) or {}
    if not isinstance(statements, str):
        raise Refusal(f'The body has no text under "{text}".', code=BAD_REQUEST)
    if not isinstance(given, dict):
        raise Refusal(f'"{properties}" is not an object.', code=BAD_REQUEST)
    return statements, given


def _stream(
    header: bytes, blocks: Iterator[bytes], footer: bytes, media: str, before_error: bytes
) -> StreamingResponse:
    """The rows as they come. The status is sent by then, so an error takes the place of the remaining rows."""

    def body() -> Iterator[bytes]:
        yield header
        try:
            yield from blocks
        except Exception as error:  # noqa: BLE001 - it must reach the client, whatever it is
            _log.exception("a query broke off")
            yield before_error + orjson.dumps(Refusal(f"{type(error).__name__}: {error}", code=SERVER_ERROR).body())
        yield footer

    return StreamingResponse(body(), media_type=media)


def _json(answer: Any, media: str, status: int = 200) -> Response:
    return Response(orjson.dumps(answer), status_code=status, media_type=media)


def _schema(columns: tuple[Column, ...]) -> str:
    """ksqlDB's text of a schema: quoted names, types, and which columns are keys."""
    return ", ".join(
        f"`{column.name.replace('`', '``')}` {column.type.name}{' KEY' if column.is_key else ''}" for column in columns
    )


def _query_id() -> str:
    return f"query_{uuid.uuid4()}"


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _json(error.body(), JSON, error.http_status)


async def _no_such_endpoint(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = Refusal(error.detail, code=error.status_code * 100).body()
    return _json(body, JSON, error.status_code)


async def _failed(_: Request, error: Exception) -> Response:
    body = Refusal(f"{type(error).__name__}: {error}", code=SERVER_ERROR).body()
    return _json(body, JSON, 500)
