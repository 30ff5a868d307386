"""The README's first screen: what came out, with its interval, and one picture; both from the reference run.

``python -m book.builder.readme`` writes them anew; a test says when that is due.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot

from book.builder.markdown import number
from dsaml.colab import REFERENCE
from dsaml.config import DIMENSIONS
from dsaml.errors import DsamlError
from dsaml.experiment.recipes import MAML_ANNOTATOR
from dsaml.experiment.results import read_result
from dsaml.experiment.rows import BEFORE, FINE_TUNED
from dsaml.io import write_bytes_atomically
from dsaml.plots.style import LISTENER_COLORS, PALETTE

RUN = REFERENCE / "demo"
PICTURE = Path("book/_static/readme.svg")
PLACE = re.compile(r"(?<=<!-- what came out -->\n).*?(?=\n<!-- end -->)", re.S)
SHOWN = "valence"  # the dimension in which listeners of the embedded corpus feel one passage in opposite ways


def sentence(run: Path = RUN) -> str:
    """What came out, in one sentence."""
    document, numbers = read_result(run / "pdmer.json"), read_result(run / "numbers.json")
    rows, gains = document["rows"], document["paired"]["against"][FINE_TUNED]

    def part(d: str) -> str:
        ours, theirs, gain = (cell[d] for cell in (rows[MAML_ANNOTATOR], rows[FINE_TUNED], gains))
        low, high = (number(gain[end], 2, "+") for end in ("low", "high"))
        return f"{ours['ccc']['mean']:.2f} against {theirs['ccc']['mean']:.2f} in {d} (difference {low} to {high})"

    who = "real" if document["provenance"]["real"] else "simulated"
    does = "predicts" if all(gains[d]["low"] > 0 for d in DIMENSIONS) else "does not surely predict"
    units = (
        f"{document['protocol']['listeners']} listeners, {document['protocol']['songs']} songs and {numbers['seeds']}"
    )
    return (
        f"**What came out:** from one annotated song of an unseen {who} listener, the paper's meta-learning {does} the listener's "
        "curves of other songs better than ordinary training fine-tuned on the same song: concordance (CCC) "
        f"{' and '.join(map(part, DIMENSIONS))}; 95 % intervals over {units}."
    )


def picture(run: Path = RUN) -> pyplot.Figure:
    """Two listeners of one song; and the model, on its way to become a third one."""
    curves = read_result(run / "curves.json")
    times, song, case = curves["times"], curves["disagreement"], curves["personalization"][1]  # the median case
    d = DIMENSIONS.index(SHOWN)
    lines: list[list[tuple[Any, str, Mapping[str, Any]]]] = [
        [
            *(
                (song["listeners"][who], f"listener {who}", {"color": LISTENER_COLORS[k]})
                for k, who in enumerate(song["pair"])
            ),
            (song["mean"], "average of all", {"color": "black", "ls": "--"}),
        ],
        [
            (case["curves"]["truth"], f"listener {case['listener']}", {"color": "black"}),
            (case["curves"][BEFORE], "model, before", {"color": PALETTE[1], "ls": ":"}),
            (case["curves"][MAML_ANNOTATOR], "model, after one song", {"color": PALETTE[0]}),
        ],
    ]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.4), sharey=True, layout="constrained")
    for axis, title, drawn in zip(axes, ("One song, two listeners", "One annotated song later"), lines, strict=True):
        for values, label, style in drawn:
            axis.plot(times, np.array(values)[:, d], label=label, lw=2.2, **style)
        axis.set(title=title, xlabel="time (s)")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False, fontsize=9)
    axes[0].set_ylabel(SHOWN)
    return figure


def stamp(run: Path = RUN) -> str:
    """Which results the picture shows, written into it."""
    return f"reference run, curves.json {read_result(run / 'curves.json')['provenance']['sha256']}"


def write(root: Path = Path()) -> None:
    """Write sentence and picture into the repository at ``root``.

    Raises
    ------
    DsamlError
        If the README has lost the place for the sentence.
    """
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    if not PLACE.search(text):
        raise DsamlError(f"{readme}: the lines '<!-- what came out -->' and '<!-- end -->' are missing; put them back")
    with pyplot.rc_context({"svg.hashsalt": PICTURE.name}):
        picture().savefig(root / PICTURE, facecolor="white", metadata={"Date": None, "Description": stamp()})
    write_bytes_atomically(readme, PLACE.sub(lambda match: sentence(), text).encode())


if __name__ == "__main__":
    try:
        write()
    except DsamlError as error:
        sys.exit(f"error: {error}")
