"""Live piano performances (Queen Mary University of London, zenodo.org/records/8375588): many clips for each listener.

Written from its documentation and tested on small files in its format; not run on the data itself, whose access is restricted. 51
clips of one minute, 128 participants, points of valence and arousal over time, 20.5 of them a clip and person on average, with a
standard deviation of 29.3.

Not known here: the names of the columns (``COLUMNS`` has the likely ones; 'check' names what it misses), the scale (values off
[-1, 1] are an error that names the scale they seem to have), whether a participant felt the same until their next point, and
whether the record holds the audio.
"""

from __future__ import annotations

from collections.abc import Collection

from dsaml.config import LABEL_START
from dsaml.data.annotations import MEAN, Annotation, at_two_hertz, why_not
from dsaml.data.base import Dataset, Tracks
from dsaml.data.findings import Findings
from dsaml.data.label_tables import Unreadable, find_columns, read_long, read_rows, tracks_in
from dsaml.data.splits import assemble, parts_by_rank

FILE = "Cleaned_ratingspoints_nodup_128p_51samples.csv"
COLUMNS = {
    "clip": ("clip_id", "clip", "sample_id", "sample", "audio_id", "audio", "song_id", "stimulus"),
    "participant": ("participant_id", "participant", "participantid", "user_id", "userid", "pid", "annotator_id"),
    "time": ("time_s", "time", "timestamp", "seconds", "audio_time"),
    "arousal": ("arousal", "a"),
    "valence": ("valence", "v"),
}
"""Names under which a column may stand, whatever its capitals."""

LONGEST_GAP = 10.0  # s between two points at most, where they are brought to 2 Hz
LATEST = 120.0  # s; a clip lasts one minute, so a later time is in another unit
PREFIX = 30  # labels that the prefix protocol gives away: 15 s of the 45 s that are used


def load(found: Findings, name: str) -> Dataset:
    """Load the live piano performances: their table and, for everything but floors, ``audio/<clip>.wav`` (or .mp3, .flac, .ogg).

    A track needs a point by 15.5 s and no more than 10 s between two points from there on; between points, values are
    interpolated linearly to 2 Hz. It ends with its last point: what somebody would have said later is not made up. The split is
    by clip and by participant, each by the hash of the id: 20 % test, 10 % validation.
    """
    path = found.root / FILE
    try:
        clip, participant, *columns = find_columns(read_rows(path)[0], COLUMNS).values()
    except Unreadable as error:
        found.unreadable(path, str(error), error.line)
    found.require(path)
    keys, time = [clip, participant], columns[0]
    table = read_long(found, path, keys, columns)
    if (last := table[time].max()) > LATEST:
        advice = "and a clip lasts one minute; give seconds from the clip's start, in a copy"
        found.unreadable(path, f"column '{time}' goes up to {last:g}, {advice}")
        found.require(path)
    table = table.sort_values([*keys, time], kind="stable")  # nothing says that rows stand in this order
    raw, bad = tracks_in(found, path, table, keys, columns)
    wrong = {key: why_not(track.times, LABEL_START, LONGEST_GAP) for key, track in raw.items()} | bad
    wrong |= {key: f"the name '{MEAN}' is reserved for the averaged label" for key in wrong if key[1] == MEAN}
    for (song, who), reason in wrong.items():
        if reason:
            found.exclude(f"song {song}, annotator {who}", reason)
    known, people = set(table[clip]) - {""}, set(table[participant]) - {""}
    found.counts |= {"clips in the table": len(known), "participants in the table": len(people), "tracks": len(wrong)}
    usable = {key: track for key, track in raw.items() if not wrong[key]}
    labels = (Annotation(*key, *at_two_hertz(track.times, track.values, LABEL_START)) for key, track in usable.items())

    def split(songs: Collection[str], tracks: Tracks) -> dict[str, dict[str, tuple[str, ...]]]:
        return {"songs": parts_by_rank(f"{name}:song", songs)}

    return assemble(found, name, labels, known, found.root / "audio", split, prefix_steps=PREFIX)
