"""One check per layout: it reads every table and notes every problem; labels are judged, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dsaml.config import CLIP_STEPS, DIMENSIONS, STEP_SECONDS
from dsaml.data import deam, folder, pmemo
from dsaml.data.annotations import MEAN
from dsaml.data.base import PARTS
from dsaml.data.checks.common import Findings
from dsaml.data.label_tables import Row, Wide, read_text, read_wide, tracks_in
from dsaml.data.splits import read_split
from dsaml.errors import DsamlError

FIT = 0.5  # least correlation of the averaged label with the mean over its annotators, all songs pooled


def _flat(rows: Mapping[str, Row]) -> tuple[np.ndarray, np.ndarray]:
    """Line and value of every label of a wide table."""
    if not rows:
        return np.empty(0, int), np.empty(0)
    lines = np.concatenate([np.full(len(r.values), r.line) for r in rows.values()])
    return lines, np.concatenate([r.values for r in rows.values()])


def _lengths(found: Findings, tables: Mapping[str, Wide], who: str, full_song: bool) -> int:
    """Complain where a row is not in both tables, or not equally long; returns the number of usable labels."""
    arousal, valence = (tables[d].rows.get(who) for d in DIMENSIONS)
    column = "song_id" if tables["arousal"].path.stem == "arousal" else "WorkerId"
    if arousal is None or valence is None:
        lacking = DIMENSIONS[0] if arousal is None else DIMENSIONS[1]
        readable = not any(p.fatal for p in tables[lacking].problems)
        if readable and who not in tables[lacking].bad:
            there = arousal or valence  # None where the other row is there and cannot be used
            other = DIMENSIONS[1] if arousal is None else DIMENSIONS[0]
            place = f" in line {there.line}" if there else ""
            message = f"{column} {who} is missing, but {other} has it{place}"
            found.error(tables[lacking].path, message, kind="length")
        return 0
    sizes = len(arousal.values), len(valence.values)
    if sizes[0] != sizes[1]:
        message = f"{column} {who} has {sizes[0]} arousal but {sizes[1]} valence labels"
        shorter = tables[DIMENSIONS[sizes[1] < sizes[0]]]
        path, line = shorter.path, shorter.rows[who].line
        if full_song and abs(sizes[0] - sizes[1]) == 1:
            found.notice(path, f"{message}; cut to {min(sizes)} on loading", line)
        else:
            found.error(path, f"{message}; labels are missing or too many", line, "length")
    return min(sizes)


def check_deam(found: Findings) -> None:
    """Averaged tables, annotators' files and audio, in DEAM's layout."""
    root = found.root
    if (root / "corpus.json").is_file():
        found.notice(root / "corpus.json", "this is the embedded corpus: simulated listeners, not DEAM")
    tables = {d: read_wide(deam.mean_file(root, d), "song_id") for d in DIMENSIONS}
    steps: dict[str, int] = {}
    for d, table in tables.items():
        found.problems += table.problems
        found.scale(table.path, *_flat(table.rows), -1, 1)
        values = _flat(table.rows)[1]
        if len(table.rows) > 2 and values.min() >= 0 and values.max() <= 1:
            found.error(table.path, "no label is below 0: the scale seems to be [0, 1], and DEAM's is [-1, 1]", 2, "scale")
        found.counts[f"songs with averaged {d}"] = len(table.rows)
    songs = list(dict.fromkeys(k for t in tables.values() for k in (*t.rows, *t.bad)))
    for song in songs:
        row = tables["arousal"].rows.get(song) or tables["valence"].rows.get(song)
        if not song.isdecimal():
            found.error(tables["arousal"].path, f"song_id '{song}' is no whole number", row.line if row else None)
            continue
        steps[song] = _lengths(found, tables, song, deam.is_test(song))
        equal = len({len(t.rows[song].values) for t in tables.values() if song in t.rows}) == 1
        if equal and 0 < steps[song] < CLIP_STEPS:
            message = f"song_id {song} has {steps[song]} labels; every song of DEAM has at least {CLIP_STEPS}"
            found.error(tables["arousal"].path, message, row.line, "length")
        elif equal and steps[song] > CLIP_STEPS and not deam.is_test(song):
            message = f"song_id {song} has {steps[song]} labels; clips (ids up to 2000) have {CLIP_STEPS}"
            found.error(tables["arousal"].path, message, row.line, "length")
    _check_raters(found, steps, tables)
    audio_folder = deam.audio_folder(root)
    audio = found.audio_names(audio_folder, audio_folder.iterdir() if audio_folder.is_dir() else [])
    found.pair_audio(audio_folder, audio, steps, steps)
    found.audio = {file: _end(steps.get(song, 0)) for song, file in audio.items()}


def _end(steps: int) -> float:
    return 15.0 + STEP_SECONDS * steps if steps else 0.0


def _check_raters(found: Findings, steps: Mapping[str, int], averaged: Mapping[str, Wide]) -> None:
    folders = {d: deam.rater_folder(found.root, d) for d in DIMENSIONS}
    there = [d for d in DIMENSIONS if folders[d].is_dir()]
    if len(there) < 2:
        lacking = next(d for d in DIMENSIONS if d not in there)
        message = "the annotators' own labels are missing, so nothing can be personalized"
        (found.error if there else found.notice)(folders[lacking], message)
        if not there:
            return
    names = {d: {f.stem: f for f in folders[d].iterdir() if f.name[0] != "."} if d in there else {} for d in DIMENSIONS}
    anonymous, tracks, people = [], 0, set()
    pairs: dict[str, list[np.ndarray]] = {d: [] for d in DIMENSIONS}  # averaged label and raters' mean of each song
    for d in there:
        for file in (f for f in names[d].values() if f.suffix != ".csv"):
            found.error(file, "does not belong here; this folder holds <song_id>.csv only")
        found.songs(folders[d], set(steps) - set(names[d]), "no file of the annotators' own labels")
        if steps:
            found.songs(folders[d], set(names[d]) - set(steps), "annotators' labels, but no averaged label")
    for song in sorted(set(names["arousal"]) | set(names["valence"]), key=deam.number):
        tables = {d: read_wide(names[d][song], "WorkerId", ids_required=False) for d in DIMENSIONS if song in names[d]}
        for table in tables.values():
            found.problems += table.problems
            found.scale(table.path, *_flat(table.rows), -1, 1)
            if table.ids and MEAN in table.rows:
                found.error(table.path, f"WorkerId '{MEAN}' is reserved for the averaged label", table.rows[MEAN].line)
        for d, table in tables.items():
            if table.rows and song in averaged[d].rows:
                rows = [averaged[d].rows[song].values, *(row.values for row in table.rows.values())]
                whole = np.stack([values[: min(map(len, rows))] for values in rows])
                pairs[d].append(np.stack([whole[0], whole[1:].mean(0)]))
        if len(tables) < 2 or any(p.fatal for t in tables.values() for p in t.problems):
            continue
        if not all(t.ids for t in tables.values()):
            anonymous.append(song)
            if any(t.ids for t in tables.values()):
                bare = next(t for t in tables.values() if not t.ids)
                found.error(bare.path, "the column 'WorkerId' is missing, but the other dimension's file has it", 1)
            continue
        for who in dict.fromkeys(k for t in tables.values() for k in (*t.rows, *t.bad)):
            usable = _lengths(found, tables, who, deam.is_test(song))
            tracks, people = tracks + bool(usable), people | ({who} if usable else set())
            if usable and steps.get(song, 0) >= CLIP_STEPS and abs(usable - steps[song]) > 1:
                message = f"WorkerId {who} has {usable} labels, the averaged label has {steps[song]}"
                found.notice(tables["arousal"].path, message, tables["arousal"].rows[who].line)
    for d in there:
        _fit(found, folders[d], pairs[d], d)
    found.songs(folders["arousal"], anonymous, "no annotator ids; only the averaged label is used", "notice")
    found.counts |= {"tracks in the annotators' files": tracks, "annotators in the files": len(people)}


def _fit(found: Findings, path: Path, pairs: list[np.ndarray], dimension: str) -> None:
    """An error if the annotators' mean does not follow the averaged label, as where one of them is negated or shuffled.

    ``pairs`` holds for each song the averaged label and the mean over annotators, (2, T).
    """
    pooled = np.concatenate(pairs, 1) if pairs else np.zeros((2, 0))
    if not pooled.size or not np.isfinite(pooled).all() or pooled.std(1).min() < deam.FLAT:
        return
    r = float(np.corrcoef(pooled)[0, 1])
    if r < FIT:
        against = sum(bool(np.mean((x - x.mean()) * (y - y.mean())) < 0) for x, y in pairs)
        found.error(
            path,
            f"the annotators' {dimension} does not fit the averaged label (r = {r:.2f} over {len(pairs)} songs, {against} of "
            "which run against it); one of the two is negated or belongs to other songs",
            kind="raters",
        )


def check_synthetic(found: Findings) -> None:
    """An embedded corpus: DEAM's layout and a ``corpus.json``."""
    marker = found.root / "corpus.json"
    if not marker.is_file():
        found.error(marker, "missing, so the corpus is not complete; write it with 'python -m dsaml synthesize'")
    else:
        try:
            description = json.loads(marker.read_text(encoding="utf-8"))
            for kind in ("songs", "annotators"):
                lacking = [p for p in PARTS if not isinstance(description[kind].get(p), list)]
                if lacking:
                    found.error(marker, f"'{kind}' lists nothing under '{lacking[0]}'; write the corpus again")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            found.error(marker, f"is damaged ({type(error).__name__}: {error}); write the corpus again")
    check_deam(found)


def check_pmemo(found: Findings) -> None:
    """Metadata, averaged labels, their standard deviations and audio, in PMEmo's layout."""
    root = found.root
    metadata, labels = pmemo.read_metadata(root), pmemo.read_labels(root)
    found.problems += metadata.problems + labels.problems
    duration: dict[str, float] = {}
    if metadata.columns:
        for song, seconds, line in zip(*metadata.columns.values(), metadata.lines.tolist(), strict=True):
            if song in duration:
                found.error(metadata.path, f"musicId {song} appears twice; keep one of the rows", line)
            elif not seconds > 0:
                found.error(metadata.path, f"musicId {song} has the duration {seconds:g} s", line)
            duration[song] = seconds
    ends: dict[str, float] = {}
    bad: set[str] = set()
    if labels.columns:
        tracks, unusable, problems = tracks_in(labels, ["musicId"], "frameTime", pmemo.AROUSAL, pmemo.VALENCE)
        found.problems += problems
        bad = {song for (song,) in unusable}
        for column in (pmemo.AROUSAL, pmemo.VALENCE):
            found.scale(labels.path, labels.lines, labels.columns[column], 0, 1)
        for (song,), track in tracks.items():
            ends[song] = float(track.times[-1])
            jump = np.flatnonzero(np.abs(np.diff(track.times) - STEP_SECONDS) > 1e-6)
            if abs(track.times[0] - 15.5) > 1e-6:
                found.error(labels.path, f"musicId {song} starts at {track.times[0]:g} s, not at 15.5 s", track.line)
            elif len(jump):
                message = f"musicId {song} jumps from {track.times[jump[0]]:g} to {track.times[jump[0] + 1]:g} s"
                found.error(labels.path, f"{message}; times must rise by {STEP_SECONDS} s", track.line + int(jump[0]) + 1)
            if song in duration and ends[song] > duration[song] + STEP_SECONDS:
                message = f"musicId {song} has labels until {ends[song]:g} s but metadata.csv says {duration[song]:g} s"
                found.error(labels.path, message, track.line)
    used = {song for song, seconds in duration.items() if seconds >= pmemo.SHORTEST}
    if labels.columns and duration:
        without = set(duration) - set(ends) - bad
        found.songs(labels.path, without - used, "in metadata.csv, no labels; shorter than 25 s anyway", "notice")
        found.songs(labels.path, without & used, "in metadata.csv, but no labels")
        found.songs(root / "metadata.csv", set(ends) - set(duration), "labels but not in metadata.csv")
    found.counts |= {"songs in metadata.csv": len(duration), "songs with averaged labels": len(ends)}
    found.counts["songs shorter than 25 s (dropped)"] = len(duration) - len(used)
    spread = root / "annotations" / "dynamic_annotations_std.csv"
    if not spread.is_file():
        found.notice(spread, "missing; it holds the standard deviations over annotators, which nothing here needs")
    audio_folder = pmemo.audio_folder(root)
    audio = found.audio_names(audio_folder, audio_folder.iterdir() if audio_folder.is_dir() else [])
    found.pair_audio(audio_folder, audio, used & set(ends), duration)
    found.audio = {file: ends.get(song, 0.0) for song, file in audio.items()}


def check_folder(found: Findings) -> None:
    """One long table, audio files anywhere, and an optional ``splits.json``."""
    root, table = found.root, folder.read_labels(found.root)
    found.problems += table.problems
    both = [root / f"annotations.{kind}" for kind in ("csv", "parquet")]
    if all(p.is_file() for p in both):
        found.notice(both[0], "is not read, because annotations.parquet is there too")
    ends: dict[str, float] = {}
    people, songs, usable = set(), set(), 0
    if table.columns:
        tracks, _, problems = tracks_in(table, folder.KEYS, "time_s", "arousal", "valence")
        found.problems += problems
        songs = set(table.columns["song_id"])
        for column in ("arousal", "valence"):
            found.scale(table.path, table.lines, table.columns[column], -1, 1)
        for (song, who), track in tracks.items():
            wrong = folder.why_not(track)
            if who == MEAN:
                wrong = f"the name '{MEAN}' is reserved for the averaged label; rename it"
            if wrong:
                found.error(table.path, f"song_id {song}, annotator_id {who}: {wrong}", track.line)
            else:
                ends[song] = max(ends.get(song, 0.0), float(track.times[-1]))
                people, usable = people | {who}, usable + 1
    found.counts |= {"songs in the table": len(songs), "tracks that can be used": usable, "annotators": len(people)}
    audio = found.audio_names(root, root.rglob("*"))
    found.pair_audio(root, audio, songs, songs)
    found.audio = {file: ends.get(song, 0.0) for song, file in audio.items()}
    _check_splits(found, root / "splits.json", {"songs": songs, "annotators": people})


def _check_splits(found: Findings, path: Path, there: Mapping[str, set[str]]) -> None:
    if not path.exists():
        return
    text, problem = read_text(path)
    if problem:
        found.problems.append(problem)
        return
    try:
        kinds = ["songs", *(["annotators"] if "annotators" in json.loads(text) else [])]
        for kind in kinds:
            listed = {i for ids in read_split(path, kind).values() for i in ids}
            if there[kind]:
                found.songs(path, listed - there[kind], f"listed under {kind}, but not in the label table", "split")
                found.songs(path, there[kind] - listed, f"in the label table, but listed nowhere under {kind}", "split")
    except DsamlError as error:
        found.error(path, str(error).removeprefix(f"{path}: "), kind="split")
    except (ValueError, TypeError) as error:
        found.error(path, f"is no JSON ({error}); see the README of 'python -m dsaml template'", kind="split")


CHECKS = {
    "deam": check_deam,
    "pmemo": check_pmemo,
    "folder": check_folder,
    "synthetic": check_synthetic,
    "stress": check_synthetic,
}
