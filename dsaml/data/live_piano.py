"""Live piano performances (Queen Mary University of London, zenodo.org/records/8375588): many clips for each listener.

Written from its documentation and tested on small files in its format; not run on the data itself, whose access is restricted. 51
clips of one minute, 128 participants, points of valence and arousal over time, 20.5 of them a clip and person on average, with a
standard deviation of 29.3.

Not known here: the names of the columns (``COLUMNS`` has the likely ones; 'check' names what it misses), the scale (values off
[-1, 1] are an error that names the scale they seem to have), whether a participant felt the same until their next point, and
whether the record holds the audio.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dsaml.config import LABEL_START
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import Dataset
from dsaml.data.columns import find_columns
from dsaml.data.curves import at_two_hertz, mean_of, why_not
from dsaml.data.findings import Findings, by_number
from dsaml.data.label_tables import Long, Unreadable, read_long, read_rows, tracks_in
from dsaml.data.splits import parts_by_rank, people_of, select_people
from dsaml.errors import DsamlError

NAME = "live-piano"
FILE = "Cleaned_ratingspoints_nodup_128p_51samples.csv"
COLUMNS = {
    "participant": ("participant_id", "participant", "participantid", "user_id", "userid", "pid", "annotator_id"),
    "clip": ("clip_id", "clip", "sample_id", "sample", "audio_id", "audio", "song_id", "stimulus"),
    "time": ("time_s", "time", "timestamp", "seconds", "audio_time"),
    "arousal": ("arousal", "a"),
    "valence": ("valence", "v"),
}
"""Names under which a column may stand, whatever its capitals."""

LONGEST_GAP = 10.0  # s between two points at most, where they are brought to 2 Hz
LATEST = 120.0  # s; a clip lasts one minute, so a later time is in another unit
PREFIX = 30  # labels that the prefix protocol gives away: 15 s of the 45 s that are used
MIN_SONGS = {"train": 2, "validation": 2, "test": 2}  # one for support, one for query


def load(root: Path, *, found: Findings | None = None) -> Dataset:
    """Load the live piano performances.

    A track needs a point by 15.5 s and no more than 10 s between two points from there on; between points, values are
    interpolated linearly to 2 Hz. It ends with its last point: what somebody would have said later is not made up. The averaged
    label is the mean over the participants who are there at each step, flat tracks included.

    Parameters
    ----------
    root : Path
        Holds ``Cleaned_ratingspoints_nodup_128p_51samples.csv`` and, for everything but floors, ``audio/<clip>.wav`` (or .mp3,
        .flac, .ogg).
    found : Findings, optional
        Gets everything that is wrong.

    Returns
    -------
    Dataset
        Split by clip and by participant, each by the hash of the id: 20 % test, 10 % validation.

    Raises
    ------
    DsamlError
        If the table cannot be read, or no track can be used.
    """
    root = Path(root)
    found = found or Findings(root)
    path = root / FILE
    try:
        named = find_columns(read_rows(path)[0], COLUMNS)
    except Unreadable as error:
        raise DsamlError(str(found.error(path, str(error), error.line, "table"))) from error
    keys, time = (named["clip"], named["participant"]), named["time"]
    table = read_long(found, path, keys, [time, named["arousal"], named["valence"]])
    if np.nanmax(table.columns[time], initial=0) > LATEST:
        last = np.nanmax(table.columns[time])
        message = f"column '{time}' goes up to {last:g}, and a clip lasts one minute; give seconds from the clip's start, in a copy"
        raise DsamlError(str(found.error(path, message)))
    raw, bad = tracks_in(found, _in_order(table, (*keys, time)), keys, time, named["arousal"], named["valence"])
    for column in (named["arousal"], named["valence"]):
        found.scale(path, table.lines, table.columns[column], -1, 1)
    by_song: dict[str, dict[str, Annotation]] = {}
    tracks: dict[str, dict[str, Annotation]] = {}
    wrong = {key: why_not(track, LABEL_START, LONGEST_GAP) for key, track in raw.items()} | bad
    wrong |= {key: f"the name '{MEAN}' is reserved for the averaged label" for key in wrong if key[1] == MEAN}
    for (clip, who), reason in wrong.items():
        if reason:
            found.exclude(f"song {clip}, annotator {who}", reason)
        else:
            label = Annotation(clip, who, *at_two_hertz(raw[clip, who], LABEL_START))
            by_song.setdefault(clip, {})[who] = label
            found.keep_track(tracks, label)
    mean = {clip: mean_of(clip, by_song[clip]) for clip in sorted(by_song, key=by_number)}
    known, people = set(table.columns[keys[0]]) - {""}, set(table.columns[keys[1]]) - {""}
    found.counts |= {"clips in the table": len(known), "participants in the table": len(people), "tracks": len(wrong)}
    found.counts["tracks that can be used"] = sum(map(len, by_song.values()))
    audio = root / "audio"
    songs = found.pair_audio(audio, audio.iterdir() if audio.is_dir() else (), mean, known)
    if not mean:
        raise DsamlError(f"{path}: no track can be used; 'python -m dsaml check --dataset {NAME} --root {root}' says why")
    parts = parts_by_rank(f"{NAME}:song", mean)
    people = select_people(found, tracks, parts, lambda found, tracks: people_of(tracks, parts, NAME, MIN_SONGS), MIN_SONGS)
    exclusions = tuple(found.exclusions)
    return Dataset(name=NAME, real=True, root=root, songs=songs, mean=mean, exclusions=exclusions, prefix_steps=PREFIX, **people)


def _in_order(table: Long, columns: tuple[str, ...]) -> Long:
    """The rows in the order of clip, participant and time: nothing says that they stand so."""
    order = np.lexsort([table.columns[column] for column in reversed(columns)])
    return Long(table.path, {name: values[order] for name, values in table.columns.items()}, table.lines[order])
