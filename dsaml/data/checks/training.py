"""What would stop training, told before its first step; and the stop itself, where ``check`` finds errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dsaml.config import DIMENSIONS, Profile
from dsaml.data.annotations import FLAT, Annotation
from dsaml.data.base import PARTS, Dataset, without_short
from dsaml.data.findings import KINDS, Problem
from dsaml.errors import DsamlError


def obstacles(dataset: Dataset, profile: Profile, mode: str) -> list[str]:
    """Why a data set cannot be trained on, with counts; empty if it can. Very short songs are left out, as in training.

    Parameters
    ----------
    profile : Profile
        Its tasks ask for a number of support songs; query songs are as many as there can be, one at least.
    mode : {"dmer", "pdmer"}
        Averaged labels, or annotator tasks.
    """
    dataset, _, _ = without_short(dataset)
    parts = {
        part: [s for s in ids if s in dataset.mean and dataset.songs[s].audio is not None]
        for part, ids in dataset.split.songs.items()
    }
    reasons = [f"no song with audio and labels in the part {part}" for part in PARTS if not parts[part]]
    reasons += _constant("the averaged labels", [dataset.mean[s] for s in parts["train"]])
    if mode == "dmer":
        return reasons
    if not dataset.tracks:
        return [*reasons, "no annotator's own labels can be used; --mode dmer trains on averaged labels"]
    people = dataset.split.annotators
    own = {w: {s: t for s, t in dataset.tracks.get(w, {}).items() if s in parts["train"]} for w in people["train"]}
    every = f"{sum(map(len, people.values()))} annotators in all"
    if not own:
        reasons.append(f"no annotator in the part train ({every}; three are needed, one for each part)")
    need = profile.meta.support_songs + 1
    if few := {who: len(tracks) for who, tracks in own.items() if len(tracks) < need}:
        who, count = min(few.items(), key=lambda item: item[1])
        reasons.append(
            f"{len(few)} of {len(own)} training annotators have fewer than the {need} songs of a task "
            f"({profile.meta.support_songs} support + 1 query; profile {profile.name}): "
            f"{who} has {count}"
        )
    reasons += _constant("the training annotators' labels", [t for tracks in own.values() for t in tracks.values()])
    held_out = set(parts["validation"])
    if not any(len(held_out & dataset.tracks.get(who, {}).keys()) > 1 for who in people["validation"]):
        reasons.append(
            f"no annotator in the part validation rated two of its {len(held_out)} songs "
            f"({len(people['validation'])} annotators there, {every})"
        )
    return reasons


def _constant(what: str, labels: Sequence[Annotation]) -> list[str]:
    if not labels:
        return []
    spread = np.concatenate([track.values for track in labels]).std(0)
    return [
        f"{what} are constant: the {dimension} of {len(labels)} songs varies by {sd:.3g}"
        for dimension, sd in zip(DIMENSIONS, spread, strict=True)
        if not sd >= FLAT
    ]


def stop_on_errors(root: Path, problems: Iterable[Problem], reasons: Sequence[str], accept: Iterable[str]) -> None:
    """Let training begin only where ``check`` finds no ``problems``, or only kinds of them (``KINDS``) that the user accepts.

    ``reasons`` are what :func:`obstacles` found; nobody can accept those.

    Raises
    ------
    DsamlError
        With the counts by kind and the first error.
    """
    accepted = set(accept)
    if unknown := sorted(accepted - set(KINDS)):
        raise DsamlError(f"--accept {unknown[0]}: no such kind of problem; there are: {', '.join(KINDS)}")
    errors = [p for p in problems if p.severity == "error" and p.kind not in accepted]
    if errors:
        counts = Counter(p.kind for p in errors)
        names = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        flags = " ".join(f"--accept {kind}" for kind in counts)
        raise DsamlError(
            f"{root}: 'check' finds errors ({names}), first {errors[0]}; correct them, or train all the same with {flags}"
        )
    if reasons:
        more = f"; and {len(reasons) - 1} more that 'check' lists" if len(reasons) > 1 else ""
        raise DsamlError(f"{root}: training would stop: {reasons[0]}{more}; change the data, the split or the profile")
