"""Draw a curve of one's own song: the book's drawing page, served to this machine alone until a curve was saved."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from threading import Thread
from typing import Any

import soundfile as sf
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from dsaml.config import STEP_SECONDS
from dsaml.errors import DsamlError, printable
from dsaml.listen import front
from dsaml.listen.curves import SHORTEST, read_curve, write_curve
from dsaml.listen.export import check_playable
from dsaml.listen.guard import Headers, body_of, server_of
from dsaml.listen.light import LightModel
from dsaml.listen.page import for_page
from dsaml.listen.personal import load

HOST = "127.0.0.1"
LARGEST_BODY = 1 << 20  # bytes; a curve of a quarter of an hour has 50 kB
KINDS = {"MP3": "audio/mpeg", "WAV": "audio/wav", "WAVEX": "audio/wav", "FLAC": "audio/flac", "OGG": "audio/ogg"}
"""What browsers play, by libsndfile's name."""
POLICY = "script-src 'unsafe-inline'; style-src 'unsafe-inline'"


@dataclass
class Desk:
    """What is drawn, and where the curve goes."""

    song: Path
    out: Path
    page: bytes
    kind: str  # of the audio, as a browser calls it
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    points: int | None = None  # of the curve that was written

    def keep(self, body: bytes) -> int:
        """Write a curve that was sent, and give its points; a DsamlError if it is none, or the second one."""
        with tempfile.TemporaryDirectory() as folder:
            sent = Path(folder) / "curve.csv"
            sent.write_bytes(body)
            curve = read_curve(sent)
        if self.points is not None:  # from another tab
            raise DsamlError("a curve was saved already, and the command has ended; start it again for another one")
        write_curve(self.out, curve)
        self.points = len(curve)
        return self.points


def application(desk: Desk, port: int, saved: Callable[[], None]) -> Starlette:
    """The page, its song and the place for its curve; to anything else, and to strangers, "not found".

    ``saved`` is called once a curve was written.
    """

    async def curve(request: Request) -> Response:
        body = await body_of(request, "a curve", LARGEST_BODY)
        try:
            points = desk.keep(body)  # in the server's one thread, so one curve after the other
        except DsamlError as error:
            raise HTTPException(400, printable(str(error))) from error
        said = printable(f"Saved {points} points in {desk.out}; this page can be closed.")
        return PlainTextResponse(said, background=BackgroundTask(saved))

    async def reply(request: Request) -> Response:
        headers, (token, _, name) = request.headers, request.path_params["path"].partition("/")
        hosts = (f"{HOST}:{port}", f"localhost:{port}")  # another name was made to lead here
        known = headers.get("host") in hosts and headers.get("origin") in (None, *(f"http://{host}" for host in hosts))
        if known and secrets.compare_digest(token.encode(), desk.token.encode()):
            asked = (request.method, name)
            if asked == ("GET", ""):
                return HTMLResponse(desk.page)
            if asked == ("GET", "song"):
                return FileResponse(desk.song, media_type=desk.kind)
            if asked == ("POST", "curve"):
                return await curve(request)
        raise HTTPException(404, "not found")

    routes = [Route("/{path:path}", reply, methods=["GET", "POST"])]
    return Starlette(routes=routes, middleware=[Middleware(Headers, policy=POLICY)])


def drawing_page(song: Path, model: LightModel | None) -> bytes:
    """The book's drawing page for one song of one's own; a DsamlError if it is unusable, too short or too long."""
    seconds = check_playable(song, "annotate")
    steps = int(seconds / STEP_SECONDS)
    if steps < SHORTEST:
        raise DsamlError(f"{song}: lasts {seconds:.1f} s; a curve needs {SHORTEST * STEP_SECONDS:.0f} s or more")
    data: dict[str, Any] = {
        "seconds": steps * STEP_SECONDS,
        "step": STEP_SECONDS,
        "start": 0.0,
        "songs": [{"id": "0", "title": song.name, "audio": "song", "listeners": {}}],
        "ranges": True,
        "save": "curve",
    }
    if model:
        data["light"] = for_page(model, {"0": song}, steps, start=0.0)
    body = f'<main><h1>{escape(song.name)}</h1><div id="dsaml-draw" class="dp"></div></main>'
    scripts = ("light.js", "parts.js", "draw.js")
    return front.inline(f"Draw: {song.name}", body, data, scripts).encode("utf-8", "backslashreplace")


def annotate(song: Path, out: Path, checkpoint: Path, opened: Callable[[str], object]) -> int:
    """Serve the drawing page of a song until a curve was saved.

    Parameters
    ----------
    song, out : Path
        What is heard, and the CSV that is written.
    checkpoint : Path
        Its curve is shown beside one's own after drawing, if it is a light model; a file that is not there shows nothing.
    opened : callable
        Gets the page's address once it can be opened.

    Returns
    -------
    int
        Points of the curve.

    Raises
    ------
    DsamlError
        If the song is unusable, too short or too long, of a kind that browsers do not play, or the model is none.
    """
    model = load(checkpoint) if checkpoint.exists() else None
    page = drawing_page(song, model if isinstance(model, LightModel) else None)
    with sf.SoundFile(os.fsencode(song)) as stream:
        if (form := stream.format) not in KINDS:
            raise DsamlError(f"{song}: browsers do not play {form}; convert it to WAV, FLAC or MP3")
    desk = Desk(song, out, page, KINDS[form])
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
        server = server_of(application(desk, port, lambda: setattr(server, "should_exit", True)))
        serving = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        serving.start()  # first: a browser in a terminal keeps whoever opened it waiting
        try:
            opened(f"http://{HOST}:{port}/{desk.token}/")
            while serving.is_alive():
                serving.join(0.2)
        finally:
            server.should_exit = True
            serving.join()
    return desk.points or 0
