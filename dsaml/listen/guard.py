"""What keeps the servers of annotate and of a study safe: limits on bodies, time and rates, and the headers of every reply."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONNECTIONS = 2000  # at once
SLOWEST = 10.0  # s in which a body has to be there
POLICY = (
    "default-src 'none'; img-src data:; media-src 'self' blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""Nothing of another host is loaded, no page of another host shows ours, and no address with a link in it is passed on."""


class Headers:
    """Adds to every reply those of ``HEADERS`` that it lacks, with a policy for scripts and styles."""

    def __init__(self, app: ASGIApp, policy: str):
        self.app = app
        self.headers = HEADERS | {"content-security-policy": f"{POLICY}; {policy}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, with_headers)


class Rates:
    """Token buckets: ``burst`` at once, then ``per_second``, for each key; the keys that were used longest ago are forgotten."""

    KEYS = 10_000

    def __init__(self, per_second: float, burst: float):
        self.per_second, self.burst = per_second, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, moment

    def take(self, key: str) -> None:
        """Take one token; HTTPException 429 if there is none."""
        now = time.monotonic()
        left, since = self._left.pop(key, (self.burst, now))
        left = min(self.burst, left + (now - since) * self.per_second)
        self._left[key] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > self.KEYS:
            self._left.popitem(last=False)
        if left < 1:
            raise HTTPException(429, "too many requests; wait a moment", {"retry-after": "1"})


async def body_of(request: Request, what: str, largest: int) -> bytes:
    """The body of a request, whole; ``what`` it is called, and how many bytes it may have.

    HTTPException 413 or 408 if it is too large or too slow, 400 if it breaks off.
    """
    announced = request.headers.get("content-length", "0")
    if not announced.isdigit() or int(announced) > largest:
        raise HTTPException(413, f"{what} has at most {largest} bytes")
    body = b""
    try:
        async with asyncio.timeout(SLOWEST):
            async for part in request.stream():
                body += part
                if len(body) > largest:
                    raise HTTPException(413, f"{what} has at most {largest} bytes")
    except TimeoutError as error:
        raise HTTPException(408, f"{what} did not come in time") from error
    except ClientDisconnect as error:
        raise HTTPException(400, f"{what} broke off") from error
    return body


def server_of(app: ASGIApp) -> uvicorn.Server:
    """A server that says nothing of itself and logs nothing: addresses hold links, and who asked is nobody's business."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            loop="asyncio",
            http="h11",
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=3,
        )
    )
