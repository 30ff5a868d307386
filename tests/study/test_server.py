"""The study's server as a process of its own: steps, what it refuses, kills; 0 answers lost or doubled."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from study_crowd import Server, crowd, forget, small_study

from dsaml.errors import DsamlError
from dsaml.listen import guard
from dsaml.study import answers, design, export
from dsaml.study import server as server_module
from dsaml.study.steps import steps_of
from dsaml.study.store import Conflict, Store

CURVE = [[0.1, -0.2]] * 12
RANKS = {"arousal": [1, 2, 3, 4], "valence": [4, 3, 2, 1]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A study of 40 participants and its server; every test takes links of its own."""
    folder = tmp_path_factory.mktemp("server") / "study"
    made = small_study(folder, participants=40)
    with Server(folder) as server:
        links = iter(server.links())
        yield SimpleNamespace(server=server, folder=folder, made=made, link=lambda: next(links))


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A class of three seats and its server."""
    folder = tmp_path_factory.mktemp("class") / "class"
    made = small_study(folder, design.CLASS, participants=3)
    with Server(folder) as server:
        yield SimpleNamespace(server=server, folder=folder, made=made)


def kept(running: Any) -> int:
    """How many answers the file holds."""
    store = Store(running.folder / design.ANSWERS, 40)
    count = store.count()
    store.close()
    return count


def at_step(running: Any, step: int) -> str:
    """The link of somebody who has come to a step."""
    link = running.link()
    for k, answer in enumerate(({"consent": True}, {"curve": CURVE}, RANKS, RANKS, RANKS, {"comment": ""})[:step]):
        assert running.server.ask("POST", f"{link}/answers/{k}", answer)[0] == 200
    return link


def data_of(running: Any, link: str, step: int) -> dict[str, Any]:
    """What a step's scripts read."""
    status, script, _ = running.server.ask("GET", f"{link}/data/{step}.js")
    assert status == 200
    return json.loads(script.decode().removeprefix("window.dsamlPlayer = ").removesuffix(";"))


def test_every_step_in_its_order_and_what_is_exported(running: Any, tmp_path: Path) -> None:
    link = running.link()
    number = Store(running.folder / design.ANSWERS, 40).participant(link.removeprefix("/p/"))
    curve = [[round(0.8 * np.sin(k / 3), 4), -0.5] for k in range(12)]
    ranks = [{"arousal": [2, 1, 4, 3], "valence": [4, 1, 2, 3]}, RANKS, RANKS]
    given = [{"consent": True, "age": "26-35"}, {"curve": curve}, *ranks, {"comment": "=1+1, très bien"}]
    for step, answer in enumerate(given):
        page = running.server.ask("GET", link)[1].decode()
        assert f"Step {step + 1} of 6" in page and "trained on synthetic songs and listeners" in page
        assert not any(name in page for name in (*running.made.methods, "song-1", "http://", "https://"))
        assert running.server.ask("POST", f"{link}/answers/{step}", answer)[0] == 200
    assert "Thank you" in running.server.ask("GET", link)[1].decode()
    export.export(running.folder, tmp_path)
    people = pd.read_csv(tmp_path / "participants.csv", keep_default_na=False).set_index("participant_id")
    own = people.loc[export.name_of(number)]
    assert (own.age, own.gender, own.steps, own.comment) == ("26-35", "", 6, "'=1+1, très bien")
    table = answers.read_rankings(tmp_path / "rankings.csv")
    table = table[table.participant_id == export.name_of(number)]
    assert len(table) == 3 * 2 * 4 and set(table.method) == set(running.made.methods)
    order = running.made.orders[number]
    first = table[(table.position == 1) & (table.dimension == "arousal")].set_index("shown")
    assert set(first.song_id) == {f"song-{order.songs[0]}"}
    assert first["rank"].to_dict() == dict(zip("ABCD", ranks[0]["arousal"], strict=True))
    assert first.method.to_dict() == {x: running.made.methods[m] for x, m in zip("ABCD", order.shown[0], strict=True)}
    drawn = pd.read_csv(next((tmp_path / "curves").glob(f"{export.name_of(number)}-of-song-0.csv")))
    assert drawn.time_s.tolist() == [15 + k / 2 for k in range(12)]
    assert np.allclose(drawn[["arousal", "valence"]], curve, atol=1e-4)


def test_curves_to_rank_are_the_participants_own_blinded_and_the_same_after_a_reload(running: Any) -> None:
    link = at_step(running, 2)
    number = Store(running.folder / design.ANSWERS, 40).participant(link.removeprefix("/p/"))
    first, again = data_of(running, link, 2), data_of(running, link, 2)
    assert first == again and set(first["songs"][0]) == {"id", "title", "audio", "curves"}
    song = running.made.songs[running.made.orders[number].songs[0]]
    expected = dict(zip(running.made.methods, running.made.curves(song, np.array(CURVE)), strict=True))
    for values, method in zip(first["songs"][0]["curves"], running.made.orders[number].shown[0], strict=True):
        assert np.allclose(values, expected[running.made.methods[method]], atol=1e-3)
    status, sound, headers = running.server.ask("GET", first["songs"][0]["audio"])
    assert status == 200 and headers["content-type"] == "audio/mpeg" and len(sound) > 1000
    initial = data_of(running, at_step(running, 1), 1)["songs"][0]["initial"]
    assert np.allclose(initial, running.made.initial, atol=1e-3)


def test_a_replay_changes_nothing_and_another_answer_to_the_same_step_is_refused(running: Any) -> None:
    link, before = at_step(running, 2), kept(running)
    for answer, status in (({"curve": CURVE}, 200), ({"curve": [[0.1, 0.3]] * 12}, 409)):
        assert running.server.ask("POST", f"{link}/answers/1", answer)[0] == status
    assert running.server.ask("POST", f"{link}/answers/3", RANKS)[0] == 409  # not yet
    assert running.server.ask("POST", f"{link}/answers/99", RANKS)[0] == 409
    together = [
        threading.Thread(target=running.server.ask, args=("POST", f"{link}/answers/2", RANKS)) for _ in range(8)
    ]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    assert kept(running) == before + 1


FOREIGN = [
    "/p/x",
    "/p/" + "A" * 32,
    "/p/%00",
    "/p/" + "A" * 5000,
    "/experimenter/x",
    "/experimenter/",
    "/experimenter/x/state.json",
    "/experimenter/x/audio/0.mp3",
    "/join/x",
    "/static/../server.py",
    "/static/..%2fserver.py",
    "/static/%2e%2e/%2e%2e/store.py",
    "/static//etc/passwd",
    "/static/..\\server.py",
    "/design.json",
    "/answers.sqlite",
]


@pytest.mark.parametrize("path", FOREIGN)
def test_foreign_links_and_other_files_are_refused(running: Any, path: str) -> None:
    status, said, headers = running.server.ask("GET", path)
    assert status == 404 and len(said) < 200 and b"Traceback" not in said
    assert (
        headers["content-security-policy"].startswith("default-src 'none'") and headers["cache-control"] == "no-store"
    )


def test_what_is_under_a_link_cannot_be_left_and_others_methods_are_refused(running: Any) -> None:
    link, before = running.link(), kept(running)
    for name in ("..%2f..%2fdesign.json", "%2e%2e/design.json", "../design.json", "design.json", "9.mp3", "0.mp3%00"):
        assert running.server.ask("GET", f"{link}/audio/{name}")[0] == 404
    for method, path in (
        ("GET", "/answers/0"),
        ("PUT", "/answers/0"),
        ("DELETE", ""),
        ("POST", ""),
        ("POST", "/data/0.js"),
    ):
        assert running.server.ask(method, link + path, {"consent": True})[0] == 405
    assert running.server.ask("GET", f"{link}/data/1.js")[0] == 404  # a step that is not theirs yet
    assert running.server.ask("POST", "/p/nobody/answers/0", {"consent": True})[0] == 404
    assert running.server.ask("POST", f"{link}/answers/-1", {"consent": True})[0] == 404
    assert running.server.ask("POST", f"{link}/answers/one", {"consent": True})[0] == 404
    assert kept(running) == before


BODIES = {  # step, body, status, a word of what is said
    "no JSON": (0, b"consent", 422, b""),
    "empty": (0, b"", 422, b""),
    "not UTF-8": (0, b'{"consent": "\xff"}', 422, b""),
    "a list": (0, [True], 422, b"object"),
    "null": (0, b"null", 422, b"object"),
    "deep": (0, b"[" * 20_000, 422, b""),
    "twice": (0, b'{"consent": true, "consent": true}', 422, b"twice"),
    "no consent": (0, {"consent": False}, 422, b"consent"),
    "consent 1": (0, {"consent": 1}, 422, b"consent"),
    "another question": (0, {"consent": True, "name": "Eve"}, 422, b"no question"),
    "script as age": (0, {"consent": True, "age": "<script>alert(1)</script>"}, 422, b"Age"),
    "a list as age": (0, {"consent": True, "age": ["26-35"]}, 422, b"Age"),
    "large": (0, b'{"consent": true, "x": "' + b"x" * 70_000 + b'"}', 413, b"bytes"),
    "NaN": (1, b'{"curve": [' + b",".join([b"[NaN, 0]"] * 12) + b"]}", 422, b"NaN"),
    "infinite": (1, b'{"curve": [' + b",".join([b"[1e999, 0]"] * 12) + b"]}", 422, b"[-1, 1]"),
    "short": (1, {"curve": CURVE[:11]}, 422, b"12 steps"),
    "beyond": (1, {"curve": [[1.1, 0]] * 12}, 422, b"[-1, 1]"),
    "text": (1, {"curve": [["0", 0]] * 12}, 422, b"[-1, 1]"),
    "truth": (1, {"curve": [[True, 0]] * 12}, 422, b"[-1, 1]"),
    "hardly drawn": (1, {"curve": [[0.5, None]] * 12}, 422, b"valence"),
    "curve is text": (1, {"curve": "x" * 12}, 422, b"12 steps"),
    "huge number": (1, b'{"curve": [' + b",".join([b"[1" + b"0" * 400 + b", 0]"] * 12) + b"]}", 422, b"[-1, 1]"),
    "longest number": (1, b'{"curve": [[' + b"1" * 5_000 + b", 0]]}", 422, b""),
    "ties": (2, {**RANKS, "valence": [1, 1, 2, 3]}, 422, b"valence"),
    "three ranks": (2, {**RANKS, "arousal": [1, 2, 3]}, 422, b"arousal"),
    "truths as ranks": (2, {**RANKS, "arousal": [True, 2, 3, 4]}, 422, b"arousal"),
    "half ranks": (2, {**RANKS, "arousal": [1.0, 2, 3, 4]}, 422, b"arousal"),
    "one dimension": (2, {"arousal": [1, 2, 3, 4]}, 422, b"valence"),
    "ranks of another": (2, {**RANKS, "tension": [1, 2, 3, 4]}, 422, b"no question"),
    "script in the comment": (5, {"comment": "<script>alert(1)</script>"}, 422, b"plain text"),
    "image in the comment": (5, {"comment": "nice <img src=x onerror=alert(1)>"}, 422, b"plain text"),
    "control characters": (5, {"comment": "a\x00b"}, 422, b"plain text"),
    "reversed writing": (5, {"comment": "a\u202eb"}, 422, b"plain text"),
    "half a character": (5, b'{"comment": "\\ud800"}', 422, b"plain text"),
    "long comment": (5, {"comment": "x" * 1001}, 422, b"1000"),
    "no text": (5, {"comment": {"a": 1}}, 422, b"text"),
}


@pytest.fixture(scope="module")
def standing(running: Any) -> dict[int, str]:
    """Somebody at each step that is asked for above."""
    return {step: at_step(running, step) for step in (0, 1, 2, 5)}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_answer_is_refused_in_a_sentence_and_nothing_is_kept(
    running: Any, standing: dict[int, str], name: str
) -> None:
    (step, body, status, word), before = BODIES[name], kept(running)
    found, said, _ = running.server.ask("POST", f"{standing[step]}/answers/{step}", body)
    assert found == status and word in said and len(said) < 200 and b"Traceback" not in said
    assert kept(running) == before


def test_other_kinds_of_bodies_are_refused(running: Any, standing: dict[int, str]) -> None:
    before, path = kept(running), f"{standing[0]}/answers/0"
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""):
        assert running.server.ask("POST", path, b'{"consent": true}', {"Content-Type": kind})[0] == 415
    with socket.create_connection(("127.0.0.1", running.server.port), timeout=20) as line:  # without an end
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        line.sendall(head.encode() + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 20)
        assert b" 413 " in line.recv(4096)
    with socket.create_connection(("127.0.0.1", running.server.port), timeout=20) as line:  # and broken off
        line.sendall(head.replace("Transfer-Encoding: chunked", "Content-Length: 17").encode() + b'{"consent"')
    with socket.create_connection(("127.0.0.1", running.server.port), timeout=20) as line:
        line.sendall(b"\x00\x01 nonsense\r\n\r\n")
        assert b" 400 " in line.recv(4096)
    assert kept(running) == before and running.server.ask("GET", standing[0])[0] == 200


def test_nothing_of_another_host_and_no_script_inside_a_page(running: Any) -> None:
    for step in range(7):
        _, page, headers = running.server.ask("GET", at_step(running, step))
        assert b"<script>" not in page and b"style=" not in page and b"//" not in page.replace(b"</", b"")
        policy = headers["content-security-policy"]
        assert "script-src 'self';" in policy and "unsafe-eval" not in policy and "frame-ancestors 'none'" in policy
        assert headers["referrer-policy"] == "no-referrer" and "server" not in headers
    for name in ("draw.js", "parts.js", "light.js", "study.js", "rank.js", "join.js", "experimenter.js", "study.css"):
        assert running.server.ask("GET", f"/static/{name}")[0] == 200


def test_the_experimenter_sees_who_is_where(running: Any) -> None:
    link = at_step(running, 3)
    address = f"/experimenter/{running.server.token}"
    state = json.loads(running.server.ask("GET", f"{address}/state.json")[1])
    assert {"done": 3, "of": 6, "link": link}.items() <= next(p for p in state["people"] if p["link"] == link).items()
    assert running.server.ask("GET", f"{address}/state.json?have={state['count']}")[0] == 204
    assert running.server.ask("GET", address)[0] == 200


def test_a_class_joins_draws_and_is_predicted(lesson: Any) -> None:
    server = lesson.server
    assert server.ask("GET", f"/join/{server.join}")[0] == 200
    seats = [f"seat-of-a-browser-{k}" for k in range(3)]
    links = [json.loads(server.ask("POST", f"/join/{server.join}/seat", {"seat": seat})[1])["link"] for seat in seats]
    again = json.loads(server.ask("POST", f"/join/{server.join}/seat", {"seat": seats[1]})[1])["link"]
    assert len(set(links)) == 3 and again == links[1]
    status, said, _ = server.ask("POST", f"/join/{server.join}/seat", {"seat": "one-too-many-browsers"})
    assert status == 409 and b"taken" in said
    for bad in ({"seat": "x"}, {"seat": 7}, {}, [1], {"seat": "<script>alert(1)</script>"}):
        assert server.ask("POST", f"/join/{server.join}/seat", bad)[0] == 422
    curves = [[[0.5, 0.2 * k]] * 10 + [[0.4, None]] * 2 for k in (0, 1, 2)]
    curves[0] = [[round(np.sin(k / 2), 4), 0.0] for k in range(12)]
    for link, curve in zip(links, curves, strict=True):
        assert server.ask("POST", f"{link}/answers/0", {"consent": True})[0] == 200
        assert server.ask("POST", f"{link}/answers/1", {"curve": curve})[0] == 200
    state = json.loads(server.ask("GET", f"/experimenter/{server.token}/state.json")[1])
    assert not any("link" in person for person in state["people"])  # this page hangs on the wall
    drawn, predicted = state["songs"]
    values = np.array(curves, float)
    assert np.allclose(np.array(drawn["mean"], float), np.nanmean(values, 0), atol=1e-3)
    assert np.allclose(np.array(drawn["sd"], float)[:10], np.std(values, 0, ddof=1)[:10], atol=1e-3)
    assert drawn["sd"][11][1] is None and [row[0] for row in drawn["growth"]] == [2, 3]
    expected = lesson.made.songs[1].terms.curve(lesson.made.personal(values[1]))
    assert np.allclose(
        sorted(predicted["curves"])[0],
        min(lesson.made.songs[1].terms.curve(lesson.made.personal(v)).round(3).tolist() for v in values),
        atol=2e-3,
    )
    assert any(np.allclose(curve, expected, atol=1e-3) for curve in predicted["curves"])
    page = server.ask("GET", links[0])[1].decode()
    assert "the second song" in page
    data = data_of(lesson, links[0], 2)
    assert [song["id"] for song in data["songs"]] == ["1", "0"] and data["songs"][1]["drawn"] == curves[0]
    assert np.shape(data["light"]["songs"]["1"]["basis"]) == (12, 2, 5)


def test_a_killed_server_loses_and_doubles_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    made = small_study(folder, songs=4, participants=8)
    done = crowd(folder, made, steps_of(made), kills=1, thinking=0.1)
    assert done["kept"] == done["sent"] and done["rows"] == 8 * 7
    assert done["replays"] > 0 and done["retries"] > 0
    assert np.percentile(done["seconds"], 95) < 2


def test_rates_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(guard.time, "monotonic", lambda: now)
    rates = guard.Rates(per_second=2, burst=5)
    for _ in range(5):
        rates.take("a")
    with pytest.raises(guard.HTTPException) as caught:
        rates.take("a")
    assert caught.value.status_code == 429
    rates.take("b")
    now += 0.5
    rates.take("a")
    with pytest.raises(guard.HTTPException):
        rates.take("a")


def test_who_guesses_links_is_stopped(lesson: Any) -> None:
    found = [lesson.server.ask("GET", f"/p/{k:032d}")[0] for k in range(90)]
    assert found[0] == 404 and 429 in found
    assert lesson.server.ask("GET", f"/join/{lesson.server.join}")[0] == 200  # others go on


def test_an_address_for_the_network_is_one_that_phones_can_ask() -> None:
    assert server_module.in_network("127.0.0.1") == "127.0.0.1"
    assert server_module.in_network("0.0.0.0") != "0.0.0.0"


def test_answers_are_one_transaction_each(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.sqlite", 2)
    assert (tmp_path / "a.sqlite").stat().st_mode & 0o077 == 0
    assert store.answer(0, 0, {"x": 1}) and not store.answer(0, 0, {"x": 1})
    with pytest.raises(Conflict):
        store.answer(0, 0, {"x": 2})
    with pytest.raises(Conflict):
        store.answer(1, 1, {"x": 1})
    second = Store(tmp_path / "a.sqlite", 99)  # another process; who takes part stays
    assert second.answers(0) == [{"x": 1}] and len(second.links()) == 2 and second.tokens == store.tokens
    assert len(set(store.links().values())) == 2 and min(map(len, store.links().values())) >= 32
    (tmp_path / "b.sqlite").write_text("not a database at all, but long enough to look like one" * 30)
    with pytest.raises(DsamlError, match=r"b\.sqlite: not a file of answers"):
        Store(tmp_path / "b.sqlite", 1)
    forget(tmp_path)


def test_a_folder_without_its_parts_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DsamlError, match="holds no study"):
        design.read(tmp_path)
    folder = tmp_path / "study"
    small_study(folder)
    with pytest.raises(DsamlError, match="nobody has answered"):
        export.export(folder, tmp_path / "out")
    shutil.rmtree(folder / "audio")
    with pytest.raises(DsamlError, match=r"0\.mp3: is missing"):
        server_module.serve(folder)
    (folder / design.FILE).write_text((folder / design.FILE).read_text().replace("song-1", "song-9"))
    with pytest.raises(DsamlError, match="damaged"):
        design.read(folder)
