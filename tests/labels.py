"""Label files in DEAM's layout from arrays."""

import json
import struct
from pathlib import Path

import numpy as np

from dsaml.config import DIMENSIONS
from dsaml.data import deam


def write_tables(root: Path, tracks: dict[str, dict[str, np.ndarray]]) -> None:
    """DEAM's label files from {song: {annotator: (T, 2)}}."""
    for k, d in enumerate(DIMENSIONS):
        width = max(len(v) for song in tracks.values() for v in song.values())
        times = [f"sample_{15000 + 500 * i}ms" for i in range(width)]
        means = [",".join(["song_id", *times])]
        for song, people in tracks.items():
            n = len(next(iter(people.values())))
            rows = [",".join([who, *(f"{x:.6f}" for x in v[:, k])]) for who, v in people.items()]
            path = deam.rater_folder(root, d) / f"{song}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join([",".join(["WorkerId", *times[:n]]), *rows]) + "\n")
            mean = np.mean([v[:, k] for v in people.values()], 0)
            means.append(",".join([song, *(f"{x:.6f}" for x in mean), *[""] * (width - n)]))
        path = deam.mean_file(root, d)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(means) + "\n")


def curve(rng: np.random.Generator, steps: int) -> np.ndarray:
    return 0.8 * np.sin(np.arange(steps)[:, None] / rng.uniform(5, 15, 2) + rng.uniform(0, 6, 2))


def write_corpus(root: Path) -> None:
    """18 training and 16 test songs (one of them long) in DEAM's layout, marked as simulated, three annotators each."""
    rng = np.random.default_rng(0)
    songs = {str(i): [f"a{k}" for k in range(3)] for i in range(1001, 1019)}
    songs |= {str(i): [f"t{k}" for k in range(3)] for i in range(2001, 2017)}
    write_tables(root, {s: {w: curve(rng, 60 if s != "2016" else 90) for w in who} for s, who in songs.items()})
    parts = {"train": [s for s in songs if s < "2"], "validation": [], "test": [s for s in songs if s > "2"]}
    people = {"train": ["a0", "a1", "a2"], "validation": [], "test": ["t0", "t1", "t2"]}
    marker = {"synthetic": True, "config": {}, "files": [], "complete": True, "songs": parts, "annotators": people}
    (root / "corpus.json").write_text(json.dumps(marker))


def midi(tempos: list[tuple[int, int]], beats: int, division: int = 96) -> bytes:
    """A MIDI file of one track that lasts ``beats`` quarter notes; ``tempos`` are (quarter note, microseconds a quarter)."""

    def variable(value: int) -> bytes:
        parts = [value & 0x7F]
        while value := value >> 7:
            parts.insert(0, value & 0x7F | 0x80)
        return bytes(parts)

    events = [(beat, b"\xff\x51\x03" + micro.to_bytes(3, "big")) for beat, micro in tempos]
    events += [
        (0, b"\xf0\x02\x01\xf7"),
        (0, b"\xc0\x00"),
        (0, b"\x90\x3c\x40"),
        (beats, b"\x3c\x00"),
        (beats, b"\xff\x2f\x00"),
    ]
    track, now = b"", 0
    for beat, event in sorted(events, key=lambda item: item[0]):
        track, now = track + variable((beat - now) * division) + event, beat
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, division, b"MTrk", len(track)) + track


def write_vgmidi(root: Path, pieces: int = 16, people: int = 4, length: int = 24) -> None:
    """VGMIDI's layout: ``pieces`` in each file, each pair of neighbours rated by ``people``, one label in 2 s."""
    told = {"age": "21-25", "country": "US", "gender": "Male", "musicianship": 1, "isKnown": False}
    (root / "annotations").mkdir(parents=True)
    (root / "midi").mkdir()
    rng = np.random.default_rng(0)
    for file in (1, 2):
        facts, annotations = {}, {}
        order = sorted(f"piece{n}" for n in range(pieces))
        for place, piece in enumerate(order):
            facts[piece] = {"midi": f"{file}-{piece}.mid", "duration": 2 * length, "measures": length}
            (root / "midi" / f"{file}-{piece}.mid").write_bytes(midi([(0, 500_000)], 4 * length))
            for k in range(people):
                values = {d: [round(float(v), 2) for v in curve(rng, length)[:, 0]] for d in DIMENSIONS}
                annotations[f"{piece}_{k}"] = told | {"ex1_description": f"{place // 2} {k}"} | values
        document = {"annotations": annotations, "pieces": facts}
        (root / "annotations" / f"vgmidi_raw_{file}.json").write_text(json.dumps(document))
