"""A small study, a real server of it, and a crowd that takes part while the server is killed."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dsaml.audio.recording import encode
from dsaml.config import DEMO
from dsaml.experiment.results import provenance, rounded, write_result
from dsaml.study import design
from dsaml.study.store import Store

RATE = 44_100


def small_study(
    folder: Path, kind: str = design.STUDY, songs: int = 3, participants: int = 4, steps: int = 12
) -> design.Design:
    """A study of noises and random curves, as ``study new`` writes one."""
    rng = np.random.default_rng(0)
    (folder / design.AUDIO).mkdir(parents=True)
    entries = []
    for k in range(2 if kind == design.CLASS else 1 + songs):
        encode(folder / design.AUDIO / f"{k}.mp3", 0.05 * rng.normal(size=round(steps * 0.5 * RATE)), RATE)
        base, basis = 0.4 * rng.normal(size=(steps, 2)), 0.5 * rng.normal(size=(steps, 2, 5))
        entry = {"song_id": f"song-{k}", "audio": f"{k}.mp3", "base": rounded(base, 5), "basis": rounded(basis, 5)}
        entries.append(entry | {"truth": rounded(np.tanh(base + 0.2)), "fourth": None})
    methods = [design.TRUTH, design.PERSONAL, design.NOBODY, design.SHIFTED]
    orders = design.make_orders(participants, len(entries) - 1, 4, seed=0)
    document = {
        "kind": kind,
        "seed": 0,
        "seconds": steps / 2,
        "step": 0.5,
        "start": 15.0,
        "origin": "trained on synthetic songs and listeners",
        "light": {"noise": [0.8, 0.9], "calibration": [1.0, 0.01]},
        "songs": entries,
        "methods": methods,
        "orders": [{"songs": order.songs, "shown": order.shown} for order in orders],
    }
    write_result(folder / design.FILE, document, provenance(DEMO, None, seeds=[0], seconds=0.0, real=False))
    return design.read(folder)


class Server:
    """``python -m dsaml study serve`` as a process of its own; killed and started again at the same port."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, 0
        self.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self.process.poll() is not None:
            return
        said = self.stop()
        assert error or said == "", said  # it has nothing to say: no traceback, no address with a link

    def start(self) -> None:
        """Start it, and wait until it listens."""
        line = [sys.executable, "-m", "dsaml", "study", "serve", str(self.folder), "--port", str(self.port)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        self.process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        said = []
        for text in self.process.stdout:
            said.append(text)
            if "for you: " in text:
                break
        found = re.search(r"127\.0\.0\.1:(\d+)/experimenter/(\S+)", "".join(said))
        assert found, "".join(said)
        self.port, self.token = int(found[1]), found[2]
        joined = re.search(r"/join/(\S+)", "".join(said))
        self.join = joined[1] if joined else None
        while self.ask("GET", "/")[0] != 200:
            time.sleep(0.02)

    @property
    def address(self) -> str:
        """Of this server."""
        return f"http://127.0.0.1:{self.port}"

    def links(self) -> list[str]:
        """Every participant's link, as the experimenter of a study sees them."""
        state = json.loads(self.ask("GET", f"/experimenter/{self.token}/state.json")[1])
        return [person["link"] for person in state["people"]]

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, listen: bool = True
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers of a reply; status 0 where there is none. A body that is no bytes is sent as JSON.

        With ``listen=False`` the line is cut after sending, as by a phone that loses its network.
        """
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = ({"Content-Type": "application/json"} if content is not None else {}) | dict(headers or {})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, content, sent)
            if not listen:
                return 0, b"", {}
            reply = connection.getresponse()
            return reply.status, reply.read(), {k.lower(): v for k, v in reply.getheaders()}
        except (OSError, http.client.HTTPException):
            return 0, b"", {}
        finally:
            connection.close()

    def kill(self) -> None:
        """``kill -9``, in the middle of whatever it does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def stop(self) -> str:
        """Ctrl-C; what it said since it began to serve."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.communicate(timeout=20)[0]
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def answer_to(kind: str, made: design.Design, rng: random.Random) -> dict[str, Any]:
    """Anything that counts as an answer."""
    if kind == "consent":
        return {"consent": True, "age": "26-35"}
    if kind == "draw":
        return {"curve": [[round(rng.uniform(-1, 1), 4), round(rng.uniform(-1, 1), 4)] for _ in range(made.steps)]}
    if kind == "rank":
        return {d: rng.sample(range(1, 5), 4) for d in ("arousal", "valence")}
    return {"comment": f"no. {rng.randrange(10**9)}"}


def crowd(folder: Path, made: design.Design, steps: list[str], kills: int, thinking: float) -> dict[str, Any]:
    """Everybody takes part at once, with up to ``thinking`` s before each answer, while the server is killed so often.

    Returns
    -------
    dict
        ``sent``: each participant's answers; ``kept``: what is in the file; ``seconds``: of each acknowledged answer, from its
        sending to the reply; ``retries``: how many requests got no reply; ``replays``: answers that were sent again after the
        reply, or whose reply nobody waited for.
    """
    with Server(folder) as server:
        found = _crowd(server, made, steps, kills, thinking)
    store = Store(folder / design.ANSWERS, len(made.orders))
    kept = {who: [answer for answer, _ in own] for who, own in store.everything().items()}
    rows = store.count()
    store.close()
    return found | {"kept": kept, "rows": rows}


def _crowd(server: Server, made: design.Design, steps: list[str], kills: int, thinking: float) -> dict[str, Any]:
    rng = random.Random(0)
    links, people = server.links(), range(len(made.orders))
    sent = {who: [answer_to(kind, made, rng) for kind in steps] for who in people}
    seconds: list[float] = []
    counts, lock, problems = {"retries": 0, "replays": 0}, threading.Lock(), []

    def take_part(who: int) -> None:
        own = random.Random(who)
        for step, answer in enumerate(sent[who]):
            time.sleep(own.uniform(0, thinking))
            for path in ("", f"/data/{step}.js"):
                while server.ask("GET", links[who] + path)[0] not in (200, 404):
                    with lock:
                        counts["retries"] += 1
                    time.sleep(0.1)
            again = own.random() < 0.2
            if own.random() < 0.1:
                server.ask("POST", f"{links[who]}/answers/{step}", answer, listen=False)
                with lock:
                    counts["replays"] += 1
            while True:
                began = time.perf_counter()
                status, said, _ = server.ask("POST", f"{links[who]}/answers/{step}", answer)
                took = time.perf_counter() - began
                if status == 200:
                    with lock:
                        seconds.append(took)
                    if not again:
                        break
                    again = False
                    with lock:
                        counts["replays"] += 1
                elif status == 0 or status >= 500:
                    with lock:
                        counts["retries"] += 1
                    time.sleep(own.uniform(0.05, 0.3))
                else:
                    problems.append((who, step, status, said))
                    return

    threads = [threading.Thread(target=take_part, args=(who,)) for who in people]
    for thread in threads:
        thread.start()
    total = len(people) * len(steps)
    for k in range(kills):
        while len(seconds) < total * (k + 1) / (kills + 1) and any(thread.is_alive() for thread in threads):
            time.sleep(0.005)
        server.kill()
        server.start()
    for thread in threads:
        thread.join()
    assert not problems, problems
    return {"sent": sent, "seconds": seconds, **counts}


def forget(folder: Path) -> None:
    """Remove a study's answers."""
    for name in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            (folder / f"{design.ANSWERS}{name}").unlink()
