"""The server of a study: participants' pages, their answers, and the experimenter's page."""

from __future__ import annotations

import re
import secrets
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from dsaml.config import DIMENSIONS
from dsaml.errors import DsamlError
from dsaml.experiment.results import rounded
from dsaml.listen import front
from dsaml.listen.guard import Headers, Rates, body_of, server_of
from dsaml.study import design as designs
from dsaml.study.classroom import state_of
from dsaml.study.design import AUDIO, CLASS, LETTERS, Design
from dsaml.study.export import as_curve
from dsaml.study.steps import DRAW, FORM, RANK, checked, parse, steps_of
from dsaml.study.store import Conflict, Store

HERE = Path(__file__).parent
FILES = {name: front.FOLDER / name for name in ("light.js", "parts.js", "draw.js", "player.css")}
FILES |= {path.name: path for path in (HERE / "static").iterdir()}
"""What is served to everybody, by name: the book's own drawing page, and the little that a study adds."""
POLICY = "script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'"
SEAT = re.compile(r"[\w-]{16,64}")
LARGEST = 65_536  # bytes of an answer; a drawn curve has about 2,000


class Study:
    """The replies. Everything that a participant sees follows from the design and the answers that are there."""

    def __init__(self, design: Design, store: Store):
        self.design, self.store, self.steps = design, store, steps_of(design)
        loader = jinja2.FileSystemLoader(HERE / "pages")
        self.pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
        self.answering, self.guessing = Rates(10, 100), Rates(1, 30)

    # --- who asks ---

    def _participant(self, request: Request) -> int:
        who = self.store.participant(request.path_params["link"])
        if who is None:
            self._foreign(request)
        self.answering.take(f"participant {who}")
        return who

    def _token(self, request: Request, name: str) -> None:
        if not secrets.compare_digest(request.path_params["token"].encode(), self.store.tokens[name].encode()):
            self._foreign(request)
        self.answering.take(name)

    def _foreign(self, request: Request) -> None:
        self.guessing.take(request.client.host if request.client else "")
        raise HTTPException(404, "this link leads nowhere; ask for yours again")

    def _page(self, name: str, **values: Any) -> HTMLResponse:
        title = "Music and emotion: a listening study" if self.design.kind != CLASS else "Music and emotion"
        return HTMLResponse(self.pages.get_template(name).render(title=title, origin=self.design.origin, **values))

    def _data(self, **data: Any) -> Response:
        about = {"seconds": self.design.seconds, "step": self.design.step, "start": self.design.start}
        return Response(front.script_data(about | data), media_type="text/javascript")

    # --- participants ---

    def home(self, request: Request) -> Response:
        """Nothing but a hint."""
        return self._page("said.html", said="A listening study. To take part, open the link that you were given.")

    def participant(self, request: Request) -> Response:
        """The page of the participant's step; the same after a reload, in another tab, or when the server is back."""
        who, link = self._participant(request), request.path_params["link"]
        done = len(self.store.answers(who))
        if done == len(self.steps):
            return self._page("predicted.html", link=link, step=done) if self.design.kind == CLASS else self._page("done.html")
        kind = self.steps[done]
        values = {"step": done, "steps": len(self.steps), "kind": kind, "link": link, "form": FORM}
        values |= {"dimensions": DIMENSIONS, "letters": LETTERS[: len(self.design.methods)], "design": self.design}
        return self._page(f"{kind}.html", **values)

    def data(self, request: Request) -> Response:
        """What the scripts of a step's page read: songs and curves, without names."""
        who, link, step = self._participant(request), request.path_params["link"], request.path_params["step"]
        answers = self.store.answers(who)
        if step != len(answers):
            raise HTTPException(404, "this is not your step")
        songs = self.design.songs

        def song(k: int, **more: Any) -> dict[str, Any]:
            return {"id": str(k), "title": f"song {k + 1}", "audio": f"/p/{link}/audio/{k}.mp3", **more}

        if step == len(self.steps):  # a class: the second song, predicted from the first
            drawn = answers[self.steps.index(DRAW)]["curve"]
            terms = {str(k): {"base": rounded(s.terms.base, 5), "basis": rounded(s.terms.basis, 5)} for k, s in enumerate(songs)}
            shown = [song(1, average=rounded(songs[1].truth, 3)), song(0, average=rounded(songs[0].truth, 3), drawn=drawn)]
            return self._data(songs=shown, peek=True, light=self.design.light | {"origin": self.design.origin, "songs": terms})
        if self.steps[step] == DRAW:
            start = {} if self.design.kind == CLASS else {"initial": rounded(self.design.initial, 3)}
            return self._data(songs=[song(0, **start)], task=True)
        if self.steps[step] == RANK:
            position, drawn = step - self.steps.index(RANK), as_curve(answers[self.steps.index(DRAW)])
            curves = [rounded(curve, 3) for curve in self.design.shown(who, position, drawn)]
            return self._data(songs=[song(self.design.orders[who].songs[position], curves=curves)])
        raise HTTPException(404, "this step has no song")

    def audio(self, request: Request) -> Response:
        """A song's excerpt, for a participant or the experimenter."""
        if "link" in request.path_params:
            self._participant(request)
        else:
            self._token(request, "experimenter")
        if request.path_params["name"] not in {song.audio for song in self.design.songs}:
            raise HTTPException(404, "there is no such song")
        return FileResponse(self.design.folder / AUDIO / request.path_params["name"], media_type="audio/mpeg")

    async def answer(self, request: Request) -> Response:
        """Keep an answer to the participant's step, once however often it is sent."""
        who, step = await run_in_threadpool(self._participant, request), request.path_params["step"]
        answer = await _json_of(request)
        if step >= len(self.steps):
            raise HTTPException(409, "the study ends before this step")
        try:
            content = checked(self.steps[step], answer, self.design)
            new = await run_in_threadpool(self.store.answer, who, step, content)
        except Conflict as error:
            raise HTTPException(409, str(error)) from error
        except ValueError as error:
            raise HTTPException(422, str(error).splitlines()[0]) from error
        return JSONResponse({"kept": True, "new": new})

    # --- a class joins ---

    def join(self, request: Request) -> Response:
        """The page behind the address on the wall."""
        self._token(request, "join")
        return self._page("join.html")

    async def seat(self, request: Request) -> Response:
        """A participant's link for a browser, the same one however often it asks."""
        self._token(request, "join")
        asked = await _json_of(request)
        seat = asked.get("seat") if isinstance(asked, dict) and set(asked) == {"seat"} else None
        if self.design.kind != CLASS or not isinstance(seat, str) or not SEAT.fullmatch(seat):
            raise HTTPException(422, "ask for a seat in a class, with a name of 16 to 64 letters and digits")
        link = await run_in_threadpool(self.store.take_seat, seat)
        if link is None:
            raise HTTPException(409, "all seats are taken; ask your lecturer")
        return JSONResponse({"link": f"/p/{link}"})

    # --- the experimenter ---

    def experimenter(self, request: Request) -> Response:
        """Who is where; in a class also the curves, as they arrive."""
        self._token(request, "experimenter")
        join = f"/join/{self.store.tokens['join']}" if self.design.kind == CLASS else None
        return self._page("experimenter.html", join=join, base=f"/experimenter/{request.path_params['token']}")

    def state(self, request: Request) -> Response:
        """What the experimenter's page shows; nothing (204) where it has that already."""
        self._token(request, "experimenter")
        count = self.store.count()
        if request.query_params.get("have") == str(count):
            return Response(status_code=204)
        return JSONResponse(state_of(self.design, self.store) | {"count": count})

    def class_data(self, request: Request) -> Response:
        """The songs that the experimenter can play."""
        self._token(request, "experimenter")
        base = f"/experimenter/{request.path_params['token']}"
        titles = ("what you drew", "what the model predicts for each of you") if self.design.kind == CLASS else ()
        songs = [
            {"id": str(k), "title": f"song {k + 1}: {title}", "audio": f"{base}/audio/{k}.mp3"} for k, title in enumerate(titles)
        ]
        return self._data(songs=songs)

    # --- everybody ---

    def file(self, request: Request) -> Response:
        """A script or a style; only those of ``FILES``."""
        path = FILES.get(request.path_params["name"])
        if path is None:
            raise HTTPException(404, "there is no such file")
        return FileResponse(path, headers={"cache-control": "no-cache"})

    def failed(self, request: Request, error: Exception) -> Response:
        """One sentence: as a page where a page was asked for."""
        assert isinstance(error, HTTPException)
        if "text/html" in request.headers.get("accept", ""):
            page = self._page("said.html", said=f"{error.detail[:1].upper()}{error.detail[1:]}.")
            page.status_code = error.status_code
            page.headers.update(error.headers or {})
            return page
        return PlainTextResponse(error.detail, error.status_code, error.headers)


async def _json_of(request: Request) -> Any:
    """What a body of JSON says."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "send JSON")
    body = await body_of(request, "an answer", LARGEST)
    try:
        return parse(body)
    except ValueError as error:
        raise HTTPException(422, str(error).splitlines()[0]) from error


def application(design: Design, store: Store) -> Starlette:
    """The study as an ASGI application."""
    study = Study(design, store)
    one, many = "/p/{link}", "/experimenter/{token}"
    routes = [
        Route("/", study.home),
        Route("/static/{name}", study.file),
        Route(one, study.participant),
        Route(one + "/data/{step:int}.js", study.data),
        Route(one + "/audio/{name}", study.audio),
        Route(one + "/answers/{step:int}", study.answer, methods=["POST"]),
        Route("/join/{token}", study.join),
        Route("/join/{token}/seat", study.seat, methods=["POST"]),
        Route(many, study.experimenter),
        Route(many + "/state.json", study.state),
        Route(many + "/data.js", study.class_data),
        Route(many + "/audio/{name}", study.audio),
    ]
    handlers: Any = {HTTPException: study.failed}
    return Starlette(routes=routes, middleware=[Middleware(Headers, policy=POLICY)], exception_handlers=handlers)


def in_network(host: str) -> str:
    """What others call this machine, where it is asked from everywhere; nothing is sent to find out."""
    if host != "0.0.0.0":
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # an address of nobody's (RFC 5737): only the way to it is looked up
            return str(asking.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def serve(folder: Path, host: str = "127.0.0.1", port: int = 8000, announce: Any = lambda *addresses: None) -> None:
    """Serve the study in a folder until it is stopped.

    Parameters
    ----------
    host, port
        127.0.0.1 is this machine alone; 0.0.0.0 everybody in the network, unencrypted. Port 0: any that is free.
    announce : callable
        Gets the server's own address, the experimenter's, and in a class the one to join, before the first request.

    Raises
    ------
    DsamlError
        If the folder holds no study, or the port cannot be used.
    """
    design = designs.read(folder)
    if lost := [song.audio for song in design.songs if not (folder / AUDIO / song.audio).is_file()]:
        raise DsamlError(f"{folder / AUDIO / lost[0]}: is missing; put it back, or make a new study")
    with closing(Store(folder / designs.ANSWERS, len(design.orders))) as store:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            listening = socket.socket(found[0], found[1])
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(found[4])
        except OSError as error:
            raise DsamlError(f"--host {host} --port {port}: cannot be used ({error.strerror}); choose another") from error
        name = in_network(host)
        own = f"http://{f'[{name}]' if ':' in name else name}:{listening.getsockname()[1]}"
        addresses = [own, f"{own}/experimenter/{store.tokens['experimenter']}"]
        announce(*addresses, *([f"{own}/join/{store.tokens['join']}"] if design.kind == CLASS else []))
        server_of(application(design, store)).run(sockets=[listening])
