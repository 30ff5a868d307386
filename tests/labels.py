"""Label files in DEAM's layout from arrays."""

import json
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
