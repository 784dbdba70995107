"""The server of the page: one document, and JSON for what it shows and saves.

    serve(desk, title="data.jsonl", host="127.0.0.1", port=8765, opened=print)   # until Ctrl-C

| | |
|---|---|
| `GET /` | the page; `?annotator=ann` opens hers, `?token=...` becomes a cookie |
| `GET /api/status?annotator=ann` | what is asked, and the state of each of her items |
| `GET /api/item?annotator=ann&number=3` | one of her items, with her answer or draft |
| `POST /api/event` | an answer, an undo or a draft; the reply comes when it is on disk |

On loopback only requests to a loopback name are answered, so that no other site's name can be pointed here; elsewhere
a token is needed. A page of another origin can neither read nor post.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import ipaddress
import json
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from jitune.construct.annotate.desk import Desk
from jitune.construct.annotate.page import Page
from jitune.types import UserError

MAX_BODY = 16 * 2**20  # bytes of one event
COOKIE = "jitune-annotate"
ANYWHERE = ("0.0.0.0", "::", "")  # hosts that stand for all addresses of this machine
PLAIN_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether a name or address stays on this machine."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def host_is_ours(header: str, host: str) -> bool:
    """Whether a Host header names this server: a loopback name, or where `host` is none also an address, the name it
    was started with or this machine's. Another site's name can be pointed here, an address cannot.
    """
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if is_loopback(name):
        return True
    if is_loopback(host):
        return False
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return name in {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}


def allowed(given: str, tokens: Mapping[str, str]) -> str | None:
    """Whom a token lets in: a name, "" for anybody, or None for nobody. Takes as long for wrong ones as for right ones.

    tokens: {name or "": token}.
    """
    found = None
    for name, token in tokens.items():
        found = name if hmac.compare_digest(given.encode(errors="replace"), token.encode()) else found
    return found


def make_app(desk: Desk, page: Page, *, host: str = "127.0.0.1", tokens: Mapping[str, str] | None = None) -> Any:
    """The `aiohttp.web.Application`.

    tokens: {annotator: token} or {"": token of everybody}; needed to get in, where there are any.
    """
    from aiohttp import web

    tokens = dict(tokens or {})

    async def index(request: Any) -> Any:
        if "token" in request.query:  # taken out of the address, where it could be read over a shoulder
            rest = {"annotator": request.query["annotator"]} if "annotator" in request.query else {}
            reply = web.Response(status=303, headers={"Location": "/" + ("?" + urlencode(rest) if rest else "")})
            reply.set_cookie(COOKIE, request.query["token"], httponly=True, samesite="Strict", max_age=90 * 86400)
            return reply
        return web.Response(text=page.html, content_type="text/html", charset="utf-8",
                            headers={"Content-Security-Policy": page.policy})

    async def status(request: Any) -> Any:
        return _json(web, desk.status(_let(request, request.query.get("annotator", ""), tokens)))

    async def item(request: Any) -> Any:
        name, number = request.query.get("annotator", ""), request.query.get("number", "")
        number = int(number) if number.isascii() and number.isdecimal() and len(number) < 10 else -1
        return _json(web, desk.item(_let(request, name, tokens), number))

    async def event(request: Any) -> Any:
        if request.content_type != "application/json":
            raise UserError("an event is sent as application/json")
        try:
            body = json.loads(await request.text())
        except (ValueError, RecursionError, LookupError):
            raise UserError("what was sent is not JSON") from None
        _let(request, body.get("annotator") if isinstance(body, dict) else None, tokens)
        try:
            return _json(web, desk.take(body))
        except OSError as error:
            return _unsaved(web, error, told)

    told: set[str] = set()  # one line for each kind of trouble, not one an answer
    guard = web.middleware(_guard(web, host, tokens))
    app = web.Application(client_max_size=MAX_BODY, middlewares=[guard])
    app.add_routes([web.get("/", index), web.get("/api/status", status), web.get("/api/item", item),
                    web.post("/api/event", event)])
    return app


def _guard(web: Any, host: str, tokens: dict[str, str]) -> Callable[[Any, Callable], Awaitable[Any]]:
    """What stands before every request; errors become JSON with one line."""

    async def guard(request: Any, handler: Callable) -> Any:
        try:
            refused = _refused(request, host, tokens)
            reply = _error(web, 403, refused) if refused else await handler(request)
        except UserError as error:
            reply = _error(web, 400, str(error))
        except PermissionError as error:
            reply = _error(web, 403, str(error))
        except web.HTTPRequestEntityTooLarge:
            reply = _error(web, 413, f"too long to be saved: more than {MAX_BODY // 2**20} MB")
        except web.HTTPException as error:
            reply = _error(web, error.status, error.reason)
        reply.headers.update({k: v for k, v in PLAIN_HEADERS.items() if k not in reply.headers})
        return reply

    return guard


def _unsaved(web: Any, error: OSError, told: set[str]) -> Any:
    """The reply to an answer that the disk did not take."""
    what = error.strerror or str(error)
    if what not in told:
        print(f"jitune: an answer could not be saved, its browser keeps it: {what}", file=sys.stderr, flush=True)
    told.add(what)
    return _error(web, 507 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 500, f"not saved: {what}")


def _refused(request: Any, host: str, tokens: dict[str, str]) -> str:
    """Why a request is not answered, or ""."""
    if not host_is_ours(request.headers.get("Host", ""), host):
        return "this server does not go by that name; use the address that it printed"
    if request.method not in ("GET", "HEAD") and urlsplit(request.headers.get("Origin", "")).netloc != request.host:
        return "only the server's own page can send answers"
    if tokens and _who(request, tokens) is None:
        return "open the address with the token that the server printed"
    return ""


def _who(request: Any, tokens: Mapping[str, str]) -> str | None:
    here = request.query.get("token") if request.path == "/" else None
    return allowed(here or request.cookies.get(COOKIE, ""), tokens)


def _let(request: Any, name: Any, tokens: Mapping[str, str]) -> Any:
    """The name, if the token is this annotator's or everybody's."""
    who = _who(request, tokens)
    if who and name != who:
        raise PermissionError(f"this browser is let in as {who}")
    return name


def _json(web: Any, what: Any, status: int = 200) -> Any:
    return web.Response(text=json.dumps(what, ensure_ascii=True), status=status, content_type="application/json")


def _error(web: Any, status: int, text: str) -> Any:
    return _json(web, {"saved": False, "error": text.encode(errors="backslashreplace").decode()}, status)


def serve(desk: Desk, page: Page, *, host: str, port: int, tokens: Mapping[str, str] | None = None,
          opened: Callable[[list[str]], None] = lambda urls: None) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Args:
      port: 0 picks one that is free.
      opened: called with the addresses, one a token, when the server answers.

    Raises:
      UserError: the port is in use, or the host is none of this machine.
    """
    asyncio.run(_serve(make_app(desk, page, host=host, tokens=tokens), host, port, dict(tokens or {}), opened))


async def _serve(app: Any, host: str, port: int, tokens: dict[str, str], opened: Callable) -> None:
    from aiohttp import web

    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, reuse_address=sys.platform != "win32")
        await site.start()
        opened(addresses(host, runner.addresses[0][1], tokens))
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows, where KeyboardInterrupt ends it
                loop.add_signal_handler(name, stop.set)
        await stop.wait()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"--port {port}: is in use; another server may be running, or give --port 0 for a free "
                            "one") from None
        raise UserError(f"--host {host} --port {port}: cannot be served: {error.strerror or error}") from None
    finally:
        await runner.cleanup()


def addresses(host: str, port: int, tokens: Mapping[str, str]) -> list[str]:
    """Where the page can be opened; a token's name is the annotator that it lets in."""
    shown = from_elsewhere(host) if host in ANYWHERE else host
    base = f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"
    pairs = [{"annotator": name} | {"token": token} if name else {"token": token} for name, token in tokens.items()]
    return [f"{base}?{urlencode(pair)}" for pair in pairs] or [base]


def from_elsewhere(host: str) -> str:
    """Where others reach this machine: its address on the way to other networks, else its name.

    Sends nothing: a datagram socket that is connected has only looked up its route.
    """
    kinds = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))  # addresses of documentation
    for family, far in kinds if host != "::" else reversed(kinds):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as route:
            route.connect((far, 9))
            found = route.getsockname()[0]
            if not ipaddress.ip_address(found).is_loopback:
                return found
        if host == "0.0.0.0":
            break
    return socket.gethostname()
