"""What the book's player shows and plays: six songs, five listeners, the model before and after it saw one song of each listener.

Chosen by rules, not by ear. Listeners: the two of the opening figure, who are farthest apart, then those at three places of the
order by what personalization gains over all songs. Songs: at even distances in the order of how much listeners differ; the first
one shown is the steadiest, which can be played to a room.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsaml.audio.playback import encode_playback, swing
from dsaml.audio.recording import excerpt
from dsaml.experiment.cases import MEAN_LABEL, TRUTH, Case, by_listener
from dsaml.experiment.recipes import MAML_ANNOTATOR
from dsaml.experiment.results import rounded
from dsaml.experiment.rows import BEFORE
from dsaml.experiment.run import Experiment
from dsaml.plots.style import LISTENER_COLORS

SONGS = 6
GAINS = (1.0, 0.5, 0.0)  # places in the order of gains; 1 is the largest
PEAKS = 600  # of the drawn waveform
DIGITS = 3  # of curves


def peaks(waveform: np.ndarray) -> list[float]:
    """Largest absolute value of ``PEAKS`` equal parts of a waveform (samples,)."""
    return [round(float(np.abs(part).max()), 3) for part in np.array_split(waveform, PEAKS)]


def disagreement(cases: list[Case]) -> dict[str, float]:
    """How much listeners differ (SD over them, mean over time and dimensions) on each query song, most first."""
    curves: dict[str, list[np.ndarray]] = {}
    for case in cases:
        curves.setdefault(case.song, []).append(case.curves[TRUTH])
    spread = {song: float(np.std(of_song, axis=0).mean()) for song, of_song in curves.items()}
    return dict(sorted(spread.items(), key=lambda item: -item[1]))


def shown_listeners(cases: list[Case], pair: Sequence[str]) -> list[str]:
    """``pair``, then the listeners at the places ``GAINS`` of the order by mean gain in CCC over their songs, who are not in it."""
    gains = {who: float(np.mean([case.gain()[0] for case in own])) for who, own in by_listener(cases).items()}
    ordered = sorted((who for who in gains if who not in pair), key=gains.__getitem__)
    places = [round(place * (len(ordered) - 1)) for place in GAINS]
    return [*pair, *(ordered[place] for place in dict.fromkeys(places) if ordered)]


def shown_songs(cases: list[Case], listeners: Sequence[str]) -> list[str]:
    """``SONGS`` songs at even distances in the order of :func:`disagreement`, of those that are predicted for all ``listeners``."""
    predicted = {(case.annotator, case.song) for case in cases}
    common = [song for song in disagreement(cases) if all((who, song) in predicted for who in listeners)]
    places = np.unique(np.linspace(0, len(common) - 1, SONGS).round().astype(int)) if common else []
    return [common[place] for place in places]


def song_entry(song: str, cases: list[Case], listeners: Sequence[str]) -> dict[str, Any]:
    """The curves of a song: all listeners' own ones and the average, the model before, and after one song of each of ``listeners``.

    A listener of whom the model saw this very song has no entry in ``shown``.
    """
    of_song = {case.annotator: case for case in cases if case.song == song}
    anybody, shown = next(iter(of_song.values())), []
    for who in listeners:
        if who in of_song:
            _, before, after = of_song[who].gain()
            gain = {"ccc_before": round(before, 3), "ccc_after": round(after, 3)}
            shown.append({"id": who, "after": rounded(of_song[who].curves[MAML_ANNOTATOR], DIGITS)} | gain)
    return {
        "id": song,
        "average": rounded(anybody.curves[MEAN_LABEL], DIGITS),
        "before": rounded(anybody.curves[BEFORE], DIGITS),
        "listeners": {who: rounded(case.curves[TRUTH], DIGITS) for who, case in of_song.items()},
        "shown": shown,
    }


def write(experiment: Experiment, cases: list[Case], folder: Path, pair: Sequence[str]) -> dict[str, Any]:
    """Write the clips into ``folder`` and give what the page's script reads; ``pair`` is shown first.

    Returns
    -------
    dict
        ``songs``, the steadiest first and then by how much listeners differ; ``listeners`` (id, color, support); ``supports``, the
        songs from which the model learned those listeners, with the annotator's own curve; ``seconds``, ``step`` and ``start``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store, audio, listeners = experiment.store, experiment.profile.audio, shown_listeners(cases, pair)
    seconds, spread = store.steps * audio.step_seconds, disagreement(cases)
    support = {case.annotator: case.support for case in cases if case.annotator in listeners}

    def entry(song: str) -> dict[str, Any]:
        waveform, rate = excerpt(experiment.dataset.songs[song].audio, audio.label_start, seconds)
        encode_playback(folder / f"{song}.mp3", waveform, rate)
        about = {"audio": f"{song}.mp3", "peaks": peaks(waveform), "swing": round(swing(waveform, rate), 1)}
        return song_entry(song, cases, listeners) | about

    songs, supports = [], []
    for song in shown_songs(cases, listeners):
        songs.append(entry(song) | {"title": f"song {song}: listeners differ by {spread[song]:.2f}"})
    steadiest = min(songs, key=lambda item: item["swing"], default=None)
    songs.sort(key=lambda item: item is not steadiest)  # the others keep their order
    for song in dict.fromkeys(support.values()):
        people = [who for who in listeners if support[who] == song]
        one = entry(song) | {"title": f"song {song}, annotated by {' and '.join(people)}"}
        one["listeners"] |= {who: rounded(store.track(who, song).values[: store.steps], DIGITS) for who in people}
        supports.append(one)
    who_is = [{"id": who, "color": color, "support": support[who]} for who, color in zip(listeners, LISTENER_COLORS, strict=False)]
    times = {"seconds": seconds, "step": audio.step_seconds, "start": audio.label_start}
    return times | {"listeners": who_is, "songs": songs, "supports": supports}
