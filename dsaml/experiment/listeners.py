"""Real listeners: averaged labels, another song, a song's rest, asked of the models of :mod:`dsaml.listeners` and of floors.

Everything is chosen and fitted on training and validation songs and people, with heads that had not seen the song; the test part is
scored once, beside the goals that were set.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Column, Table

from dsaml.config import DIMENSIONS
from dsaml.data.annotations import Annotation
from dsaml.data.base import with_flat
from dsaml.data.render import rendered_with
from dsaml.errors import DsamlError
from dsaml.evaluate import bootstrap, metrics, protocols
from dsaml.evaluate.floors import CONSTANT, FLAT_TOO, SUPPORT_LAST, SUPPORT_MEAN, floor_answers, spread
from dsaml.evaluate.metrics import LEVEL_AND_SHAPE
from dsaml.evaluate.scores import Answer, Question, about_rest
from dsaml.experiment.average_listener import (
    GAINS,
    HEADS,
    JOINED,
    Asked,
    Heads,
    Room,
    averaged,
    choose,
    hear,
    mean_score,
)
from dsaml.experiment.results import provenance, write_result
from dsaml.experiment.run import Experiment
from dsaml.learn.batches import SongStore
from dsaml.learn.training import cross_song_tasks
from dsaml.listeners.heads import Heard, TwoHeads, fit_heads, left_out
from dsaml.listeners.prefix import PrefixState, fit_prefix, state_of
from dsaml.listeners.shrinkage import Shrinkage, fit_shrinkage, traits_of

log = logging.getLogger(__name__)

FEWEST = 24  # labels of a track whose first half is known and whose second half is asked for
SHIFTED = "two heads + the song's offset"
OFFSET, ALL = "two heads, shrunken offset", "two heads, shrunken offset, gain and range"
LAST = "two heads + last deviation"
STATE, STATE_GAINED = "two heads, prefix state", "two heads, prefix state, gain for CCC"
def summary(table: pd.DataFrame, reference: str) -> dict[str, Any]:
    """Means with crossed intervals of every row, and the paired differences from ``reference`` in RMSE and CCC."""
    crossed, rows = bootstrap.CrossedScores(table), {}

    def cell(method: str, d: str) -> dict[str, Any]:
        values = {score: crossed.of(method, d, score) for score in LEVEL_AND_SHAPE}
        if method != reference:
            values |= {f"{score}_above": values[score] - crossed.of(reference, d, score) for score in ("rmse", "ccc")}
        found = {name: bootstrap.interval(each) for name, each in values.items()}
        return {name: {key: round(one[key], 5) for key in ("mean", "low", "high")} for name, one in found.items()}

    for method in crossed.methods:
        rows[method] = {d: cell(method, d) for d in DIMENSIONS}
    asked = table.drop_duplicates(["annotator", "song"])
    sizes = {"people": asked.annotator.nunique(), "songs": asked.song.nunique(), "curves": len(asked)}
    return {"rows": rows, "reference": reference, **sizes, "flat_curves": int(asked.ccc.isna().sum())}


def _parts(heads: TwoHeads, song: Heard, steps: int) -> tuple[np.ndarray, np.ndarray]:
    return heads.level_of(song), heads.gain * heads.shape_of(song, steps)


def learn_shrinkage(room: Room, others: Heads, steps: int) -> Shrinkage:
    """What comes back from one song to the next, of training and validation people."""
    pairs: list[list[np.ndarray]] = []
    for own in room.tracks("train", "validation").values():
        labels = {s: track.values[:steps] for s, track in own.items() if s in others}
        seen = [traits_of(y, *_parts(others[s], room.songs[s], len(y))) for s, y in labels.items()]
        pairs += [seen[k : k + 2] for k in range(0, len(seen) - 1, 2)]
    if len(pairs) < 3:
        raise DsamlError(f"{room.data.root}: fewer than three people with two songs; nothing is learned about them")
    first, second = np.array(pairs).swapaxes(0, 1)
    return fit_shrinkage(first, second)


def cross_song(room: Room, heads: TwoHeads, others: Heads) -> Asked:
    """One other song of the listener is known; clips, as :mod:`dsaml.evaluate.protocols` asks for them."""
    store = SongStore(room.data, {})  # for labels alone
    learned, floors = learn_shrinkage(room, others, store.steps), floor_answers(room.data, store.steps)
    tasks = cross_song_tasks(store, "test", protocols.SUPPORTS)
    questions, supports = protocols.cross_song_questions(store, tasks), [t.support[0] for t in tasks for _ in t.query]

    def parts(question: Question) -> tuple[np.ndarray, np.ndarray]:
        return _parts(heads, room.songs[question.song], len(question.target))

    seen = {  # of each question: the traits in the known song
        q: traits_of(q.support, *_parts(heads, room.songs[known], len(q.support)))
        for q, known in zip(questions, supports, strict=True)
    }
    answers: dict[str, Answer] = {
        CONSTANT: floors[CONSTANT],
        SUPPORT_MEAN: floors[SUPPORT_MEAN],
        HEADS: lambda q: np.add(*parts(q)),
        SHIFTED: lambda q: np.add(*parts(q)) + seen[q][0],
        OFFSET: lambda q: replace(learned, used=("offset",)).predict([seen[q]], *parts(q)),
        ALL: lambda q: learned.predict([seen[q]], *parts(q)),
    }
    about = {name: getattr(learned, name).tolist() for name in ("mean", "between", "within")}
    return room.table(questions, answers), about | {"factor": learned.factor().tolist()}


def halves(tracks: Mapping[str, Mapping[str, Annotation]]) -> list[Question]:
    """The second half of every track that is long enough."""
    return [about_rest(t, len(t) // 2) for own in tracks.values() for t in own.values() if len(t) >= FEWEST]


def prefix(room: Room, heads: TwoHeads, others: Heads) -> Asked:
    """The first half of a track is known, the second half is asked for."""
    known = [q for q in halves(room.tracks("train", "validation")) if q.song in others]

    def steps(question: Question) -> int:
        return question.first + len(question.target)

    def after(question: Question, curve: np.ndarray, state: PrefixState) -> np.ndarray:
        """The second half of a curve as the state carries it on."""
        seen = state_of(question.support, curve[: question.first])
        return curve[question.first :] + state.deviation(seen, len(question.target))

    longest = {q.song: steps(q) for q in sorted(known, key=steps)}
    by_song = {song: others[song].curve(room.songs[song], count) for song, count in longest.items()}
    rows, targets = [(q, by_song[q.song][: steps(q)]) for q in known], [q.target for q in known]
    state = fit_prefix([state_of(q.support, c[: q.first]) for q, c in rows], [q.target - c[q.first :] for q, c in rows])
    carried, floors = [after(*row, state) for row in rows], floor_answers(room.experiment.dataset)
    last = mean_score(metrics.rmse, [q.support[-1] for q in known], targets)
    gain = np.array(choose(GAINS, lambda g: [spread(c, np.full(2, g)) for c in carried], targets, last))

    def curve(question: Question) -> np.ndarray:
        return heads.curve(room.songs[question.song], steps(question))

    answers: dict[str, Answer] = {
        CONSTANT: floors[CONSTANT],
        HEADS: lambda q: curve(q)[q.first :],
        SUPPORT_MEAN: floors[SUPPORT_MEAN],
        SUPPORT_LAST: floors[SUPPORT_LAST],
        LAST: lambda q: curve(q)[q.first :] + state_of(q.support, curve(q)[: q.first])[0],
        STATE: lambda q: after(q, curve(q), state),
        STATE_GAINED: lambda q: spread(after(q, curve(q), state), gain),
    }
    about = {"gain": gain.tolist(), "decay": list(state.decay), "weights": state.weights.tolist()}
    return room.table(halves(room.tracks("test")), answers), about


QUESTIONS = {"cross-song": (cross_song, HEADS), "prefix": (prefix, SUPPORT_LAST)}
"""What is asked of people: who answers, and the row that the others stand beside."""


def goals(protocols: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was to be shown, what is seen, and whether it is met, by dimension."""

    def cells(protocol: str, row: str, score: str) -> list[float]:
        return [protocols[protocol]["rows"][row][d][score]["mean"] for d in DIMENSIONS]

    def goal(what: str, wanted: str, limits: Sequence[float], seen: Sequence[float], above: bool) -> dict[str, Any]:
        met = [s >= w if above else s < w for s, w in zip(seen, limits, strict=True)]
        return {"what": what, "goal": wanted, "limit": list(limits), "seen": seen, "met": met}

    out = []
    for what, protocol, row, floor, below, least in (
        ("averaged labels", "averaged", JOINED, CONSTANT, "below the constant's", (0.10, 0.12)),
        ("prefix", "prefix", STATE_GAINED, SUPPORT_LAST, "below the last value's", (0.10, 0.10)),
    ):
        limits, seen = cells(protocol, floor, "rmse"), cells(protocol, row, "rmse")
        out.append(goal(f"{what}, {row}: RMSE", below, limits, seen, False))
        out.append(goal(f"{what}, {row}: CCC", "at least", least, cells(protocol, row, "ccc"), True))
    for row in (OFFSET, ALL):
        found = protocols["cross-song"]["rows"][row]
        out.append(harmless(f"cross-song, {row}", {d: found[d]["rmse_above"] for d in DIMENSIONS}))
    return out


def harmless(row: str, above: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The goal that a row's RMSE is not above no adaptation's: the low end of the paired interval, by dimension, is not above 0."""
    seen = [max(above[d]["low"], 0.0) for d in DIMENSIONS]
    what = f"{row}: RMSE above no adaptation, low end of the interval"
    out = {"what": what, "goal": "not above", "limit": [0.0, 0.0], "seen": seen, "met": [low <= 0 for low in seen]}
    return out | {"interval": [above[d] for d in DIMENSIONS]}


def run_listeners(experiment: Experiment, seeds: Sequence[int], results: Path) -> dict[str, Any]:
    """Fit, choose and score everything; write ``listeners-<data set>.json`` into the folder of results.

    ``seeds`` are DSAML's trainings, whose mean stands beside the heads on averaged labels; nothing else is drawn.

    Raises
    ------
    DsamlError
        If the data set has no people with two songs.
    """
    began, data = time.perf_counter(), experiment.dataset
    if not any(data.split.annotators.values()):
        raise DsamlError(f"{data.root}: no labels of single annotators; this is about people")
    room = hear(experiment)
    heads = fit_heads(room.songs, room.labels, room.known)
    others = left_out(room.known, partial(fit_heads, room.songs, room.labels))
    log.info("two heads: penalties %s and %s", heads.level.penalty, heads.shape.penalty)
    chosen: dict[str, Any] = {
        "penalties": {"level": heads.level.penalty.tolist(), "shape": heads.shape.penalty.tolist()},
        "left_out_level_rmse": np.sqrt(heads.level.error).tolist(),
    }
    asked: list[tuple[str, Callable[..., Asked], str, Room]] = [("averaged", partial(averaged, seeds=seeds), CONSTANT, room)]
    asked += [(name, *QUESTIONS[name], room) for name in QUESTIONS]
    if data.flat:  # who never moved has a level: people's own questions once more, fitted and scored with them
        with_them = replace(room, data=with_flat(data))
        asked += [(name + FLAT_TOO, *QUESTIONS[name], with_them) for name in QUESTIONS]
    found = {}
    for title, answer, reference, where in asked:
        table, chosen[title] = answer(where, heads, others)
        found[title] = block = summary(table, reference)
        flat = f", {block['flat_curves']} of them flat and without a CCC" if block["flat_curves"] else ""
        log.info("%s: %d curves%s", title, block["curves"], flat)
    found["averaged"] |= {"people": 0, "songs": found["averaged"]["people"]}  # songs are what was resampled
    payload = {"protocols": found, "chosen": chosen, "goals": goals(found), "audio": rendered_with(data.root)}
    stamp = provenance(experiment.profile, data, seeds=list(seeds), seconds=time.perf_counter() - began)
    write_result(results / f"listeners-{data.name}.json", payload, stamp)
    return payload


def terminal_tables(payload: Mapping[str, Any]) -> list[Table]:
    """One table for each protocol and dimension: RMSE with its paired difference, level error, CCC, CCC of shape."""
    out = []
    for name, block in payload["protocols"].items():
        flat = f", {block['flat_curves']} of them flat (no CCC)" if block["flat_curves"] else ""
        for d in DIMENSIONS:
            caption = f"{block['curves']} curves{flat}; above: {block['reference']}"
            names = ("RMSE", "above [95 %]", "level", "CCC", "shape")
            columns = [Column(each, justify="right", no_wrap=True) for each in names]
            table = Table("", *columns, title=f"{name}, {d}", caption=caption, title_justify="left", caption_justify="left")
            for row, cells in block["rows"].items():
                above = cells[d].get("rmse_above")
                told = "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**above) if above else ""
                rest = [f"{cells[d][score]['mean']:.3f}" for score in LEVEL_AND_SHAPE[1:]]
                table.add_row(row, f"{cells[d]['rmse']['mean']:.3f}", told, *rest)
            out.append(table)
    return out
