"""A score as sound without any program or sound font: the wavetables of the embedded corpus play its notes.

It is no piano: it keeps what a label could follow (pitch, loudness, density, tempo), not a piano's timbre. Velocity v of a note
sets its gain, (v / 127)^2 as General MIDI recommends, and its brightness. Pedals are ignored: a note ends where its key is let go.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile as sf

from dsaml.data.midi import read_score
from dsaml.data.synthetic.sound import SAMPLE_RATE, _note
from dsaml.errors import DsamlError

NAME = "the package's own synthesizer"
LONGEST = 3600.0  # s; a score that lasts longer is damaged, or no piece
SHORTEST = 0.08  # s that a note sounds at least
ATTACK = 0.004  # s
TAIL = 3.0  # s of silence at the end: labels may reach into the rest of their last bar, as FluidSynth's reverberation does
LEVEL = 0.16  # of a note at full velocity, as in the embedded corpus


def play(midi: Path) -> np.ndarray:
    """Play a Standard MIDI File to the end of its longest track, and three seconds of silence.

    Returns
    -------
    ndarray, shape (samples,), float32
        Mono audio at 22 050 Hz, peak below 1.

    Raises
    ------
    DsamlError
        If the file cannot be read, holds no note, or lasts more than an hour.
    """
    score = read_score(midi)
    seconds = float(score.seconds(np.array([score.end]))[0])
    if not len(score.notes) or not seconds:
        raise DsamlError(f"{midi}: holds no note; get the data set again")
    if seconds > LONGEST:
        raise DsamlError(f"{midi}: lasts {seconds / 3600:.1f} hours, more than one; get the data set again")
    out = np.zeros(int(np.ceil((seconds + TAIL) * SAMPLE_RATE)), np.float32)
    starts, ends = score.seconds(score.notes[:, 0]), score.seconds(score.notes[:, 1])
    for start, end, key, velocity in zip(starts, ends, *score.notes[:, 2:].T, strict=True):
        length = max(end - start, SHORTEST)
        _note(out, start, float(key), length, (velocity / 127) ** 2, velocity / 64 - 1, ATTACK)
    return np.tanh(LEVEL * out)


def play_into(midi: Path, target: Path) -> None:
    """Write what :func:`play` gives as a FLAC file."""
    sf.write(target, play(midi), SAMPLE_RATE, format="FLAC")
