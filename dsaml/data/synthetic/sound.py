"""Sound of the embedded corpus: seven controls at 2 Hz become a small piece of music.

Every note is read from a wavetable; nothing is sampled or downloaded. The controls are what simulated listeners react to
(:mod:`dsaml.data.synthetic.corpus`), so each one has to be audible:

============== ==================================================================================
loudness       gain over 22 dB
density        1.1 to 9 plucked notes per second
brightness     how slowly the harmonics fall off
register       melody and chords move over 36 semitones
mode           major with its octave doubled, or minor with a low drone
consonance     clean chords, or a grating cluster, a bowed cymbal and a tremor
percussiveness drums, from none to dominant
============== ==================================================================================

Some songs also toll a bell; what it does to the listeners comes 8 to 15 s later.
"""

from __future__ import annotations

import numpy as np

from dsaml.config import STEP_SECONDS

CONTROLS = ("loudness", "density", "brightness", "register", "mode", "consonance", "percussiveness")
SAMPLE_RATE = 22_050  # Hz

_TABLE = 2048
_MAJOR, _MINOR = ((0, 4, 7), (7, 11, 14), (9, 12, 16), (5, 9, 12)), ((0, 3, 7), (8, 12, 15), (3, 7, 10), (10, 14, 17))


def _wavetables() -> np.ndarray:
    """(5 brightness levels, 4 harmonic limits, table length), each of unit RMS."""
    phase = 2 * np.pi * np.arange(_TABLE) / _TABLE
    tables = np.zeros((5, 4, _TABLE), np.float32)
    for level, slope in enumerate((2.6, 2.0, 1.5, 1.1, 0.7)):
        for row, harmonics in enumerate((3, 6, 12, 24)):
            wave = sum(k**-slope * np.sin(k * phase) for k in range(1, harmonics + 1))
            tables[level, row] = wave / np.sqrt(np.mean(wave**2))
    return tables


_WAVES = _wavetables()


def _decibel(control: float | np.ndarray, low: float, high: float) -> float | np.ndarray:
    """Gain that goes from ``low`` dB at -1 to ``high`` dB at +1: hearing is logarithmic, and so is the model's input."""
    return 10 ** ((low + (high - low) * (control + 1) / 2) / 20)


def add_note(out: np.ndarray, start: float, midi: float, seconds: float, gain: float, brightness: float, attack: float) -> None:
    """Add one note to ``out`` in place."""
    first = int(start * SAMPLE_RATE)
    count = min(int(seconds * SAMPLE_RATE), len(out) - first)
    if count < 64 or gain < 1e-3:
        return
    frequency = 440.0 * 2 ** ((midi - 69) / 12)
    row = int(np.searchsorted((6, 12, 24), 9000 / frequency, side="right"))
    level = int(np.clip(round((brightness + 1) * 2), 0, 4))
    index = (np.arange(count) * (frequency * _TABLE / SAMPLE_RATE)).astype(np.int64) & (_TABLE - 1)
    rise, fall = max(2, int(attack * SAMPLE_RATE)), max(2, count // 2)
    envelope = np.ones(count, np.float32)
    envelope[: min(rise, count)] = np.linspace(0, 1, min(rise, count), dtype=np.float32)
    envelope[-fall:] *= np.linspace(1, 0, fall, dtype=np.float32) ** 2
    out[first : first + count] += (gain * envelope) * _WAVES[level, row, index]


def _drums(out: np.ndarray, rng: np.random.Generator, beats: np.ndarray, control: np.ndarray) -> None:
    """Kick, snare and hat on the beats, as loud as percussiveness says."""
    time = np.arange(int(0.16 * SAMPLE_RATE)) / SAMPLE_RATE
    kick = np.sin(2 * np.pi * (50 * time + 14 * (1 - np.exp(-30 * time)) / 3)) * np.exp(-18 * time)
    noise = rng.standard_normal((4, len(time)))
    snare, hat = noise * np.exp(-24 * time), np.diff(noise, axis=1, prepend=0) * np.exp(-60 * time)
    for number, beat in enumerate(beats):
        level = _decibel(control[min(int(beat / STEP_SECONDS), len(control) - 1)], -22, 5)
        first = int(beat * SAMPLE_RATE)
        room = min(len(time), len(out) - first)
        place = number % 4
        sound = 0.3 * hat[place] + (2.6 * kick if place == 0 else 0) + (1.2 * snare[place] if place == 2 else 0)
        out[first : first + room] += level * sound[:room]


def _bell(out: np.ndarray, start: float) -> None:
    """A loud inharmonic bell of 1.6 s."""
    time = np.arange(int(1.6 * SAMPLE_RATE)) / SAMPLE_RATE
    partials = ((1480, 2.0), (2710, 2.5), (4090, 3.5), (5630, 5.0))  # Hz, decay
    sound = sum(np.sin(2 * np.pi * f * time) * np.exp(-d * time) for f, d in partials)
    first = int(start * SAMPLE_RATE)
    room = min(len(sound), len(out) - first)
    out[first : first + room] += 1.5 * sound[:room]


def render(controls: np.ndarray, bells: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    """Play a song.

    Parameters
    ----------
    controls : ndarray, shape (steps, 7)
        Values in [-1, 1] every 0.5 s, columns as in ``CONTROLS``.
    bells : tuple of float
        Seconds at which the bell tolls.
    rng : numpy Generator
        Chooses key, tempo and melody.

    Returns
    -------
    ndarray, shape (samples,), float32
        Mono audio at 22 050 Hz, peak below 1.
    """
    seconds = len(controls) * STEP_SECONDS
    out = np.zeros(int(seconds * SAMPLE_RATE), np.float32)
    tonic, bar = float(rng.integers(-2, 3)), float(rng.uniform(1.9, 2.2))

    def at(time: float) -> dict[str, float]:
        return dict(zip(CONTROLS, controls[min(int(time / STEP_SECONDS), len(controls) - 1)], strict=True))

    for number, start in enumerate(np.arange(0, seconds - 0.3, bar / 4)):  # chords, four times a bar
        c = at(start)
        chord = (_MAJOR if c["mode"] > 0 else _MINOR)[(number // 4) % 4]
        center = 57 + tonic + 18 * c["register"]
        rough = (1 - c["consonance"]) / 2
        cymbal = rng.standard_normal(int(bar * 0.27 * SAMPLE_RATE)).astype(np.float32)
        length = bar * 0.3
        pad = np.zeros(min(int(length * SAMPLE_RATE), len(out) - int(start * SAMPLE_RATE)), np.float32)
        for interval in chord:
            add_note(pad, 0, center + interval, length, 0.20, c["brightness"] - 0.3, 0.05)
            add_note(pad, 0, center + interval + 12, length, _decibel(c["mode"], -52, -18), 0.4, 0.01)
        add_note(pad, 0, 33 + tonic, length, _decibel(-c["mode"], -40, -6), -0.2, 0.08)  # the drone of minor
        for cluster in (94.3, 95.1, 96.2, 97.4, 98.3):  # a cluster that grates around 2 kHz
            add_note(pad, 0, cluster + tonic, length, _decibel(-c["consonance"], -54, -16), -1.0, 0.02)
        shimmer = np.diff(np.diff(cymbal, prepend=0), prepend=0)[: len(pad)]  # a bowed cymbal, all treble
        pad[: len(shimmer)] += _decibel(-c["consonance"], -66, -30) * shimmer
        tremor = 1 - 0.85 * rough * (0.5 + 0.5 * np.sin(2 * np.pi * 8 * np.arange(len(pad)) / SAMPLE_RATE))
        out[int(start * SAMPLE_RATE) :][: len(pad)] += pad * tremor.astype(np.float32)
    time = 0.0
    while time < seconds - 0.15:  # plucked arpeggio
        c = at(time)
        rate = 3.2 * 2 ** (1.5 * c["density"])
        chord = (_MAJOR if c["mode"] > 0 else _MINOR)[int(time / bar) % 4]
        midi = 69 + tonic + 18 * c["register"] + chord[int(rng.integers(3))]
        add_note(out, time, midi, 0.22, 0.6, 0.6 * c["brightness"], 0.004)
        time += 1 / rate
    _drums(out, rng, np.arange(0, seconds - 0.2, bar / 8), controls[:, CONTROLS.index("percussiveness")])
    gain = 10 ** (11 * (controls[:, 0] - 1) / 20)  # -22 to 0 dB
    sample_times = np.arange(len(out)) / SAMPLE_RATE
    out *= np.interp(sample_times, np.arange(len(gain)) * STEP_SECONDS + STEP_SECONDS / 2, gain).astype(np.float32)
    for start in bells:
        _bell(out, start)
    out *= 0.16
    return np.tanh(out).astype(np.float32)
