"""A personal model's file: only what changed of its base, and which base that is. Changed tensors, and a header of three fields."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dsaml.errors import DsamlError
from dsaml.experiment.model_files import model_file
from dsaml.io import KEY, pack_tensors, read_header, write_bytes_atomically
from dsaml.listen import DEMO_MODEL

KIND = "personal"
"""What the header of such a file says."""


@dataclass(frozen=True)
class Base:
    """The file of a model that others can be personal versions of."""

    path: Path
    digest: str  # SHA-256 of what it holds, from its header


def write_own(path: Path, tensors: dict[str, Tensor], about: dict[str, Any], base: Base | None) -> None:
    """Write the changed tensors by name, and whom they are personalized for.

    Raises
    ------
    DsamlError
        If the base is in no file (None) or would be replaced, or this file cannot be written.
    """
    if base is None:
        raise DsamlError(f"{path}: the model that this one is personal to is in no file; save and load that one first")
    if path.exists() and path.samefile(base.path):
        raise DsamlError(f"{path}: is the model that this one is personal to; give the personal one another name")
    where = os.path.relpath(base.path.absolute(), path.absolute().parent)  # so both can be moved together
    header = {"kind": KIND, "base": where, "base_sha256": base.digest, "about": json.dumps(about)}
    write_bytes_atomically(path, pack_tensors(tensors, header))


def read_own(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], Base]:
    """What :func:`write_own` wrote, and its base, looked for where it was, beside the file, and in ``models``.

    A DsamlError if the file is missing, damaged or something else, or no file in these places is its base.
    """
    with model_file(path, "correct the path") as (tensors, header, about):
        where, digest = Path(header["base"]), header["base_sha256"]
        if not where.name:
            raise ValueError("its header does not say where it comes from")
    places = [place for place in (path.parent / where, path.parent / where.name, DEMO_MODEL.parent / where.name) if place.is_file()]
    for place in places:
        if read_header(place).get(KEY) == digest:
            return tensors, about, Base(place, digest)
    if places:
        raise DsamlError(f"{path}: is personal to another {where.name} than {places[0]}, which has changed; personalize again")
    raise DsamlError(f"{path}: its base {where.name} (sha256 {digest[:12]}…) is not there; put it beside this file")
