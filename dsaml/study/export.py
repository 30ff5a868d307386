"""A study's answers as files: rankings as ``study analyse`` reads them, curves as ``personalize`` reads them, who took part."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dsaml.config import DIMENSIONS
from dsaml.errors import DsamlError
from dsaml.io import write_bytes_atomically
from dsaml.listen import curves
from dsaml.study import answers, design
from dsaml.study.design import LETTERS, Design
from dsaml.study.steps import CLOSE, CONSENT, DRAW, FORM, RANK, steps_of
from dsaml.study.store import Store


def name_of(participant: int) -> str:
    """What a participant is called: P01, P02, …"""
    return f"P{participant + 1:02d}"


def as_curve(answer: Mapping[str, Any]) -> np.ndarray:
    """A drawn curve (T, 2), NaN where nothing was said."""
    return np.array(answer["curve"], float)


def rankings_of(made: Design, given: Mapping[int, list[tuple[dict[str, Any], str]]]) -> pd.DataFrame:
    """Every rank with the method and the song behind it, and the order: ``answers.COLUMNS`` and ``answers.ORDER``."""
    first, rows = steps_of(made).index(RANK), []
    for who, own in given.items():
        order = made.orders[who]
        for position, (answer, _) in enumerate(own[first : first + len(order.songs)]):
            song = made.songs[order.songs[position]].song_id
            for dimension in DIMENSIONS:
                for letter, method, rank in zip(LETTERS, order.shown[position], answer[dimension], strict=False):
                    rows.append((name_of(who), song, dimension, made.methods[method], rank, position + 1, letter))
    return pd.DataFrame(rows, columns=[*answers.COLUMNS, *answers.ORDER])


def people_of(made: Design, given: Mapping[int, list[tuple[dict[str, Any], str]]]) -> pd.DataFrame:
    """Who took part: the form, how many steps were done, minutes from consent to the last answer, the comment."""
    steps, rows = steps_of(made), []
    for who, own in given.items():
        kinds = dict(zip(steps, (answer for answer, _ in own), strict=False))
        began, ended = (datetime.fromisoformat(own[k][1]) for k in (0, -1))
        row = {"participant_id": name_of(who), "steps": len(own), "of": len(steps)}
        row |= {"minutes": round((ended - began).total_seconds() / 60, 1)}
        row |= {name: kinds[CONSENT].get(name, "") for name in FORM}
        comment = kinds.get(CLOSE, {}).get("comment", "")
        row["comment"] = f"'{comment}" if comment[:1] in ("=", "+", "-", "@") else comment  # no formula for a spreadsheet
        rows.append(row)
    return pd.DataFrame(rows)


def export(folder: Path, out: Path) -> list[Path]:
    """Write ``participants.csv``, ``curves/`` and, of a study, ``rankings.csv`` into a folder; gives what was written.

    Those who stopped midway are there with what they answered. A drawn curve with gaps is written as far as it can be read again:
    steps at which both dimensions were drawn. A DsamlError if there is no study, or nobody has answered.
    """
    made = design.read(folder)
    file = folder / design.ANSWERS
    if not file.is_file():
        raise DsamlError(f"{folder}: nobody has answered; 'python -m dsaml study serve {folder}' lets people take part")
    with closing(Store(file, len(made.orders))) as store:
        given = store.everything()
    if not given:
        raise DsamlError(f"{folder}: nobody has answered yet")
    written, drawn_at = [out / "participants.csv"], steps_of(made).index(DRAW)
    write_bytes_atomically(written[0], people_of(made, given).to_csv(index=False).encode())
    song, times = made.songs[0].song_id, made.start + made.step * np.arange(made.steps)
    for who, own in given.items():
        if len(own) > drawn_at:
            table = pd.DataFrame(np.column_stack((times, as_curve(own[drawn_at][0]))), columns=list(curves.COLUMNS)).dropna()
            if len(table) >= curves.SHORTEST:
                written.append(out / "curves" / f"{name_of(who)}-of-{song}.csv")
                curves.write_curve(written[-1], table)
    if made.kind == design.STUDY and not (rankings := rankings_of(made, given)).empty:
        written.append(out / "rankings.csv")
        answers.write_rankings(written[-1], rankings)
    return written
