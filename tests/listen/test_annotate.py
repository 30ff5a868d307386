"""annotate: the page for one's own song is for this machine alone, takes one curve, and loses none."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import soundfile as sf
from own_music import light_model, write_curve, write_song
from typer.testing import CliRunner

from dsaml.cli.main import app
from dsaml.errors import DsamlError
from dsaml.listen import annotate as module
from dsaml.listen import guard
from dsaml.listen.annotate import LARGEST_BODY, annotate
from dsaml.listen.curves import read_curve


class Session:
    """annotate, running."""

    def __init__(self, folder: Path) -> None:
        self.song, self.out = folder / "song.wav", folder / "mine.csv"
        self.points: list[int] = []
        opened = threading.Event()

        def address(text: str) -> None:
            self.address = urlsplit(text)
            opened.set()

        def run() -> None:
            self.points.append(annotate(self.song, self.out, folder / "base.safetensors", address))

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert opened.wait(60)

    def ask(self, method: str, name: str, body: bytes | None = None, path: str | None = None, **headers: str) -> Any:
        """Status, headers, body."""
        wire = http.client.HTTPConnection(self.address.hostname or "", self.address.port or 0, timeout=20)
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        wire.request(method, path or self.address.path + name, body, sent)
        answer = wire.getresponse()
        return answer.status, answer.headers, answer.read()

    def finish(self, curve: bytes) -> None:
        """Save a curve and wait for the command to end."""
        assert self.ask("POST", "curve", curve)[0] == 200
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def curve(tmp_path: Path) -> bytes:
    return write_curve(tmp_path / "drawn.csv", 7).read_bytes()


@pytest.fixture
def session(tmp_path: Path, curve: bytes) -> Iterator[Session]:
    write_song(tmp_path / "song.wav", 8)
    light_model().save(tmp_path / "base.safetensors")
    running = Session(tmp_path)
    yield running
    if running.thread.is_alive():
        running.finish(curve)


def test_the_page_holds_the_song_and_what_the_model_thinks_of_it(session: Session) -> None:
    status, headers, body = session.ask("GET", "")
    assert status == 200 and session.address.hostname == "127.0.0.1" and len(session.address.path) > 30
    assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"
    page = body.decode()
    data = json.loads(re.search(r"window\.dsamlPlayer = (.*);</script>", page)[1])
    assert data["seconds"] == 8.0 and data["start"] == 0.0 and data["songs"][0]["title"] == "song.wav"
    assert "trained on synthetic songs and listeners" in data["light"]["origin"]
    assert len(data["light"]["songs"]["0"]["base"]) == 16
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)


def test_the_song_is_sent_in_parts(session: Session) -> None:
    whole = session.song.read_bytes()
    status, headers, body = session.ask("GET", "song")
    assert status == 200 and body == whole and headers["Accept-Ranges"] == "bytes" and headers["Content-Type"] == "audio/wav"
    for asked, part in (("0-99", whole[:100]), ("100-", whole[100:]), ("-50", whole[-50:]), (f"10-{len(whole) * 9}", whole[10:])):
        status, headers, body = session.ask("GET", "song", Range=f"bytes={asked}")
        assert status == 206 and body == part and headers["Content-Range"].endswith(f"/{len(whole)}")
    assert session.ask("GET", "song", Range=f"bytes={len(whole)}-")[0] == 416
    assert session.ask("GET", "song", Range="bytes=" + "9" * 400 + "-")[0] == 416
    assert session.ask("GET", "song", Range="lines=1-2")[0] == 400


def test_a_curve_is_written_and_the_command_ends(session: Session, curve: bytes) -> None:
    session.finish(curve)
    assert session.points == [14] and len(read_curve(session.out)) == 14
    with pytest.raises(ConnectionError):
        session.ask("GET", "")


def test_strangers_get_nothing(session: Session, curve: bytes) -> None:
    token, port = session.address.path, session.address.port
    for path in ("/", "/song", "/x/song", token[:-2] + "/", token + "../song.wav", token + "%2e%2e/mine.csv", "//etc/passwd"):
        assert session.ask("GET", "", path=path)[0] == 404, path
        assert session.ask("POST", "", path=path)[0] == 404, path
    assert session.ask("GET", "", Host=f"attacker.example:{port}")[0] == 404  # a name that was made to lead here
    assert session.ask("POST", "curve", Origin="http://attacker.example")[0] == 404
    with pytest.raises(ConnectionError):  # no other address of this machine
        http.client.HTTPConnection("127.0.0.2", port or 0, timeout=5).request("GET", token)
    assert session.thread.is_alive() and not session.out.exists()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "no column"),
        (b"\xff\xfe\x00", 400, "not a CSV"),
        (b"time_s,arousal,valence\n" + b"0,0,0\n" * 20, 400, "not after the one before"),
        (b"time_s,arousal,valence\n0,0,0\n0.5,0,0\n", 400, "at least 5 s"),
        (b"time_s,arousal,valence\n" + b"".join(b"%d,2,0\n" % k for k in range(20)), 400, "beyond [-1, 1]"),
        (b"time_s,arousal,valence\n" + b"".join(b"%d,<script>,0\n" % k for k in range(20)), 400, "no number"),
        (b"x" * (LARGEST_BODY + 1), 413, "at most"),
    ],
)
def test_what_is_no_curve_is_refused_and_nothing_is_written(session: Session, body: bytes, status: int, words: str) -> None:
    try:
        found = session.ask("POST", "curve", body)
    except (BrokenPipeError, ConnectionResetError):  # it hung up before all of it was sent
        found = (413, {}, b"at most")
    assert found[0] == status and words in found[2].decode() and not session.out.exists()
    assert session.thread.is_alive()


def test_lengths_that_lie_are_refused(session: Session, curve: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SLOWEST", 0.5)
    for length, codes in (("-1", {400}), ("9" * 30, {400, 413})):
        with suppress(ConnectionError):  # nobody reads the body of such a request: the line may be cut before the answer is read
            assert session.ask("POST", "curve", curve, Content_Length=length)[0] in codes
    assert session.ask("POST", "curve", curve, Content_Length=str(len(curve) + 5))[0] == 408  # more was announced than comes
    assert session.thread.is_alive() and not session.out.exists()


def test_songs_that_cannot_be_drawn_to_get_one_sentence(tmp_path: Path) -> None:
    write_song(tmp_path / "short.wav", 3)
    write_song(tmp_path / "odd.aiff", 8)
    write_song(tmp_path / "long.wav", 901, rate=4_000)
    for name, words in (("short.wav", "lasts 3.0 s"), ("odd.aiff", "browsers do not play AIFF"), ("long.wav", "cut it into parts")):
        with pytest.raises(DsamlError, match=words):
            annotate(tmp_path / name, tmp_path / "m.csv", tmp_path / "none", print)


def test_the_command_prints_its_address_and_never_replaces_a_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, curve: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    write_song(tmp_path / "song.wav", 8)

    def draw(song: Path, out: Path, checkpoint: Path, opened: Any) -> int:
        opened("http://127.0.0.1:1/x/")
        out.write_bytes(curve)
        return 14

    monkeypatch.setattr(module, "annotate", draw)
    done = CliRunner().invoke(app, ["annotate", "song.wav", "--no-browser"])
    assert done.exit_code == 0 and "http://127.0.0.1:1/x/" in done.output and "song.mine.csv: 14 points" in done.output
    again = CliRunner().invoke(app, ["annotate", "song.wav", "--no-browser"])
    assert isinstance(again.exception, DsamlError) and "add --force" in str(again.exception)
    assert isinstance(CliRunner().invoke(app, ["annotate", "song.wav", "--out", "song.wav", "--force"]).exception, DsamlError)
    assert sf.info("song.wav").duration == 8
