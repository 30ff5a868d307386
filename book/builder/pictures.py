"""The opening figure and four figures for slides, drawn from the result files of this build."""

from __future__ import annotations

from pathlib import Path

from book.builder import markdown
from dsaml.experiment.recipes import MAML_ANNOTATOR, MAML_MEAN
from dsaml.experiment.results import read_result
from dsaml.experiment.rows import BEFORE, SHOTS, shots_label
from dsaml.plots import curves as figures

SOURCES = ("curves.json", "pdmer.json", "training.json")


def draw(results: Path, folder: Path) -> None:
    """Write ``hero.svg``, ``before_after.svg``, ``forest.svg``, ``more_songs.svg`` and ``histories.svg`` from the ``SOURCES`` among
    the results; nothing without them."""
    if not all((results / name).is_file() for name in SOURCES):
        return
    curves, pdmer, training = (read_result(results / name) for name in SOURCES)
    folder.mkdir(parents=True, exist_ok=True)
    markdown.save(figures.disagreement(curves, only_pair=True), folder / "hero.svg")
    middle = curves["personalization"][1]  # the median case, not the best one
    shots = {0: BEFORE} | {songs: shots_label(songs) for songs in SHOTS}
    drawn = {
        "before_after": figures.before_after(middle, curves["times"], BEFORE, MAML_ANNOTATOR),
        "forest": figures.forest(pdmer["rows"]),
        "more_songs": figures.with_more_songs(pdmer["rows"], shots),
        "histories": figures.histories(training, [MAML_ANNOTATOR, MAML_MEAN]),
    }
    for name, figure in drawn.items():
        markdown.save(figure, folder / f"{name}.svg", facecolor="white", bbox_inches="tight")
