"""Draw a curve of one's own song: the book's drawing page, served to this machine alone until a curve was saved."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import soundfile as sf

from dsaml.config import STEP_SECONDS
from dsaml.errors import DsamlError
from dsaml.listen import front
from dsaml.listen.curves import SHORTEST, read_curve, write_curve
from dsaml.listen.export import check_playable
from dsaml.listen.light import LightModel
from dsaml.listen.page import for_page
from dsaml.listen.personal import load

HOST = "127.0.0.1"
LARGEST_BODY = 1 << 20  # bytes; a curve of a quarter of an hour has 50 kB
PATIENCE = 30.0  # s for a request to arrive
KINDS = {"MP3": "audio/mpeg", "WAV": "audio/wav", "WAVEX": "audio/wav", "FLAC": "audio/flac", "OGG": "audio/ogg"}
"""What browsers play, by libsndfile's name."""
PIECE = 1 << 16  # bytes of audio sent at once
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; media-src 'self' blob:; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass
class Desk:
    """What is drawn, and where the curve goes."""

    song: Path
    out: Path
    page: bytes
    kind: str  # of the audio, as a browser calls it
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    saved: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)  # one curve at a time

    def keep(self, body: bytes) -> int:
        """Write a curve that was sent, unless it is none; gives its points.

        Raises
        ------
        DsamlError
            See :func:`dsaml.listen.curves.read_curve`; or if it is too short, off the scale, or cannot be written.
        """
        with tempfile.TemporaryDirectory() as folder:
            sent = Path(folder) / "curve.csv"
            sent.write_bytes(body)
            curve = read_curve(sent)
        if len(curve) < SHORTEST or curve[["arousal", "valence"]].abs().to_numpy().max() > 1:
            raise DsamlError(f"the curve needs {SHORTEST} points or more, each in [-1, 1]")
        with self.lock:
            write_curve(self.out, curve)
        return len(curve)


class Handler(BaseHTTPRequestHandler):
    """Answers to the page's own requests; to anything else "not found"."""

    protocol_version, server_version, sys_version = "HTTP/1.1", "dsaml", ""
    timeout = PATIENCE
    desk: Desk

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is logged."""

    def _asked(self) -> str | None:
        """What of this page is wanted; None for strangers, and for pages of other hosts that were led here."""
        port = self.server.server_address[1]
        known = self.headers.get("Host") in (f"{HOST}:{port}", f"localhost:{port}")
        same = self.headers.get("Origin") in (None, f"http://{HOST}:{port}", f"http://localhost:{port}")
        token, _, name = self.path.removeprefix("/").partition("/")
        return name if known and same and secrets.compare_digest(token.encode(), self.desk.token.encode()) else None

    def _send(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8", **more: str) -> None:
        self.send_response(status)
        for name, value in (_HEADERS | {"Content-Type": kind, "Content-Length": str(len(body))} | more).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        self.close_connection = True  # what else was sent is not read
        self._send(status, sentence.encode("utf-8", "backslashreplace"), Connection="close")

    def do_GET(self) -> None:
        """The page, and the song or a part of it."""
        asked = self._asked()
        if asked == "":
            self._send(HTTPStatus.OK, self.desk.page, "text/html; charset=utf-8")
        elif asked == "song":
            self._send_song()
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "not found")

    def do_POST(self) -> None:
        """The curve."""
        if self._asked() != "curve":
            return self._refuse(HTTPStatus.NOT_FOUND, "not found")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,18}", length):
            return self._refuse(HTTPStatus.LENGTH_REQUIRED, "a curve has to say how long it is")
        if int(length) > LARGEST_BODY:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a curve has at most {LARGEST_BODY} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return self._refuse(HTTPStatus.BAD_REQUEST, "the curve broke off")
        try:
            points = self.desk.keep(body)
        except DsamlError as error:
            return self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        self._send(HTTPStatus.OK, f"Saved {points} points in {self.desk.out}; this page can be closed.".encode())
        self.desk.saved.set()

    def _send_song(self) -> None:
        """The whole file, or the range that was asked for: that is how browsers seek."""
        with self.desk.song.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            first, last, status = 0, size - 1, HTTPStatus.OK
            if found := _RANGE.fullmatch(self.headers.get("Range", "")):
                begin, end = found.groups()
                status = HTTPStatus.PARTIAL_CONTENT
                if begin:
                    first, last = int(begin[:18]), min(last, int(end[:18]) if end else last)
                else:
                    first = max(0, size - int(end[:18] or 0))
                if first > last:
                    more = {"Content-Range": f"bytes */{size}"}
                    return self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", **more)
            self.send_response(status)
            headers = _HEADERS | {"Content-Type": self.desk.kind, "Content-Length": str(last - first + 1)}
            headers |= {"Accept-Ranges": "bytes"}
            if status == HTTPStatus.PARTIAL_CONTENT:
                headers |= {"Content-Range": f"bytes {first}-{last}/{size}"}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            stream.seek(first)
            left = last - first + 1
            while left and (part := stream.read(min(PIECE, left))):
                self.wfile.write(part)
                left -= len(part)


class Server(ThreadingHTTPServer):
    """Browsers hang up in the middle of a song whenever somebody seeks; that is no error."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing is said."""


def drawing_page(song: Path, model: LightModel | None) -> bytes:
    """The book's drawing page for one song of one's own.

    Raises
    ------
    DsamlError
        If the song is unusable, shorter than 5 s or longer than a quarter of an hour.
    """
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
    body = f'<h1>{escape(song.name)}</h1><main id="dsaml-draw" class="dp"></main>'
    scripts = ("light.js", "parts.js", "draw.js")
    return front.inline(f"Draw: {song.name}", body, data, scripts).encode("utf-8", "backslashreplace")


def annotate(song: Path, out: Path, checkpoint: Path, opened: Callable[[str], object]) -> int:
    """Serve the drawing page of a song until a curve was saved.

    Parameters
    ----------
    song, out : Path
        What is heard, and the CSV that is written, see :func:`dsaml.listen.curves.read_curve`.
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
    server = Server((HOST, 0), type("OwnHandler", (Handler,), {"desk": desk}))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        opened(f"http://{HOST}:{server.server_address[1]}/{desk.token}/")
        while not desk.saved.wait(0.5):  # so that Ctrl-C comes through
            pass
    finally:
        server.shutdown()
        server.server_close()
    return len(read_curve(out))
