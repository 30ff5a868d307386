"""``fetch`` against a server on this machine: resuming, refusing, and one-sentence errors."""

import hashlib
import io
import json
import random
import sys
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from labels import write_vgmidi
from typer.testing import CliRunner

from dsaml.cli.main import app
from dsaml.data import load_dataset
from dsaml.data.fetch import download, fetch, sha256, unpack
from dsaml.errors import DsamlError


def make_zip(files: dict[str, bytes], compression=zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@contextmanager
def serving(handler, state):
    """A server of this test, which the handler sees as ``self.server.state``; gives the state and the address."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True  # a client may keep its connections open
    http.state = state
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield state, f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def server():
    """Serves ``files``; ``break_after`` bytes it closes the connection; ``requests`` holds the Range headers seen."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state = self.server.state
            body = state["files"].get(self.path)
            state["requests"].append(self.headers.get("Range"))
            if body is None:
                self.send_error(404)
                return
            start = 0
            if state["ranges"] and self.headers.get("Range") and self.headers.get("If-Range") == state["tag"]:
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            self.send_header("ETag", state["tag"])
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            self.wfile.write(body[start:][: state["break_after"]])

        def log_message(self, *args):
            pass

    with serving(Handler, {"files": {}, "requests": [], "ranges": True, "tag": '"one"', "break_after": None}) as there:
        yield there


ANNOTATIONS = make_zip({"annotations/a.csv": b"song_id,sample_15000ms\n2,0.1\n", "__MACOSX/x": b"junk"})
AUDIO = make_zip({"MEMD_audio/2.mp3": random.Random(0).randbytes(512_000)})


def test_fetch_deam_and_again(server, tmp_path):
    state, base = server
    state["files"] = {"/DEAM_Annotations.zip": ANNOTATIONS, "/DEAM_audio.zip": AUDIO}
    done = CliRunner().invoke(app, ["fetch", "deam", str(tmp_path / "D"), "--base-url", base])
    assert done.exit_code == 0, done.output
    assert sha256(tmp_path / "D" / "DEAM_audio.zip") in done.output
    assert (tmp_path / "D/DEAM_Annotations/annotations/a.csv").is_file()
    assert (tmp_path / "D/DEAM_audio/MEMD_audio/2.mp3").stat().st_size == 512_000
    assert not list(tmp_path.rglob("__MACOSX")) and not list(tmp_path.rglob("*.part*"))
    asked = len(state["requests"])
    assert fetch("deam", tmp_path / "D", base)[1][2] == 1
    assert len(state["requests"]) == asked  # archives that are there are not asked for


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_continues(server, tmp_path, ranges):
    state, base = server
    body = bytes(range(256)) * 8000
    state |= {"files": {"/f.zip": body}, "break_after": 700_000}
    with pytest.raises(DsamlError, match="broke off"):
        download(f"{base}/f.zip", tmp_path / "f.zip")
    assert not (tmp_path / "f.zip").exists()
    left = (tmp_path / "f.zip.part").stat().st_size
    assert 0 < left <= 700_000
    state |= {"break_after": None, "ranges": ranges}
    seen = []
    download(f"{base}/f.zip", tmp_path / "f.zip", lambda name, done, total: seen.append((done, total)))
    assert (tmp_path / "f.zip").read_bytes() == body
    assert state["requests"][-1] == f"bytes={left}-"
    assert seen[-1] == (len(body), len(body)) and (seen[0][0] > left) == ranges


def test_a_file_that_changed_meanwhile_starts_over(server, tmp_path):
    state, base = server
    state |= {"files": {"/f": b"a" * 900_000}, "break_after": 500_000}
    with pytest.raises(DsamlError):
        download(f"{base}/f", tmp_path / "f")
    state |= {"files": {"/f": b"b" * 900_000}, "break_after": None, "tag": '"two"'}
    download(f"{base}/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"b" * 900_000


def test_what_cannot_be_had_is_one_sentence(server, tmp_path):
    _, base = server
    with pytest.raises(DsamlError, match=r"404 .*; download it in a browser into"):
        fetch("deam", tmp_path, base)
    with pytest.raises(DsamlError, match=r"cannot be reached from here .*; download it in a browser into"):
        fetch("deam", tmp_path, "http://127.0.0.1:9")
    with pytest.raises(DsamlError, match="not an http or https address"):
        fetch("deam", tmp_path, "file:///etc")
    says_of = {"pmemo": "no direct address", "synthetic": "generated", "folder": "your own", "live-piano": "restricted access"}
    with pytest.raises(DsamlError, match=r"404 .*'git clone https://github\.com/lucasnfe/vgmidi"):
        fetch("vgmidi", tmp_path, base)
    with pytest.raises(DsamlError, match="choose one of: deam, vgmidi, merp, pmemo"):
        fetch("emomusic", tmp_path)
    for name, says in says_of.items():
        with pytest.raises(DsamlError, match=says):
            fetch(name, tmp_path)


def test_fetch_vgmidi(server, tmp_path):
    state, base = server
    write_vgmidi(tmp_path / "labelled")
    files = {str(f.relative_to(tmp_path)): f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    state["files"] = {"/master.zip": make_zip({f"vgmidi-master/{name}": content for name, content in files.items()})}
    done = CliRunner().invoke(app, ["fetch", "vgmidi-2", str(tmp_path / "V"), "--base-url", base])
    assert done.exit_code == 0, done.output
    assert sha256(tmp_path / "V/vgmidi-master.zip") in done.output and f"{len(files)} files" in done.output
    assert "no licence text" in done.output and "Ferreira and Whitehead" in done.output
    assert len(load_dataset("vgmidi", tmp_path / "V/vgmidi-master").mean) == 32


@pytest.fixture
def hub(tmp_path):
    """A hub of one repository, asked by the real client; serves ``files`` and keeps what it was asked for in ``requests``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            state, start, headers = self.server.state, "/api/datasets/amaai-lab/MERP", {}
            state["requests"].append((self.command, self.path, self.headers.get("Authorization")))
            if self.path.startswith(f"{start}/revision/"):
                names = [{"rfilename": name} for name in state["files"]]
                body = json.dumps({"id": "amaai-lab/MERP", "sha": "0" * 40, "siblings": names, "tags": []}).encode()
            elif self.path.startswith(f"{start}/tree/"):
                tree = [{"type": "file", "path": n, "size": len(b), "oid": n} for n, b in state["files"].items()]
                body = json.dumps(tree).encode()
            else:
                body = state["files"][self.path.partition("0" * 40 + "/")[2]]
                headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": "0" * 40}
            self.send_response(200)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD

        def log_message(self, *args):
            pass

    with serving(Handler, {"files": {}, "requests": []}) as there:
        yield there


def test_fetch_merp_and_again(hub, tmp_path):
    pytest.importorskip("huggingface_hub")
    state, base = hub
    table = b"PAR1" * 1000
    state["files"] = {"annotations_raw.parquet": table, "audio/00_35.wav": b"RIFF", "README.md": b"terms", "code.py": b"no"}
    done = CliRunner().invoke(app, ["fetch", "merp-filtered", str(tmp_path / "M"), "--base-url", base])
    assert done.exit_code == 0, done.output
    assert f"1 file, sha256 {hashlib.sha256(table).hexdigest()}" in done.output
    assert "CC BY 4.0" in done.output and "Koh, Cheuk, Heung, Agres and Herremans" in done.output
    there = {str(f.relative_to(tmp_path / "M")) for f in (tmp_path / "M").rglob("*") if ".cache" not in f.parts and f.is_file()}
    assert there == {"annotations_raw.parquet", "audio/00_35.wav", "README.md"}
    fetch("merp", tmp_path / "M", base)
    got = [path for command, path, _ in state["requests"] if command == "GET" and path.endswith("raw.parquet")]
    assert len(got) == 1 and not any(token for *_, token in state["requests"])  # whole files are not asked for again
    state["files"] = {"README.md": b"moved"}
    with pytest.raises(DsamlError, match=r"holds no table of labels \(.parquet\)"):
        fetch("merp", tmp_path / "N", base)


def test_fetch_merp_without_its_client_or_a_network_is_one_sentence(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    with pytest.raises(DsamlError, match=r"^http://127.0.0.1:9: MERP cannot be downloaded \(.*run this again to continue"):
        fetch("merp", tmp_path, "http://127.0.0.1:9/")
    with pytest.raises(DsamlError, match="not an http or https address"):
        fetch("merp", tmp_path, "ftp://example.org")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DsamlError, match="pip install huggingface_hub"):
        fetch("merp", tmp_path)


def _link() -> bytes:
    member = zipfile.ZipInfo("DEAM/link")
    member.external_attr = 0o120777 << 16
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(member, "/etc/passwd")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (make_zip({"fine.csv": b"1", "../out.csv": b"x"}), "points outside"),
        (make_zip({"/out.csv": b"x"}), "points outside"),
        (make_zip({"a\\..\\..\\out.csv": b"x"}), "points outside"),
        (make_zip({"C:/out.csv": b"x"}), "points outside"),
        (_link(), "is a link"),
        (make_zip({"fine.csv": b"1", "bomb.csv": bytes(30_000_000)}), "would grow more than 200 times"),
        (AUDIO[:-40], "no intact zip"),
        (b"<html>404</html>", "no intact zip"),
        (AUDIO[:200] + bytes(50) + AUDIO[250:], "no intact zip"),
    ],
)
def test_bad_archives_are_refused(tmp_path, content, says):
    path = tmp_path / "in" / "DEAM_audio.zip"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DsamlError, match=says) as error:
        unpack(path, tmp_path / "in")
    assert str(error.value).startswith(str(path))
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == [path]


def test_too_many_bytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("dsaml.data.fetch.MAX_BYTES", 1000)
    (tmp_path / "a.zip").write_bytes(AUDIO)
    with pytest.raises(DsamlError, match="would unpack to"):
        unpack(tmp_path / "a.zip", tmp_path)
