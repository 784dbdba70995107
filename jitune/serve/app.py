"""The web application: OpenAI's paths over an engine.

    app = make_app(engine, models, Options(timeout=600, key="..."))        # Starlette; uvicorn runs it, see `run`

| | |
|---|---|
| `POST /v1/chat/completions`, `POST /v1/completions` | answers, whole or as server-sent events |
| `GET /v1/models`, `GET /v1/models/NAME` | what is served |
| `GET /health` | whether it answers; needs no key |

Every error is JSON as OpenAI words it. A request whose client is gone, or whose time is over, frees its rows at once.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import traceback
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from jitune.construct.annotate.server import host_is_ours, is_loopback
from jitune.serve import fields
from jitune.serve.engine import Engine
from jitune.serve.fields import CHAT, COMPLETION, Refused
from jitune.serve.models import Served, find
from jitune.serve.reply import reply
from jitune.serve.running import Running, ended, late

MAX_BODY = 8 * 2**20  # bytes
LINGER = 10.0  # seconds in which a client may send the rest of what is not taken


@dataclass(frozen=True)
class Options:
    """timeout: seconds of a request, from its first byte to its last. key: that clients give; "": none is needed.

    host: that it is bound to. max_body: bytes of a request. log: where tracebacks go.
    """

    timeout: float = 600.0
    key: str = ""
    host: str = "127.0.0.1"
    max_body: int = MAX_BODY
    log: Callable[[str], None] = print

    def __repr__(self) -> str:
        return "Options(...)"  # the key is shown nowhere


def make_app(engine: Engine, models: Mapping[str, Served], options: Options) -> Any:
    """The application. `app.state.stopping`: set to true, nothing more is taken."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    def said(error: Refused) -> Any:
        return JSONResponse(error.body, error.status, error.headers)

    def guarded(answer: Callable) -> Any:
        """An endpoint behind the checks that all have; whatever goes wrong in it becomes JSON."""
        async def endpoint(request: Request) -> Any:
            try:
                _let_in(request, options, app.state.stopping)
                return await answer(request)
            except Refused as error:
                if "Connection" in error.headers:
                    await _linger(request)
                return said(error)
            except ClientDisconnect:
                return Response(status_code=499)  # which nobody hears
            except Exception:
                options.log(traceback.format_exc())
                return said(Refused(500, "the server failed; what happened is in its log", kind="server_error"))

        return endpoint

    def asking(path: str) -> Callable:
        async def answer(request: Request) -> Any:
            end = asyncio.get_running_loop().time() + options.timeout
            try:
                async with asyncio.timeout_at(end):
                    asked = fields.read(await read_body(request, options.max_body), path)
                    served = find(models, asked["model"])
                    asks = await asyncio.to_thread(served.asks, asked, path)
                running = Running(engine, served, asks)
                name = f"{'chatcmpl' if path == CHAT else 'cmpl'}-{uuid.uuid4().hex}"
                return reply(running, asked, path, name, end=end, timeout=options.timeout)
            except TimeoutError:
                raise late(options.timeout) from None
            except RecursionError:
                raise Refused(400, "the request's JSON is nested too deeply") from None

        return guarded(answer)

    async def listed(request: Request) -> Any:
        return JSONResponse({"object": "list", "data": [_card(served) for served in models.values()]})

    async def card(request: Request) -> Any:
        return JSONResponse(_card(find(models, request.path_params["name"])))

    async def health(request: Request) -> Any:
        ok = engine.alive and not app.state.stopping
        found = {"status": "ok" if ok else "stopping", "running": engine.running, "waiting": engine.waiting}
        return JSONResponse(found, 200 if ok else 503)

    async def amiss(request: Request, error: HTTPException) -> Any:
        what = f"Invalid URL ({request.method} {request.url.path})" if error.status_code == 404 else (
            f"Not allowed to {request.method} on {request.url.path}" if error.status_code == 405 else error.detail)
        return said(Refused(error.status_code, what, code={404: "not_found", 405: "method_not_allowed"}.get(
            error.status_code), headers=dict(error.headers or {})))

    routes = [Route(f"/v1/{path}", asking(path), methods=["POST"]) for path in (CHAT, COMPLETION)]
    routes += [Route("/v1/models", guarded(listed)), Route("/v1/models/{name:path}", guarded(card)),
               Route("/health", health)]
    app = Starlette(routes=routes, exception_handlers={HTTPException: amiss})
    app.state.stopping = False
    return app


def _card(served: Served) -> dict[str, Any]:
    return {"id": served.name, "object": "model", "created": served.created, "owned_by": "jitune",
            "max_model_len": served.limit}  # fmt: skip


def _let_in(request: Any, options: Options, stopping: bool) -> None:
    """Raises Refused for who has no key, and, where none is needed, for pages of other sites."""
    if stopping:
        raise ended()
    if options.key:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(errors="replace"), options.key.encode())
        if scheme.lower() != "bearer" or not same:
            what = "Incorrect API key provided" if given else "You didn't provide an API key"
            raise Refused(401, f"{what}; send it as a header: Authorization: Bearer YOUR_KEY", code="invalid_api_key",
                          headers={"WWW-Authenticate": "Bearer"})  # fmt: skip
        return
    # Without a key, pages of other sites could post here. On loopback another site's name may even be pointed at this
    # machine; elsewhere a name is not looked at, for a network may have any for it.
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    page = None if origin is None else origin.partition("//")[2]
    loopback = is_loopback(options.host)
    if loopback and not host_is_ours(host, options.host):
        raise Refused(403, "this server answers to loopback names only, as no API key is asked for",
                      code="forbidden_host")  # fmt: skip
    if page is not None and not host_is_ours(page, options.host) and (loopback or page != host):
        raise Refused(403, "pages of other sites are not answered, as no API key is asked for",
                      code="forbidden_origin")  # fmt: skip


async def read_body(request: Any, most: int) -> Any:
    """A request's JSON. Raises Refused: 413 for one that is too large, 400 for what is no JSON."""
    large = Refused(413, f"the request is larger than {most // 2**20} MiB" if most >= 2**20 else
                    f"the request is larger than {most} bytes", code="request_too_large",
                    headers={"Connection": "close"})  # fmt: skip
    given = request.headers.get("content-length", "0")
    if given.isascii() and given.isdecimal() and len(given.lstrip("0")) > len(str(most)):
        raise large
    parts, size = [], 0
    if int(given if given.isascii() and given.isdecimal() else 0) > most:
        raise large
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise large
        parts.append(part)
    try:
        return json.loads(b"".join(parts), parse_constant=_no_constant)
    except RecursionError:
        raise Refused(400, "the request's JSON is nested too deeply") from None
    except ValueError as error:
        why = str(error) if isinstance(error, json.JSONDecodeError) else "it is no text in UTF-8, or has huge numbers"
        raise Refused(400, f"the request's body is not JSON: {why}", code="invalid_json") from None


async def _linger(request: Any) -> None:
    """Drops what is left of a body: a client that is hung up on while it sends would never see the reply."""
    if "expect" in request.headers:  # it waits for the reply before it sends
        return
    with suppress(Exception):  # it is gone, takes too long, or has sent all
        async with asyncio.timeout(LINGER):
            async for _ in request.stream():
                pass


def _no_constant(name: str):
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)

