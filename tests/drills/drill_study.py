"""30 participants at once in a study on 127.0.0.1, whose server is killed (kill -9): no answer is lost or doubled.

python tests/drills/drill_study.py
python tests/drills/drill_study.py --participants 60 --kills 5 --thinking 2
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[k]) for k in (1, 2)]

from study_crowd import crowd, small_study  # noqa: E402

from dsaml.study.steps import steps_of  # noqa: E402


def main() -> int:
    """Run it; 1 if an answer was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--participants", type=int, default=30)
    parser.add_argument("--songs", type=int, default=10)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--thinking", type=float, default=0.3, help="seconds before an answer, at most")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "study"
        made = small_study(folder, songs=options.songs, participants=options.participants, steps=60)
        began = time.perf_counter()
        done = crowd(folder, made, steps_of(made), options.kills, options.thinking)
    wanted = sum(map(len, done["sent"].values()))
    lost = sum(
        a != b for who, own in done["sent"].items() for a, b in zip(own, done["kept"].get(who, []), strict=False)
    )
    lost += wanted - sum(map(len, done["kept"].values()))
    print(
        f"{options.participants} participants, {wanted} answers, {options.kills} kills, {time.perf_counter() - began:.0f} s: "
        f"{lost} lost or changed, {done['rows'] - wanted} doubled; {done['retries']} requests without a reply, "
        f"{done['replays']} answers sent again; p50 {1e3 * np.median(done['seconds']):.0f} ms, "
        f"p95 {1e3 * np.percentile(done['seconds'], 95):.0f} ms, longest {1e3 * max(done['seconds']):.0f} ms"
    )
    return int(lost != 0 or done["rows"] != wanted)


if __name__ == "__main__":
    sys.exit(main())
