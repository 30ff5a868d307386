"""DEAM (Aljanaki, Yang and Soleymani 2017) in its archives' own layout; the embedded corpus is written in it too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from dsaml.config import CLIP_STEPS, DIMENSIONS
from dsaml.data.annotations import FLAT, MEAN, Annotation
from dsaml.data.base import PARTS, Dataset, Split, Tracks
from dsaml.data.findings import Findings, by_number
from dsaml.data.label_tables import Wide, read_wide
from dsaml.data.splits import committed, draw, drawn_parts, select_people
from dsaml.errors import DsamlError
from dsaml.io import read_json

MARKER = "corpus.json"  # of an embedded corpus
CORPUS_NAMES = {"two-signs": "synthetic", "continuous": "stress"}  # the data set's name by its population
AUDIO, LABELS = Path("DEAM_audio", "MEMD_audio"), Path("DEAM_Annotations", "annotations")
AVERAGED = Path("annotations averaged per song", "dynamic (per second annotations)")
RATERS = Path("annotations per each rater", "dynamic (per second annotations)")
LAST_CLIP = 2000  # ids above it are the 58 full songs, the paper's test set
FIT = 0.5  # least correlation of the averaged label with the mean over its annotators, all songs pooled
VALIDATION_ANNOTATORS = 15  # % of those who are not for test
MIN_SONGS = {"train": 16, "validation": 2, "test": 16}
"""Fewest songs, within the part, of an annotator who is kept: 1 support + 15 query, or 1 + 1 for validation."""

Tables = Mapping[str, Wide]
"""The tables of both dimensions."""


def _unpacked(root: Path, folder: Path) -> Path:
    """A folder of an archive, which may have been unpacked without the archive's own folder."""
    return root / folder.name if (root / folder.name).is_dir() else root / folder


def audio_folder(root: Path) -> Path:
    """``DEAM_audio/MEMD_audio``, or ``MEMD_audio``."""
    return _unpacked(root, AUDIO)


def mean_file(root: Path, dimension: str) -> Path:
    """The averaged labels of all songs, ``dimension`` "arousal" or "valence"."""
    return _unpacked(root, LABELS) / AVERAGED / f"{dimension}.csv"


def rater_folder(root: Path, dimension: str) -> Path:
    """The folder with one file per song of every annotator's labels."""
    return _unpacked(root, LABELS) / RATERS / dimension


def is_test(song_id: str) -> bool:
    """The paper's test set: the full songs, ids above 2000."""
    return song_id.isdecimal() and int(song_id) > LAST_CLIP


def load(found: Findings, name: str) -> Dataset:
    """Load DEAM, or anything else written in its layout.

    ``found.root`` holds ``DEAM_Annotations/`` and, for everything but floors, ``DEAM_audio/`` (the archives' own folders). With a
    ``corpus.json`` it is an embedded corpus, which has a name and a split of its own and is never called real. Otherwise ids above
    2000 are test and the rest is split by ``data/splits/deam.json``; annotators with enough test songs are for test, of the others
    the hash of the id sends 15 % to validation. Labels are in [-1, 1]; ``mean`` keeps songs that have no audio.
    """
    root, split, real = found.root, None, not (found.root / MARKER).is_file()
    if not real:
        found.notice(root / MARKER, "this is the embedded corpus: simulated listeners, not DEAM")
        name, split = read_marker(root)
    averaged = {d: read_wide(found, mean_file(root, d), "song_id") for d in DIMENSIONS}
    mean, known = _averaged_labels(found, averaged)
    tracks = _annotators_labels(found, averaged, mean, known)
    songs = found.pair_audio(audio_folder(root), mean, known)
    found.require(*(table.path for table in averaged.values()))
    parts = split.songs if split else committed("deam", mean, lambda new: drawn_parts("deam:song", new, is_test))
    parts = {part: tuple(i for i in ids if i in mean) for part, ids in parts.items()}

    def drawn(tracks: Tracks) -> dict[str, list[str]]:
        people: dict[str, list[str]] = {part: [] for part in PARTS}
        for who, own in tracks.items():
            tests = len(set(parts["test"]) & own.keys()) >= MIN_SONGS["test"]
            validation = draw("deam:annotator", who) < VALIDATION_ANNOTATORS
            people["test" if tests else "validation" if validation else "train"].append(who)
        return people

    people = select_people(found, tracks, parts, lambda tracks: split.annotators if split else drawn(tracks), MIN_SONGS)
    return Dataset(name=name, real=real, root=root, songs=songs, mean=mean, exclusions=tuple(found.exclusions), **people)


def _pair(found: Findings, tables: Tables, key: str, song: str, who: str) -> Annotation | None:
    """The annotation in one row of both tables, cut to the shorter."""
    column = tables["arousal"].id_column
    subject = f"song {song}" if column == "song_id" else f"song {song}, annotator {who}"
    rows = [tables[d].rows.get(key) for d in DIMENSIONS]
    if None in rows:
        lacking, other = DIMENSIONS if rows[0] is None else DIMENSIONS[::-1]
        bad = next((d for d in DIMENSIONS if key in tables[d].bad), None)
        why = f"the {bad} labels {tables[bad].bad[key]}".replace("labels label", "label") if bad else f"no {lacking} labels"
        found.exclude(subject, why)
        if tables[lacking].path not in found.fatal and key not in tables[lacking].bad:
            there = rows[DIMENSIONS.index(other)]  # None where the other row is there and cannot be used
            place = f" in line {there.line}" if there else ""
            found.error(tables[lacking].path, f"{column} {key} is missing, but {other} has it{place}", kind="length")
        return None
    arousal, valence = (row.values for row in rows)
    steps = min(len(arousal), len(valence))
    if len(arousal) != len(valence):
        said = f"{len(arousal)} arousal but {len(valence)} valence labels"
        shorter = int(len(valence) < len(arousal))
        path, line = tables[DIMENSIONS[shorter]].path, rows[shorter].line
        found.exclude(subject, f"{said}; cut to {steps}")
        if is_test(song) and abs(len(arousal) - len(valence)) == 1:
            found.notice(path, f"{column} {key} has {said}; cut to {steps} on loading", line)
        else:
            found.error(path, f"{column} {key} has {said}; labels are missing or too many", line, "length")
    return Annotation(song, who, rows[0].times[:steps], np.stack([arousal[:steps], valence[:steps]], 1))


def _ids(tables: Tables) -> list[str]:
    """Ids of all rows, usable or not, of both tables."""
    return list(dict.fromkeys(key for table in tables.values() for key in (*table.rows, *table.bad)))


def _averaged_labels(found: Findings, tables: Tables) -> tuple[dict[str, Annotation], list[str]]:
    """The averaged labels of every song that has them, and the ids of all songs in the tables."""
    for d, table in tables.items():
        if len(table.rows) > 2 and all(row.values.min() >= 0 and row.values.max() <= 1 for row in table.rows.values()):
            found.error(table.path, "no label is below 0: the scale seems to be [0, 1], and DEAM's is [-1, 1]", 2, "scale")
        found.counts[f"songs with averaged {d}"] = len(table.rows)
    mean, known = {}, []
    for song in sorted(_ids(tables), key=by_number):
        rows = [table.rows[song] for table in tables.values() if song in table.rows]
        if not song.isdecimal():
            line = rows[0].line if rows else None
            found.error(tables["arousal"].path, f"song_id '{song}' is no whole number", line)
            found.exclude(f"song {song}", "its id is no whole number")
            continue
        known.append(song)
        label = _pair(found, tables, song, song, MEAN)
        if not label:
            continue
        mean[song], steps = label, len(label)
        wanted = f"clips (ids up to {LAST_CLIP}) have" if steps > CLIP_STEPS else "every song of DEAM has at least"
        odd = steps < CLIP_STEPS or (steps > CLIP_STEPS and not is_test(song))
        if odd and len(rows[0].values) == len(rows[1].values):  # otherwise it was said
            message = f"song_id {song} has {steps} labels; {wanted} {CLIP_STEPS}"
            found.error(tables["arousal"].path, message, rows[0].line, "length")
    return mean, known


def _annotators_labels(
    found: Findings, averaged: Tables, mean: Mapping[str, Annotation], known: Collection[str]
) -> dict[str, dict[str, Annotation]]:
    """Each annotator's own labels of the songs in ``mean``, flat ones apart (``found.flat``)."""
    files = _rater_files(found, known)
    beside: dict[str, list[np.ndarray]] = {d: [] for d in files}
    tracks: dict[str, dict[str, Annotation]] = {}
    anonymous, usable, people = [], 0, set()
    for song in sorted({name for named in files.values() for name in named}, key=by_number):
        own = {d: named[song] for d, named in files.items() if song in named}
        tables = {d: read_wide(found, file, "WorkerId", ids_required=False) for d, file in own.items()}
        for d, table in tables.items():
            if table.has_ids and MEAN in table.rows:
                found.error(table.path, f"WorkerId '{MEAN}' is reserved for the averaged label", table.rows[MEAN].line)
            if table.rows and song in averaged[d].rows:
                label, own_labels = averaged[d].rows[song].values, [row.values for row in table.rows.values()]
                steps = min(map(len, [label, *own_labels]))
                beside[d].append(np.stack([label[:steps], np.mean([values[:steps] for values in own_labels], 0)]))
        everybody = f"song {song}, all annotators"
        fatal = next((str(found.fatal[table.path]) for table in tables.values() if table.path in found.fatal), None)
        if fatal or len(tables) < 2:
            found.exclude(everybody, fatal or f"only {next(iter(tables))} labels")
            continue
        if not all(table.has_ids for table in tables.values()):
            anonymous.append(song)
            found.exclude(everybody, "no annotator ids; only the averaged label is used")
            if any(table.has_ids for table in tables.values()):
                bare = next(table for table in tables.values() if not table.has_ids)
                found.error(bare.path, "the column 'WorkerId' is missing, but the other dimension's file has it", 1)
            continue
        steps = len(mean.get(song, ()))
        for who in _ids(tables):
            track = _pair(found, tables, who, song, who)
            if not track:
                continue
            usable, people = usable + 1, people | {who}
            if steps >= CLIP_STEPS and abs(len(track) - steps) > 1:
                message = f"WorkerId {who} has {len(track)} labels, the averaged label has {steps}"
                found.notice(tables["arousal"].path, message, tables["arousal"].rows[who].line)
            if song in mean:
                found.keep_track(tracks, track)
    for d, pairs in beside.items():
        _check_fit(found, d, pairs)
    if files:
        folder = rater_folder(found.root, "arousal")
        found.songs(folder, anonymous, "no annotator ids; only the averaged label is used", "notice")
        found.counts |= {"tracks in the annotators' files": usable, "annotators in the files": len(people)}
    return tracks


def _rater_files(found: Findings, known: Collection[str]) -> dict[str, dict[str, Path]]:
    """The annotators' files by dimension and song; none where their folders are missing."""
    folders = {d: rater_folder(found.root, d) for d in DIMENSIONS}
    missing = [folder for folder in folders.values() if not folder.is_dir()]
    if missing:
        note = found.notice if len(missing) == 2 else found.error
        note(missing[0], "the annotators' own labels are missing, so nothing can be personalized")
    files: dict[str, dict[str, Path]] = {}
    for d, folder in [item for item in folders.items() if item[1] not in missing]:
        every = [f for f in sorted(folder.iterdir()) if not f.name.startswith(".")]
        files[d] = {f.stem: f for f in every if f.suffix == ".csv"}
        for file in every:
            if file.suffix != ".csv":
                found.error(file, "does not belong here; this folder holds <song_id>.csv only")
        found.songs(folder, set(known) - files[d].keys(), "no file of the annotators' own labels")
        if known:
            found.songs(folder, files[d].keys() - set(known), "annotators' labels, but no averaged label")
    return files


def _check_fit(found: Findings, dimension: str, pairs: list[np.ndarray]) -> None:
    """An error if the annotators' mean does not follow the averaged label, as where one of them is negated or shuffled.

    ``pairs`` are averaged label and annotators' mean of each song, (2, T).
    """
    pooled = np.concatenate(pairs, 1) if pairs else np.zeros((2, 0))
    if not pooled.size or not np.isfinite(pooled).all() or pooled.std(1).min() < FLAT:
        return
    r = float(np.corrcoef(pooled)[0, 1])
    if r < FIT:
        against = sum(bool(np.mean((x - x.mean()) * (y - y.mean())) < 0) for x, y in pairs)
        found.error(
            rater_folder(found.root, dimension),
            f"the annotators' {dimension} does not fit the averaged label (r = {r:.2f} over {len(pairs)} songs, {against} of "
            "which run against it); one of the two is negated or belongs to other songs",
            kind="raters",
        )


def read_oracle(folder: Path, songs: Collection[str]) -> dict[str, dict[str, Annotation]]:
    """The noise-free curves of simulated listeners, by listener and song; what is missing or damaged is left out."""
    found, curves = Findings(folder), {}
    for song in songs:
        tables = {d: read_wide(found, folder / d / f"{song}.csv", "WorkerId") for d in DIMENSIONS}
        for who in _ids(tables):
            if curve := _pair(found, tables, who, song, who):
                curves.setdefault(who, {})[song] = curve
    return curves


def read_marker(root: Path) -> tuple[str, Split | None]:
    """Name and split of the embedded corpus whose ``corpus.json`` lies here.

    The default population's name where it names none, and no split where it does not list all songs and annotators.
    """
    name = CORPUS_NAMES["two-signs"]
    try:
        description = read_json(root / MARKER, "corpus", "write one")
        name = CORPUS_NAMES.get(description["config"].get("population"), name)
        parts = [{part: description[kind][part] for part in PARTS} for kind in ("songs", "annotators")]
    except (DsamlError, KeyError, TypeError, AttributeError):
        return name, None
    if not all(isinstance(ids, list) and all(isinstance(i, str) for i in ids) for p in parts for ids in p.values()):
        return name, None
    return name, Split(*({part: tuple(ids) for part, ids in p.items()} for p in parts))
