"""The answers of a study in one SQLite file: what was acknowledged stays, whatever befalls the server, and nothing is doubled."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dsaml.errors import DsamlError

SCHEMA = """
CREATE TABLE tokens (name TEXT PRIMARY KEY, token TEXT NOT NULL UNIQUE);
CREATE TABLE participants (number INTEGER PRIMARY KEY, link TEXT NOT NULL UNIQUE, seat TEXT UNIQUE);
CREATE TABLE answers (
    participant INTEGER NOT NULL REFERENCES participants,
    step INTEGER NOT NULL,
    content TEXT NOT NULL,  -- JSON
    at TEXT NOT NULL,  -- UTC
    PRIMARY KEY (participant, step)
);
"""
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""Of the address to join a class, which is typed from a wall: none is taken for another. It gives a seat and nothing else."""
WAIT = 20.0  # s for another process that writes


class Conflict(Exception):
    """An answer that does not fit those that are there: another one to the same step, or one to a step that has not come yet."""


class Store:
    """Participants, their links, and their answers.

    Every change is one transaction in write-ahead logging with full synchronization: after a kill or a power cut an answer is
    there whole or not at all, and one that was acknowledged is there. Several threads and processes may use one file.

    A file that is not there is made, with links for so many ``participants``. A DsamlError if it is none of this kind, or cannot
    be written.
    """

    def __init__(self, path: Path, participants: int):
        self._lock = threading.RLock()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # it holds everybody's links
            self._base = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")
            self._base.execute("PRAGMA foreign_keys=ON")
            with self._change():
                if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'answers'"):
                    for statement in SCHEMA.split(";")[:-1]:
                        self._base.execute(statement)
                    code = "".join(secrets.choice(LETTERS) for _ in range(8))
                    tokens = [("experimenter", secrets.token_urlsafe(24)), ("join", code)]
                    self._base.executemany("INSERT INTO tokens VALUES (?, ?)", tokens)
                    links = [(number, secrets.token_urlsafe(24)) for number in range(participants)]
                    self._base.executemany("INSERT INTO participants (number, link) VALUES (?, ?)", links)
            self.tokens: dict[str, str] = dict(self._rows("SELECT name, token FROM tokens"))
        except (sqlite3.Error, OSError) as error:
            raise DsamlError(f"{path}: not a file of answers that can be used ({error}); see its permissions") from error

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._base.execute(statement, values).fetchall()

    @contextmanager
    def _change(self) -> Any:
        """One transaction that writes, one at a time."""
        with self._lock:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def links(self) -> dict[int, str]:
        """Every participant's link."""
        return dict(self._rows("SELECT number, link FROM participants ORDER BY number"))

    def participant(self, link: str) -> int | None:
        """Whose link this is; None for a foreign one."""
        rows = self._rows("SELECT number FROM participants WHERE link = ?", link)
        return rows[0][0] if rows else None

    def take_seat(self, seat: str) -> str | None:
        """The link of a free participant for the browser that calls itself ``seat``; the same one again. None if all are taken."""
        find = "SELECT link FROM participants WHERE seat = ?"
        free = "SELECT min(number) FROM participants WHERE seat IS NULL"
        with self._change():
            if not self._rows(find, seat):
                self._rows(f"UPDATE participants SET seat = ? WHERE number = ({free})", seat)
            rows = self._rows(find, seat)
        return rows[0][0] if rows else None

    def answer(self, participant: int, step: int, content: Mapping[str, Any]) -> bool:
        """Keep an answer; False if exactly this one was there. A Conflict if the step has another, or is not the next one."""
        text, now = json.dumps(content, sort_keys=True, allow_nan=False), datetime.now(UTC).isoformat(timespec="seconds")
        with self._change():
            there = self._rows("SELECT content FROM answers WHERE participant = ? AND step = ?", participant, step)
            if there:
                if there[0][0] != text:
                    raise Conflict("this step was answered before; that answer stays")
                return False
            ((done,),) = self._rows("SELECT count(*) FROM answers WHERE participant = ?", participant)
            if step != done:
                raise Conflict("this is not the next step; reload the page")
            self._rows("INSERT INTO answers VALUES (?, ?, ?, ?)", participant, step, text, now)
            return True

    def answers(self, participant: int) -> list[dict[str, Any]]:
        """A participant's answers in the order of steps."""
        rows = self._rows("SELECT content FROM answers WHERE participant = ? ORDER BY step", participant)
        return [json.loads(content) for (content,) in rows]

    def everything(self) -> dict[int, list[tuple[dict[str, Any], str]]]:
        """Of everybody who answered something: the answers and when they came (UTC)."""
        out: dict[int, list[tuple[dict[str, Any], str]]] = {}
        for who, content, at in self._rows("SELECT participant, content, at FROM answers ORDER BY participant, step"):
            out.setdefault(who, []).append((json.loads(content), at))
        return out

    def count(self) -> int:
        """How many answers there are."""
        return int(self._rows("SELECT count(*) FROM answers")[0][0])
