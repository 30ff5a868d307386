"""Notes of a MIDI file, and what the package's own synthesizer makes of them: length, pitch, loudness, time."""

import struct

import numpy as np
import pytest
from labels import midi

from dsaml.data.midi import read_score
from dsaml.data.render import LONGEST, TAIL, play
from dsaml.data.synthetic.sound import SAMPLE_RATE
from dsaml.errors import DsamlError

DIVISION = 48  # ticks per quarter note: 96 in a second at 120 quarters a minute


def write(path, *tracks: list[tuple[int, bytes]]):
    """A MIDI file of several tracks, each a list of (ticks since the last event, event)."""
    chunks = b""
    for events in tracks:
        body = b"".join(variable(wait) + event for wait, event in [*events, (0, b"\xff\x2f\x00")])
        chunks += struct.pack(">4sI", b"MTrk", len(body)) + body
    path.write_bytes(struct.pack(">4sIHHH", b"MThd", 6, 1, len(tracks), DIVISION) + chunks)
    return path


def variable(value: int) -> bytes:
    out = [value & 0x7F]
    while value := value >> 7:
        out.insert(0, value & 0x7F | 0x80)
    return bytes(out)


def on(key: int, velocity: int = 100, channel: int = 0) -> bytes:
    return bytes([0x90 | channel, key, velocity])


def off(key: int, channel: int = 0) -> bytes:
    return bytes([0x80 | channel, key, 64])


def level(sound: np.ndarray, start: float, end: float) -> float:
    """RMS of a stretch, in dB."""
    piece = sound[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
    return 10 * np.log10(np.mean(piece.astype(float) ** 2) + 1e-12)


def strongest(sound: np.ndarray, start: float, end: float) -> float:
    """Frequency (Hz) of the highest peak of a stretch's spectrum."""
    piece = sound[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
    power = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), 1 << 17))
    return np.argmax(power) * SAMPLE_RATE / (1 << 17)


def test_notes_of_all_tracks_with_every_way_to_end_one(tmp_path):
    tempo = [(0, b"\xff\x51\x03" + (1_000_000).to_bytes(3, "big")), (96, b"\xff\x51\x03" + (250_000).to_bytes(3, "big"))]
    melody = [
        (0, on(60, 80)),
        (0, b"\xb0\x40\x7f"),  # the pedal is ignored
        (10, b"\x90\x3e\x46"),  # key 62
        (10, b"\x3e\x00"),  # running status, velocity 0: let go
        (10, on(60, 90)),  # struck again while it sounds
        (30, off(60)),
        (0, off(61)),  # never struck
        (0, on(64, 20)),  # ends with the track
        (200, b"\xe0\x00\x40"),
    ]
    drums = [(0, on(36, 127, 9)), (5, off(36, 9))]
    score = read_score(write(tmp_path / "a.mid", tempo, melody, drums))
    assert score.notes.tolist() == [[10, 20, 62, 70], [0, 30, 60, 80], [30, 60, 60, 90], [60, 260, 64, 20]]
    assert score.end == 260
    np.testing.assert_allclose(score.seconds(np.array([0, 48, 96, 144, 260])), [0, 1, 2, 2.25, 2 + 164 / 48 / 4])


def test_sound_has_the_length_pitch_and_loudness_of_the_notes(tmp_path):
    notes = [(96, on(57, 127)), (96, off(57)), (0, on(76, 40)), (192, off(76)), (96, b"\xff\x01\x01x")]
    sound = play(write(tmp_path / "a.mid", notes))
    assert sound.dtype == np.float32 and len(sound) / SAMPLE_RATE == pytest.approx(5 + TAIL, abs=0.001)  # to the end of the track
    assert np.abs(sound[: SAMPLE_RATE - 1]).max() == 0 and np.abs(sound[-SAMPLE_RATE + 1 :]).max() == 0  # silence where none sounds
    assert strongest(sound, 1.1, 1.5) == pytest.approx(220, rel=0.005)
    assert strongest(sound, 2.1, 3.0) == pytest.approx(659.26, rel=0.005)
    assert level(sound, 1.1, 1.4) - level(sound, 2.1, 2.9) == pytest.approx(40 * np.log10(127 / 40), abs=1)  # General MIDI
    chord = [(0, on(key, 127)) for key in range(40, 90)]
    assert 0.5 < np.abs(play(write(tmp_path / "b.mid", [*chord, (96, off(40))]))).max() < 1


def test_what_cannot_be_played_is_one_sentence(tmp_path):
    with pytest.raises(DsamlError, match=r"a\.mid: holds no note"):
        play(write(tmp_path / "a.mid", [(0, on(36, 100, 9)), (96, off(36, 9))]))
    hours = int(LONGEST * 96) + 96
    with pytest.raises(DsamlError, match=r"lasts 1\.0 hours"):
        play(write(tmp_path / "a.mid", [(0, on(60)), (hours, off(60))]))
    (tmp_path / "a.mid").write_bytes(midi([], 4)[:-1])
    with pytest.raises(DsamlError, match="is no intact MIDI file"):
        play(tmp_path / "a.mid")
