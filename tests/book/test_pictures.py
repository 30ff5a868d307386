"""The pictures that are drawn from result files while the pages are laid out."""

from pathlib import Path

import numpy as np

from book.builder import pictures
from dsaml.config import DEMO
from dsaml.experiment.recipes import MAML_ANNOTATOR, MAML_MEAN
from dsaml.experiment.results import provenance, write_result
from dsaml.experiment.rows import BEFORE, SHOTS, shots_label

STAMP = provenance(DEMO, None, seeds=[0], seconds=1.0, real=False)


def _write_results(folder: Path) -> None:
    curve, cell = np.linspace(-0.5, 0.5, 12).reshape(6, 2).tolist(), {"mean": 0.4, "low": 0.3, "high": 0.5}
    listeners = {"a": curve, "b": curve}
    case = {"listener": "a", "song": "2001", "support_song": "2002", "ccc_before": 0.1, "ccc_after": 0.2}
    case["curves"] = dict.fromkeys(("truth", BEFORE, MAML_ANNOTATOR), curve)
    curves = {"disagreement": {"song": "2001", "pair": ["a", "b"], "listeners": listeners, "mean": curve}}
    curves |= {"times": np.arange(6) / 2, "personalization": [case] * 3}
    rows = {name: {d: {"ccc": cell} for d in ("arousal", "valence")} for name in (BEFORE, *map(shots_label, SHOTS))}
    history = {"loss": [1.0] * 30, "validation": [[0, 0.1], [30, 0.2]]}
    documents = {"curves": curves, "pdmer": {"rows": rows}, "training": dict.fromkeys((MAML_ANNOTATOR, MAML_MEAN), history)}
    for name, document in documents.items():
        write_result(folder / f"{name}.json", document, STAMP)


def test_the_same_results_give_the_same_bytes(tmp_path):
    _write_results(tmp_path)
    for folder in ("once", "again"):
        pictures.draw(tmp_path, tmp_path / folder)
    drawn = {file.name: file.read_bytes() for file in (tmp_path / "once").iterdir()}
    assert set(drawn) == {f"{name}.svg" for name in ("hero", "before_after", "forest", "more_songs", "histories")}
    assert all((tmp_path / "again" / name).read_bytes() == content for name, content in drawn.items())


def test_nothing_is_drawn_without_results(tmp_path):
    pictures.draw(tmp_path, tmp_path / "media")
    assert not (tmp_path / "media").exists()
