"""Real listeners: averaged labels, another song, a song's rest, asked of the models of :mod:`dsaml.listeners` and of floors.

Everything is chosen and fitted on training and validation songs and people, with heads that had not seen the song; the test part is
scored once, beside the goals that were set.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Column, Table

from dsaml.arena.inputs import slice_statistics
from dsaml.audio.recording import load_waveform
from dsaml.config import DIMENSIONS
from dsaml.data.annotations import Annotation
from dsaml.data.base import Dataset, with_flat
from dsaml.data.render import rendered_with
from dsaml.errors import DsamlError
from dsaml.evaluate import bootstrap, metrics, protocols
from dsaml.evaluate.floors import CONSTANT, FLAT_TOO, SUPPORT_LAST, SUPPORT_MEAN, floor_answers, spread, training_mean
from dsaml.evaluate.metrics import LEVEL_AND_SHAPE
from dsaml.evaluate.scores import UNTRAINED, Answer, Question, about_rest, scores_table
from dsaml.experiment.progress import counter
from dsaml.experiment.results import provenance, write_result
from dsaml.experiment.run import Experiment
from dsaml.learn.batches import SongStore
from dsaml.learn.training import cross_song_tasks
from dsaml.listeners.harmony import chroma
from dsaml.listeners.heads import Heard, TwoHeads, fit_heads, left_out
from dsaml.listeners.prefix import PrefixState, fit_prefix, state_of
from dsaml.listeners.raters import reliability, weighted_labels
from dsaml.listeners.shrinkage import Shrinkage, fit_shrinkage, traits_of

log = logging.getLogger(__name__)

GAINS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""On all movement around the mean: the one with the best CCC on left-out songs whose RMSE there is still below the floor's."""
FEWEST = 24  # labels of a track whose first half is known and whose second half is asked for
HEADS = "two heads"
LEVEL, GAINED, WEIGHTED = "level head", "two heads, gain for CCC", "two heads, weighted raters"
SHIFTED = "two heads + the song's offset"
OFFSET, ALL = "two heads, shrunken offset", "two heads, shrunken offset, gain and range"
LAST = "two heads + last deviation"
STATE, STATE_GAINED = "two heads, prefix state", "two heads, prefix state, gain for CCC"
Heads = Mapping[str, TwoHeads]
"""For each known song the heads that were fitted without it."""
Asked = tuple[pd.DataFrame, dict[str, Any]]
"""A scores table, and what was chosen for it."""


@dataclass(frozen=True)
class Room:
    """A data set with what the heads hear of its songs."""

    experiment: Experiment
    songs: Mapping[str, Heard]
    data: Dataset  # the experiment's, or the same with flat tracks and their people, which have levels

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """Averaged labels (T, 2)."""
        return {song: label.values for song, label in self.experiment.dataset.mean.items() if song in self.songs}

    @cached_property
    def known(self) -> list[str]:
        """Training and validation songs; neighbours stand beside each other."""
        split = self.experiment.dataset.split.songs
        return sorted([*split["train"], *split["validation"]])

    def tracks(self, *parts: str) -> dict[str, dict[str, Annotation]]:
        """The people of some parts, with their labels of these parts' songs."""
        songs = {song for part in parts for song in self.data.split.songs[part]}
        people = {who: self.data.tracks.get(who, {}) for part in parts for who in self.data.split.annotators[part]}
        found = {who: {song: own[song] for song in sorted(songs & own.keys())} for who, own in people.items()}
        return {who: own for who, own in found.items() if own}

    def table(self, questions: Sequence[Question], answers: Mapping[str, Answer]) -> pd.DataFrame:
        """Scores of every answer (level and shape); a track that never moves has no CCC: NaN, which no mean counts."""
        tables = [scores_table(questions, map(say, questions), name, UNTRAINED, LEVEL_AND_SHAPE) for name, say in answers.items()]
        table = pd.concat(tables, ignore_index=True)
        tracks = zip(table.annotator, table.song, strict=True)
        still = [who in self.data.tracks and self.data.tracks[who][song].is_flat for who, song in tracks]
        table.loc[still, ["ccc", "shape"]] = np.nan
        return table


def hear(experiment: Experiment) -> Room:
    """Log-mel statistics from the experiment's features, and chroma from the audio."""
    data, audio, songs = experiment.dataset, experiment.profile.audio, {}
    statistics = {song: slice_statistics(f.log_mel.float()).numpy() for song, f in experiment.features.items()}
    every = np.concatenate([statistics[song] for song in data.split.songs["train"]])
    mean, deviation = every.mean(0), every.std(0) + 1e-6
    with counter("chroma") as progress:
        for done, (song, x) in enumerate(statistics.items(), 1):
            waveform = load_waveform(data.songs[song].audio, audio.sample_rate)
            pitches = chroma(waveform, audio.sample_rate, len(x), audio).numpy()
            songs[song] = Heard((x - mean) / deviation, pitches)
            progress(done, len(statistics))
    return Room(experiment, songs, data)


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


def choose_gain(
    curves: Callable[[float], Sequence[np.ndarray]], targets: Sequence[np.ndarray], floor: np.ndarray
) -> np.ndarray:
    """For each dimension the gain of ``GAINS`` with the best mean CCC on left-out songs, its mean RMSE below ``floor`` (2,)."""
    found = [[_mean(score, curves(gain), targets) for score in (metrics.ccc, metrics.rmse)] for gain in GAINS]
    ccc, rmse = np.array(found).swapaxes(0, 1)  # (gains, 2) each
    ccc[(rmse >= floor) & (np.array(GAINS) > 1)[:, None]] = -1
    return np.array(GAINS)[ccc.argmax(0)]


def _mean(score: Callable[..., np.ndarray], curves: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
    """The mean score of curves, (T, 2) or (2,) for all steps: (2,)."""
    return np.mean([score(np.broadcast_to(c, y.shape).T, y.T) for c, y in zip(curves, targets, strict=True)], 0)


def averaged(room: Room, heads: TwoHeads, others: Heads) -> Asked:
    """Averaged labels of the test songs, each as long as it is; the "annotator" is the song."""
    data, known = room.experiment.dataset, room.known
    targets = [room.labels[s] for s in known]
    floor = _mean(metrics.rmse, [training_mean(data)] * len(known), targets)
    gain = choose_gain(
        lambda g: [replace(others[s], gain=g).curve(room.songs[s], len(y)) for s, y in zip(known, targets, strict=True)],
        targets,
        floor,
    )
    weighted, about = weigh_raters(room, others)

    def curve(own: TwoHeads, question: Question) -> np.ndarray:
        return own.curve(room.songs[question.song], len(question.target))

    answers: dict[str, Answer] = {
        CONSTANT: floor_answers(data)[CONSTANT],
        LEVEL: lambda q: np.broadcast_to(heads.level_of(room.songs[q.song]), q.target.shape),
        HEADS: partial(curve, heads),
        GAINED: partial(curve, replace(heads, gain=gain)),
        WEIGHTED: partial(curve, weighted),
    }
    table = room.table(protocols.dmer_questions(SongStore(data, {})), answers)
    return table.assign(annotator=table.song, song=""), {"gain": gain.tolist(), "weighted_raters": about}


def weigh_raters(room: Room, others: Heads) -> tuple[TwoHeads, dict[str, Any]]:
    """Heads on labels in which raters count as they are reliable, and whether left-out songs are better for it.

    Reliability is learned anew wherever songs are left out, and what is left out is scored against the plain averaged label. A song
    that fewer than two of these raters have keeps its averaged label.
    """
    tracks, labels, known = room.tracks("train", "validation"), room.labels, room.known

    def fit(names: Sequence[str]) -> tuple[TwoHeads, np.ndarray]:
        own = {who: {s: mine[s].values for s in names if s in mine} for who, mine in tracks.items()}
        found = reliability(own)
        weighted = {s: y[: len(labels[s])] for s, y in weighted_labels(own, found.weights).items()}
        return fit_heads(room.songs, labels | weighted, names), found.comes_back

    def error(heads: Heads) -> np.ndarray:
        curves = [heads[s].curve(room.songs[s], len(labels[s])) for s in known]
        return _mean(metrics.rmse, curves, [labels[s] for s in known])

    plain, weighted = error(others), error(left_out(known, lambda names: fit(names)[0]))
    heads, comes_back = fit(known)
    about = {"used": weighted < plain, "left_out_rmse": weighted, "left_out_rmse_unweighted": plain, "comes_back": comes_back}
    return heads, {"raters": len(tracks)} | {name: value.tolist() for name, value in about.items()}


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
    last = _mean(metrics.rmse, [q.support[-1] for q in known], targets)
    gain = choose_gain(lambda g: [spread(c, np.full(2, g)) for c in carried], targets, last)

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

QUESTIONS = {"averaged": (averaged, CONSTANT), "cross-song": (cross_song, HEADS), "prefix": (prefix, SUPPORT_LAST)}
"""Who answers, and the row that the others stand beside."""


def goals(protocols: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was to be shown, what is seen, and whether it is met, by dimension."""

    def cells(protocol: str, row: str, score: str) -> list[float]:
        return [protocols[protocol]["rows"][row][d][score]["mean"] for d in DIMENSIONS]

    def goal(what: str, wanted: str, limits: Sequence[float], seen: Sequence[float], above: bool) -> dict[str, Any]:
        met = [s >= w if above else s < w for s, w in zip(seen, limits, strict=True)]
        return {"what": what, "goal": wanted, "limit": list(limits), "seen": seen, "met": met}

    out = []
    for what, protocol, row, floor, below, least in (
        ("averaged labels", "averaged", GAINED, CONSTANT, "below the constant's", (0.10, 0.12)),
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


def run_listeners(experiment: Experiment, results: Path) -> dict[str, Any]:
    """Fit, choose and score everything; write ``listeners-<data set>.json`` into the folder of results.

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
    asked = [(name, name, room) for name in QUESTIONS]
    if data.flat:  # who never moved has a level: people's own questions once more, fitted and scored with them
        with_them = replace(room, data=with_flat(data))
        asked += [(name + FLAT_TOO, name, with_them) for name in ("cross-song", "prefix")]
    found = {}
    for title, name, where in asked:
        answer, reference = QUESTIONS[name]
        table, chosen[title] = answer(where, heads, others)
        found[title] = block = summary(table, reference)
        flat = f", {block['flat_curves']} of them flat and without a CCC" if block["flat_curves"] else ""
        log.info("%s: %d curves%s", title, block["curves"], flat)
    found["averaged"] |= {"people": 0, "songs": found["averaged"]["people"]}  # songs are what was resampled
    payload = {"protocols": found, "chosen": chosen, "goals": goals(found), "audio": rendered_with(data.root)}
    stamp = provenance(experiment.profile, data, seeds=[], seconds=time.perf_counter() - began)  # nothing is drawn
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
