"""A predicted curve as files: CSV, JSON, JAMS, a picture, a page that plays. Each says on what the model was trained."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from dsaml import __version__
from dsaml.audio.recording import SECONDS_IN_MEMORY, Recording, encode, load_waveform
from dsaml.config import STEP_SECONDS
from dsaml.errors import DsamlError
from dsaml.io import write_bytes_atomically
from dsaml.listen.curves import COLUMNS, LEGEND, SCALE, SPREADS, in_words, quadrant, warning
from dsaml.listen.front import data_url, inline
from dsaml.plots.curves import one_song

MARK = "dsaml predict"
"""Stands in every picture and page, so that the next one may replace it."""
PLAYED = 44_100  # Hz, of the sound in a page
_DIGITS = 4


def as_csv(curve: pd.DataFrame) -> str:
    """``time_s``, the numbers, the quadrant in words, and on what the model was trained, in every line."""
    words = [quadrant(*pair) for pair in curve[list(COLUMNS[1:])].itertuples(index=False)]
    return curve.assign(quadrant=words, model=curve.attrs["model"]).to_csv(float_format=f"%.{_DIGITS}f")


def _columns(curve: pd.DataFrame) -> dict[str, list[float]]:
    return {name: values.round(_DIGITS).tolist() for name, values in curve.reset_index().items()}


def _told(curve: pd.DataFrame) -> dict[str, Any]:
    """What has to be known beside the numbers."""
    spread = "standard deviation of one label" if SPREADS[0] in curve else "this model gives none"
    told = {**curve.attrs, "scale": SCALE, "uncertainty": spread, "quadrant": in_words(curve)}
    return told | ({"warning": said} if (said := warning(curve)) else {})


def as_json(curve: pd.DataFrame) -> str:
    """One object: what is known of the song and the model, then a list for each column."""
    return json.dumps(_told(curve) | _columns(curve), indent=1) + "\n"


def as_jams(curve: pd.DataFrame) -> str:
    """A JAMS document with one annotation in the namespace ``mood_thayer``, whose values are [valence, arousal].

    Source: Humphrey et al. (2014), JAMS: a JSON annotated music specification; its published schema, version 0.3.
    """
    columns = _columns(curve)
    points = zip(columns["time_s"], columns["valence"], columns["arousal"], strict=True)
    data = [{"time": t, "duration": STEP_SECONDS, "value": [v, a], "confidence": None} for t, v, a in points]
    start, end = columns["time_s"][0], columns["time_s"][-1] + STEP_SECONDS
    metadata = {
        "curator": {"name": "", "email": ""},
        "annotator": {},
        "version": __version__,
        "corpus": "",
        "annotation_tools": f"dsaml {__version__}",
        "annotation_rules": f"{LEGEND}; values are [valence, arousal]",
        "validation": "",
        "data_source": f"model, {curve.attrs['model']}",
    }
    annotation = {
        "namespace": "mood_thayer",
        "annotation_metadata": metadata,
        "time": start,
        "duration": end - start,
        "data": data,
        "sandbox": {name: columns[name] for name in SPREADS if name in columns},
    }
    song = {"title": Path(curve.attrs["song"]).stem, "artist": "", "release": "", "duration": end, "jams_version": "0.3.4"}
    document = {"file_metadata": song | {"identifiers": {}}, "annotations": [annotation], "sandbox": {"dsaml": _told(curve)}}
    return json.dumps(document, indent=1) + "\n"


FORMATS: Mapping[str, Callable[[pd.DataFrame], str]] = {"csv": as_csv, "json": as_json, "jams": as_jams}
"""Texts of a curve, by the ending of their files."""


def write_text(path: Path, curve: pd.DataFrame, kind: str) -> None:
    """Write a curve in one of ``FORMATS``."""
    write_bytes_atomically(path, FORMATS[kind](curve).encode("utf-8", "backslashreplace"))


def write_plot(path: Path, curve: pd.DataFrame) -> None:
    """Write a picture (PNG): both dimensions over time, with the band in which nine of ten labels are expected."""
    figure = one_song(curve, f"{curve.attrs['song']}: {in_words(curve)}", _below(curve))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": MARK})
    plt.close(figure)
    write_bytes_atomically(path, content.getvalue())


def _below(curve: pd.DataFrame) -> str:
    """What stands below every picture."""
    said = warning(curve)
    return f"The model: {curve.attrs['model']}." + (f"\n{said}." if said else "")


def check_playable(song: Path, what: str) -> float:
    """How long a song is, s; a DsamlError if it is unusable, or too long for ``what``: over a quarter of an hour."""
    recording = Recording(song)
    if recording.whole is None:
        raise DsamlError(
            f"{song}: lasts {len(recording) / recording.rate / 60:.0f} minutes, {what} takes songs of up to "
            f"{SECONDS_IN_MEMORY // 60}; cut it into parts"
        )
    return len(recording) / recording.rate


def write_page(path: Path, curve: pd.DataFrame, song: Path) -> None:
    """Write a page (HTML) in which the song plays and its curve moves; all that it needs is inside, nothing is fetched."""
    check_playable(song, "--html")
    start = float(curve.index[0])
    heard = load_waveform(song, PLAYED)[round(start * PLAYED) :].numpy()
    sound = io.BytesIO()
    encode(sound, heard / max(1.0, abs(heard).max()), PLAYED)
    names = [*COLUMNS[1:]], [name for name in SPREADS if name in curve]
    values, sd = (curve[list(part)].round(_DIGITS).to_numpy().tolist() for part in names)
    title = curve.attrs["song"]
    page = {"title": title, "values": values, "sd": sd if names[1] else None, "audio": data_url(sound.getvalue(), "audio/mpeg")}
    data = {
        "seconds": len(curve) * STEP_SECONDS,
        "step": STEP_SECONDS,
        "start": start,
        "songs": [{"id": "0", **page}],
        "notes": [f"On the whole {in_words(curve)}.", f"{LEGEND}.", *_below(curve).splitlines()],
    }
    body = f'<main><h1>{escape(title)}</h1><div id="dsaml-song" class="dp"></div></main>'
    text = inline(title, body, data, ("light.js", "parts.js", "song.js"), MARK)
    write_bytes_atomically(path, text.encode("utf-8", "backslashreplace"))
