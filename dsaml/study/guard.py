"""What keeps a server of a study safe: limits on bodies, time and rates, and the headers of every reply."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST = 65_536  # bytes of a body; a drawn curve has about 2,000
SLOWEST = 10.0  # s in which a body has to be there
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; "
    "img-src data:; media-src 'self' blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""Nothing of another host is loaded, no page of another host shows ours, and no address with a link in it is passed on."""


class Headers:
    """Adds ``HEADERS`` to every reply, and ``no-store`` where a reply says nothing of caching."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                added = HEADERS | ({} if b"cache-control" in there else {"cache-control": "no-store"})
                message["headers"] = [*message["headers"], *((n.encode(), v.encode()) for n, v in added.items())]
            await send(message)

        await self.app(scope, receive, with_headers)


class Rates:
    """Token buckets: ``burst`` at once, then ``per_second``, for each key; the keys that were used longest ago are forgotten."""

    KEYS = 10_000

    def __init__(self, per_second: float, burst: float):
        self.per_second, self.burst = per_second, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, moment

    def take(self, key: str) -> None:
        """Take one token.

        Raises
        ------
        HTTPException
            429, if there is none.
        """
        now = time.monotonic()
        left, since = self._left.pop(key, (self.burst, now))
        left = min(self.burst, left + (now - since) * self.per_second)
        self._left[key] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > self.KEYS:
            self._left.popitem(last=False)
        if left < 1:
            raise HTTPException(429, "too many requests; wait a moment", {"retry-after": "1"})


async def body_of(request: Request) -> bytes:
    """The JSON body of a request, whole.

    Raises
    ------
    HTTPException
        415, 413 or 408, if it is something else, too large or too slow.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "send JSON")
    announced = request.headers.get("content-length", "0")
    if not announced.isdigit() or int(announced) > LARGEST:
        raise HTTPException(413, f"an answer has at most {LARGEST} bytes")
    body = b""
    try:
        async with asyncio.timeout(SLOWEST):
            async for part in request.stream():
                body += part
                if len(body) > LARGEST:
                    raise HTTPException(413, f"an answer has at most {LARGEST} bytes")
    except TimeoutError as error:
        raise HTTPException(408, "the answer did not come in time") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the answer broke off") from error
    return body
