"""Where a command may write: asked before any work starts, so that none is done in vain and nothing of the user's is lost."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from dsaml.errors import DsamlError, check_replaceable

Kind = Callable[[Path], bool]
_CURVE = re.compile(  # as predict writes one; a person's curve names no model
    r"time_s,arousal,valence(,arousal_sd,valence_sd)?,quadrant,model\n(\d+\.\d{4}(,-?\d+\.\d{4}){2,4},[a-z ]+,[^,\n]+\n)+"
)
_STARTS = 8192  # bytes of a file in which a mark stands


def check_output(path: Path, own: Kind = lambda path: False, inputs: Iterable[Path | None] = (), *, force: bool = False) -> None:
    """Refuse a file that the command must not or cannot write: an input, no plain file, of another kind, or in no folder.

    Parameters
    ----------
    path : Path
        What ``--out`` names. An empty file, or none, may always be written.
    own : callable
        Whether a file is what this command writes, so that it may be replaced. See the functions below.
    inputs : iterable of Path or None
        What the command reads: files, or folders of data sets. No input is ever replaced, with ``force`` neither.
    force : bool
        Replace a file of any other kind too.
    """
    target = check_replaceable(path)
    there = target.exists() and target.stat().st_size > 0
    other = there and not own(target)
    for given in inputs:
        if given is None or not given.exists():
            continue
        if target.exists() and target.samefile(given):
            raise DsamlError(f"{path}: is an input of this command too; give the output another name")
        if other and given.is_dir() and given.resolve() in target.parents:
            raise DsamlError(f"{path}: is a file in {given}, which this command reads; give the output another name")
    if other and not force:
        raise DsamlError(f"{path}: exists and is not what this command writes; choose another name, or add --force")
    check_folder(target.parent)


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written, or be made: a file is in its way, or the disk says no."""
    there = Path(os.path.realpath(folder))
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise DsamlError(f"{folder}: {there} is a file, not a folder; choose another place")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise DsamlError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error


def check_results(folder: Path) -> None:
    """Refuse a folder of results that cannot be written, or holds JSON files of somebody else's."""
    check_folder(folder)
    for path in sorted(folder.glob("*.json")):
        check_output(path, holds_result)


def holds_model(path: Path) -> bool:
    """Whether a file is a model, personal or nobody's, by its header."""
    from dsaml.io import read_header

    header = set(read_header(path))
    return "about" in header and not header.isdisjoint(("profile", "base_sha256"))


def holds_json(*keys: str) -> Kind:
    """Whether a file is a JSON object with these keys."""

    def own(path: Path) -> bool:
        from dsaml.io import read_json

        try:
            return set(keys) <= set(read_json(path, "", ""))
        except DsamlError:
            return False

    return own


holds_result = holds_json("provenance")


def holds_prediction(path: Path) -> bool:
    """Whether a file is a table that ``predict`` wrote: by its header, and by what stands in every line."""
    try:
        return _CURVE.fullmatch(path.read_text(encoding="utf-8")) is not None
    except (OSError, ValueError):
        return False


def holds_mark(mark: str) -> Kind:
    """Whether a file says near its start what wrote it."""

    def own(path: Path) -> bool:
        try:
            with path.open("rb") as stream:
                return mark.encode() in stream.read(_STARTS)
        except OSError:
            return False

    return own
