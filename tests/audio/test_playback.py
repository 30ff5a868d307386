"""Copies to listen to: as loud as a standard says, no peak beyond the ceiling, one gain for everything where that is possible."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile as sf

from dsaml.audio import playback

RATE = 48_000
TIME = np.arange(4 * RATE) / RATE


def sine(level: float, hertz: float = 997.0, seconds: float = 4.0) -> np.ndarray:
    """A sine whose peak is ``level`` dBFS."""
    return 10 ** (level / 20) * np.sin(2 * np.pi * hertz * TIME[: round(seconds * RATE)])


@pytest.mark.parametrize("level", [0.0, -23.0])
def test_the_standard_s_own_example(level: float) -> None:
    """BS.1770: a sine of 997 Hz at 0 dBFS in one channel reads -3.01 LUFS."""
    assert playback.loudness(sine(level), RATE) == pytest.approx(level - 3.01, abs=0.1)


def test_silence_between_sounds_does_not_count() -> None:
    """BS.1770 gates blocks that are far below the rest; a mean over everything would be 3 dB lower."""
    half = np.concatenate([sine(-20), np.zeros(4 * RATE)])
    assert playback.loudness(half, RATE) == pytest.approx(-23.01, abs=0.3)
    assert playback.swing(half, RATE) == float("inf")
    assert playback.swing(np.concatenate([sine(-20, seconds=3), sine(-26, seconds=3)]), RATE) == pytest.approx(
        6, abs=0.1
    )


@pytest.mark.parametrize("sound", [np.zeros(RATE), np.zeros(0), sine(-6, seconds=0.2), 1e-6 * sine(0)])
def test_what_has_no_loudness_is_left_as_it_is(sound: np.ndarray) -> None:
    assert playback.loudness(sound, RATE) == float("-inf")
    assert np.array_equal(playback.for_playback(sound, RATE), sound)


def test_a_peak_between_samples_is_seen() -> None:
    """A sine of a quarter of the rate that is sampled 45 degrees from its tops: its samples are 3 dB lower."""
    between = np.sin(np.pi / 2 * np.arange(RATE) + np.pi / 4)
    assert np.abs(between).max() == pytest.approx(0.707, abs=1e-3)
    assert playback.true_peak(between, RATE) == pytest.approx(0, abs=0.3)
    assert playback.true_peak(np.zeros(10), RATE) == float("-inf")


def test_room_for_the_peaks_means_one_gain() -> None:
    quiet = sine(-40) * (1 + 0.5 * np.sin(2 * np.pi * TIME))
    copy = playback.for_playback(quiet, RATE)
    assert playback.loudness(copy, RATE) == pytest.approx(playback.TARGET, abs=0.1)
    assert np.allclose(copy / copy.max(), quiet / quiet.max(), atol=1e-6)


def test_a_bell_in_a_quiet_song_is_lowered_and_nothing_else() -> None:
    song, bell = sine(-30), slice(RATE, RATE + RATE // 200)
    song[bell] += sine(-4, 440)[bell]
    assert (
        playback.true_peak(song, RATE) - playback.loudness(song, RATE) > 20
    )  # one gain alone would leave it far too quiet
    copy = playback.for_playback(song, RATE)
    assert playback.loudness(copy, RATE) == pytest.approx(playback.TARGET, abs=0.5)
    assert playback.true_peak(copy, RATE) < playback.CEILING
    ratio = copy[2 * RATE :] / song[2 * RATE :].clip(min=1e-9)
    heard = song[2 * RATE :] > 1e-3
    assert np.ptp(ratio[heard]) < 1e-6 * ratio[heard].max()  # away from the bell: one gain
    stream = io.BytesIO()
    playback.encode_playback(stream, song, RATE)
    stream.seek(0)
    assert playback.true_peak(*sf.read(stream)) < playback.CEILING


def test_a_click_that_needs_more_than_the_limiter_gives_leaves_the_sound_below_the_target() -> None:
    song = sine(-60)
    song[RATE] = 1.0
    copy = playback.for_playback(song, RATE)
    assert playback.loudness(copy, RATE) < playback.TARGET - 5 and playback.true_peak(copy, RATE) < playback.CEILING
