"""Labels of VGMIDI (Ferreira and Whitehead 2019, github.com/lucasnfe/vgmidi), as far as :mod:`dsaml.evaluate.structure` needs them.

The data set has no licence text, so nothing of it is copied here. Its raw annotations are crowd work on piano music from games:
one value per "measure", which is four quarter notes, and about 30 annotators a piece.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dsaml.config import LABEL_START
from dsaml.errors import DsamlError

SOURCE = "VGMIDI, Ferreira and Whitehead, ISMIR 2019, https://github.com/lucasnfe/vgmidi"
FILES = ("vgmidi_raw_1.json", "vgmidi_raw_2.json")
FEWEST = 4  # labels from 15 s on; a piece with fewer is left out


def read(root: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """Labels from 15 s on, from ``annotations/vgmidi_raw_1.json`` and ``vgmidi_raw_2.json`` under ``root``.

    A measure takes the piece's duration divided by its measures. A person is whoever gave the same demographics and free text for
    two pieces of one file; the others count as people with one piece. A track counts if it has the length that most tracks of the
    piece have, and a piece if it has its metadata.

    Returns
    -------
    dict of piece to dict of person to ndarray, shape (T, 2)
        Arousal and valence in [-1, 1], one row per measure.

    Raises
    ------
    DsamlError
        If a file is missing or is not what VGMIDI publishes.
    """
    out = {}
    for name in FILES:
        path = Path(root) / "annotations" / name
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            out |= {f"{name} {piece}": people for piece, people in _pieces(document).items()}
        except OSError as error:
            raise DsamlError(f"{path}: cannot be read ({error.strerror}); get VGMIDI's annotations again") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DsamlError(f"{path}: is not VGMIDI's ({type(error).__name__}: {error}); get it again") from error
    return out


def _pieces(document: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    persons = _persons(document["annotations"])
    tracks: dict[str, dict[str, np.ndarray]] = {}
    for key, annotation in document["annotations"].items():
        values = np.array([annotation["arousal"], annotation["valence"]], float).T
        tracks.setdefault(key.rsplit("_", 1)[0], {})[persons[key]] = values
    out = {}
    for piece, people in tracks.items():
        facts = document["pieces"].get(piece)
        usual = Counter(map(len, people.values())).most_common(1)[0][0]
        if not facts or not usual:
            continue
        middles = (np.arange(usual) + 0.5) * facts["duration"] / facts["measures"]
        late = middles >= LABEL_START
        if late.sum() >= FEWEST:
            out[piece] = {who: v[late] for who, v in people.items() if len(v) == usual}
    return out


def _persons(annotations: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Annotation key -> person."""
    groups: dict[str, list[str]] = {}
    for key, annotation in annotations.items():
        told = {k: v for k, v in annotation.items() if k not in ("arousal", "valence", "isKnown")}
        groups.setdefault(json.dumps(told, sort_keys=True), []).append(key)
    out = {}
    for keys in groups.values():
        two = len(keys) == 2 and len({key.rsplit("_", 1)[0] for key in keys}) == 2
        out |= {key: min(keys) if two else key for key in keys}
    return out
