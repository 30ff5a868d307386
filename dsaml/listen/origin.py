"""What a model was trained on, in words: it stands in everything that a model gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsaml.config import DIMENSIONS


def _stamp(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the training run, of a model that was personalized once or more often."""
    while isinstance(about.get("base"), dict):
        about = about["base"]
    return about


def trained_on(about: Mapping[str, Any]) -> str:
    """Real or synthetic, in one phrase."""
    stamp = _stamp(about)
    if "real" not in stamp:
        return "its file does not say what this model was trained on"
    return f"trained on {'real' if stamp['real'] else 'synthetic'} songs and listeners"


def origin(about: Mapping[str, Any]) -> str:
    """The same with the names of data set and profile, in one sentence."""
    stamp = _stamp(about)
    if "real" not in stamp:
        return trained_on(about)
    never = "" if stamp["real"] else ": it has never heard real music"
    return f"{trained_on(about)}{never} ({stamp.get('dataset')}, {stamp.get('profile')})"


def belief(about: Mapping[str, Any]) -> str:
    """Where a light model does not adapt, since one song told nothing of its validation listeners' next; empty elsewhere."""
    still = [d for d, part in zip(DIMENSIONS, _stamp(about).get("belief", ()), strict=False) if part == 0]
    if not still:
        return ""
    names = " and ".join(still)
    return f"in {names} one song of a person told nothing of the next where this model was trained: there it stays as it is"
