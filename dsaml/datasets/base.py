"""What every loader returns, and the one way to call a loader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from dsaml.annotations import Annotation
from dsaml.errors import DsamlError

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Song:
    """One recording.

    Attributes
    ----------
    id : str
        The data set's own id.
    audio : Path or None
        The audio file; ``None`` where the data set has labels but no audio at hand.
    clip : bool
        True for a clip with labels on 15-45 s (60 steps), False for a full-length song.
    """

    id: str
    audio: Path | None
    clip: bool = True


@dataclass(frozen=True)
class Split:
    """Disjoint song ids and disjoint annotator ids, each under ``train``, ``validation`` and ``test``."""

    songs: Mapping[str, tuple[str, ...]]
    annotators: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Exclusion:
    """Something that was left out, and why; ``subject`` names the song, track or annotator."""

    subject: str
    reason: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """Songs and their labels, as found on disk (labels are never altered).

    Attributes
    ----------
    name : str
        "deam", "pmemo", "folder", "synthetic" or "stress".
    real : bool
        False for the embedded corpora; it follows into every result file.
    root : Path
    songs : mapping of song id to Song
    mean : mapping of song id to Annotation
        The averaged label of each song (annotator id "all").
    tracks : mapping of annotator id to mapping of song id to Annotation
        Each annotator's own labels, usable tracks only; empty where the data set has none.
    split : Split
    exclusions : tuple of Exclusion
        Everything that was left out, with the reason.
    oracle : mapping of annotator id to mapping of song id to Annotation, or empty
        Noise-free true curves, known only for simulated listeners ("all" = the population's).
    """

    name: str
    real: bool
    root: Path
    songs: Mapping[str, Song]
    mean: Mapping[str, Annotation]
    tracks: Mapping[str, Mapping[str, Annotation]]
    split: Split
    exclusions: tuple[Exclusion, ...] = ()
    oracle: Mapping[str, Mapping[str, Annotation]] = field(default_factory=dict)


LOADERS = ("deam", "pmemo", "folder", "synthetic", "stress")


def load_dataset(name: str, root: str | Path) -> Dataset:
    """Load a data set by name: each loader is the function ``load(root)`` of ``dsaml.datasets.<name>``.

    Raises
    ------
    DsamlError
        If the name is unknown, the folder does not exist, or the loader finds it unusable.
    """
    root = Path(root)
    if name not in LOADERS:
        raise DsamlError(f"data set '{name}' is not known; choose one of: {', '.join(LOADERS)}")
    if not root.is_dir():
        raise DsamlError(f"{root}: not a folder; give the {name} data set's own folder with --root")
    return import_module(f"dsaml.datasets.{name}").load(root)
