"""The embedded corpora: procedural songs and simulated listeners (:mod:`dsaml.data.synthetic.population`), in DEAM's own layout.

"synthetic" is the default; "stress" has the same songs and the harder population. Nothing here is real, and every result
computed on it says so.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from dsaml.audio.recording import encode
from dsaml.config import DIMENSIONS, LABEL_START, STEP_SECONDS
from dsaml.data import deam
from dsaml.data.annotations import MEAN
from dsaml.data.base import PARTS, Dataset
from dsaml.data.deam import AUDIO, CORPUS_NAMES, LABELS, MARKER
from dsaml.data.findings import Findings
from dsaml.data.synthetic.population import (
    TWO_SIGNS,
    CorpusConfig,
    Plan,
    hear_and_rate,
    make_controls,
    make_listeners,
    make_plans,
    true_curve,
)
from dsaml.data.synthetic.sound import SAMPLE_RATE, render
from dsaml.errors import DsamlError
from dsaml.io import read_json, write_json
from dsaml.runtime.closure import code_digest
from dsaml.runtime.workers import end_with_parent

log = logging.getLogger(__name__)

LOCK = ".lock"  # held while a process writes the corpus
RATERS, AVERAGED = LABELS / deam.RATERS, LABELS / deam.AVERAGED
ORACLE = Path("oracle")  # what each listener heard before rating it: validation and test songs
_OWN_FILE = re.compile(r"(DEAM_audio|DEAM_Annotations|oracle)/([^/]+/)*\w+\.(mp3|csv)")  # what a corpus can hold
_TEMPORARY = re.compile(rf"\.{re.escape(MARKER)}\..*")  # what a killed run leaves of the marker


def _write_audio(path: Path, config: CorpusConfig, plan: Plan) -> None:
    controls, bells = make_controls(config, plan.song_id, plan.steps, plan.flat)
    sound = render(controls, bells, np.random.default_rng([config.seed, 5, plan.song_id]))
    content = io.BytesIO()
    encode(content, sound, SAMPLE_RATE)
    path.write_bytes(content.getvalue())  # the encoder itself says nothing when a disk is full


def _write_table(path: Path, first_column: str, rows: Mapping[str | int, np.ndarray]) -> None:
    """One row per id, of shape (T,); shorter songs leave the last cells empty."""
    width = max(map(len, rows.values()))
    header = [first_column, *(f"sample_{int(1000 * (LABEL_START + STEP_SECONDS * i))}ms" for i in range(width))]
    lines = [",".join(header)]
    for name, values in rows.items():
        lines.append(",".join([str(name), *(f"{v:.6f}" for v in values)] + [""] * (width - len(values))))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def synthesize(
    root: str | Path,
    config: CorpusConfig = TWO_SIGNS,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the embedded corpus; a complete one of the same configuration is left as it is.

    Parameters
    ----------
    root : path
        Folder to write; made if needed. It must be empty or hold nothing but an embedded corpus, whose own files are replaced.
    workers : int
        Processes that play and encode songs; the result does not depend on it.
    progress : callable
        Called with (songs done, songs in all).

    Raises
    ------
    DsamlError
        If the folder holds anything that no earlier run wrote; nothing is touched then.
    """
    root = Path(root)
    plans = make_plans(config)
    listeners = {part: [x.id for x in make_listeners(config, part)] for part in PARTS}
    songs = {part: [str(p.song_id) for p in plans if p.part == part] for part in PARTS}
    bells = {str(p.song_id): b for p in plans if (b := make_controls(config, p.song_id, p.steps, p.flat)[1])}
    description = {"synthetic": True, "config": asdict(config), "complete": True, "files": _files(plans)}
    description["code"] = code_digest("dsaml.data.synthetic.corpus")
    description |= {"songs": songs, "annotators": listeners, "bells": bells}
    description = json.loads(json.dumps(description))  # as it will be read again
    try:
        if _check_own(root) == description:
            return root
    except (DsamlError, FileNotFoundError):
        if not _ours_to_lock(root):
            raise
    with _alone(root):
        if _check_own(root) == description:
            return root
        _remove_own(root)
        write_json(root / MARKER, description | {"complete": False})
        audio = root / AUDIO
        audio.mkdir(parents=True, exist_ok=True)
        _write_labels(root, config, plans)
        with ProcessPoolExecutor(workers, initializer=end_with_parent, initargs=(os.getpid(),)) as pool:
            jobs = [pool.submit(_write_audio, audio / f"{plan.song_id}.mp3", config, plan) for plan in plans]
            try:
                for done, job in enumerate(as_completed(jobs), 1):
                    job.result()
                    progress(done, len(plans))
            finally:
                pool.shutdown(cancel_futures=True)  # after Ctrl-C or a full disk: what has not begun never does
        write_json(root / MARKER, description)
    return root


def _files(plans: list[Plan]) -> list[str]:
    """Every file of a corpus but the marker, relative to its root."""
    files = [(AVERAGED / f"{dimension}.csv").as_posix() for dimension in DIMENSIONS]
    for plan in plans:
        files.append((AUDIO / f"{plan.song_id}.mp3").as_posix())
        folders = (RATERS,) if plan.part == "train" else (RATERS, ORACLE)
        files += [(folder / d / f"{plan.song_id}.csv").as_posix() for folder in folders for d in DIMENSIONS]
    return files


def _ours_to_lock(root: Path) -> bool:
    """Whether a run was here, and may still be: what is found while it removes and writes files is looked at again, alone."""
    return (root / LOCK).is_file() and not (root / LOCK).stat().st_size


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One process at a time writes into ``root``; a second one waits."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("%s: another process is writing this corpus; waiting for it", root)
            lock.acquire()
    except OSError as error:
        raise DsamlError(f"{root}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DsamlError(f"{root}: cannot be written ({reason}); make room, and run the same command again") from error
    finally:
        lock.release()


def _read_own(root: Path) -> dict | None:
    """The marker's content, which names the files that an earlier run wrote; None without a marker of this module's making."""
    try:
        description = read_json(root / MARKER, "corpus", "write one")
        files = description["files"]
        mine = description["synthetic"] is True and isinstance(description["config"], dict) and isinstance(files, list)
    except (DsamlError, KeyError):
        return None
    return description if mine and all(isinstance(f, str) and _OWN_FILE.fullmatch(f) for f in files) else None


def _check_own(root: Path) -> dict | None:
    """The description of the corpus in ``root``, or None where there is nothing yet.

    Raises
    ------
    DsamlError
        If the folder holds anything that no earlier run wrote.
    """
    if not root.is_dir():
        if root.exists() or root.is_symlink():
            raise DsamlError(f"{root}: not a folder; give an empty or new one")
        return None
    description = _read_own(root)
    found = [p for p in root.rglob("*") if not p.is_dir() or p.is_symlink()]
    names = {p.relative_to(root).as_posix() for p in found} - {LOCK}
    names = {name for name in names if not _TEMPORARY.fullmatch(name)}
    if description is None:
        if names:
            raise DsamlError(f"{root}: not empty and not an embedded corpus of this version; give an empty or new folder")
        return None
    links = sorted(p.relative_to(root).as_posix() for p in found if p.is_symlink())
    if foreign := sorted(names - set(description["files"]) - {MARKER}) or links:
        raise DsamlError(
            f"{root}: holds {foreign[0]}{f' and {len(foreign) - 1} more' if len(foreign) > 1 else ''}, which the embedded "
            "corpus did not write; move it elsewhere or give another folder (nothing was touched)"
        )
    return description


def _remove_own(root: Path) -> None:
    """Remove the files that an earlier run listed, and the folders that this leaves empty; the marker goes last."""
    own = (_read_own(root) or {"files": []})["files"]
    for name in own:
        (root / name).unlink(missing_ok=True)
    folders = {parent for name in own for parent in Path(name).parents if parent.parts}
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        if (root / folder).is_dir() and not any((root / folder).iterdir()):
            (root / folder).rmdir()
    (root / MARKER).unlink(missing_ok=True)


def _write_labels(root: Path, config: CorpusConfig, plans: list[Plan]) -> None:
    means = {}
    for plan in plans:
        heard, ratings = hear_and_rate(config, plan)
        means[plan.song_id] = np.mean(list(ratings.values()), 0)
        heard[MEAN] = true_curve(config, *make_controls(config, plan.song_id, plan.steps, plan.flat), None)
        for d, dimension in enumerate(DIMENSIONS):
            for folder, curves in ((RATERS, ratings), (ORACLE, heard))[: 1 if plan.part == "train" else 2]:
                path = root / folder / dimension / f"{plan.song_id}.csv"
                _write_table(path, "WorkerId", {who: values[:, d] for who, values in curves.items()})
    for d, dimension in enumerate(DIMENSIONS):
        path = root / AVERAGED / f"{dimension}.csv"
        _write_table(path, "song_id", {song: values[:, d] for song, values in means.items()})


def describe(root: str | Path) -> dict:
    """The content of ``corpus.json``: configuration, split, bell times.

    Raises
    ------
    DsamlError
        If the folder holds no complete embedded corpus.
    """
    description = _read_own(Path(root))
    if description is None or not description.get("complete"):
        raise DsamlError(
            f"{Path(root) / MARKER}: missing or incomplete, so this is no complete embedded corpus; run "
            f"'python -m dsaml synthesize {root}'"
        )
    return description


def config(root: str | Path) -> CorpusConfig:
    """The configuration of the corpus in ``root``; errors as in :func:`describe`."""
    return CorpusConfig(**describe(root)["config"])


def load(found: Findings, name: str) -> Dataset:
    """Load an embedded corpus through the DEAM loader, with its split and its true curves (``oracle``).

    The oracle is what the listener heard before rating it, moods included: the best that anything can do.
    """
    root, description = found.root, describe(found.root)
    there = description["config"].get("population", "two-signs")
    its = CORPUS_NAMES.get(there, "of another version") if isinstance(there, str) else "of another version"
    if its != name:
        raise DsamlError(f"{root}: holds the data set {its}, not {name}; give that name or another folder")
    if deam.read_marker(root)[1] is None:
        raise DsamlError(f"{root / MARKER}: damaged, it does not list songs and annotators; write the corpus again")
    data = deam.load(found, name)
    return replace(data, oracle=deam.read_oracle(root / ORACLE, data.mean))
