"""The runner behind ``make book``: compute, execute the notebooks, stage the pages, render them, check them.

Everything generated lies under ``_build/``::

    _build/executed/   notebooks as papermill left them (a failed one too)
    _build/stage/      the book's sources in the repository's own shape, so that page names and links stay the same
    _build/html/       the book
    _build/done.json   what is already done, as hashes of everything that went in

A step is skipped only if nothing that it depends on has changed: package sources, notebook, parameters, results, data
and the versions of all installed packages. Compute writes under ``results/<profile>/``; everything after it only reads.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from sphinx_external_toc.parsing import MalformedError, parse_toc_yaml

from book.builder import notebooks
from book.builder.pages import render, stage
from dsaml.config import get_profile
from dsaml.errors import DsamlError
from dsaml.experiment.prepare import Source, prepare
from dsaml.experiment.reproduce import book_results
from dsaml.io import write_json
from dsaml.listen import DEMO_MODEL, page
from dsaml.listen.light import train_light

log = logging.getLogger(__name__)


def compute_results(profile: str, results: Path, cache: Path, device: str = "cpu") -> None:
    """Every number of the book under ``results``, and a model for one's own music (the default compute step)."""
    settings = get_profile(profile)
    book_results(prepare(settings, Source(cache=cache, device=device)), settings.seeds, results)
    experiment = prepare(settings, Source(cache=cache))
    model = train_light(experiment, 0)
    model.save(results.parents[1] / DEMO_MODEL)
    page.write(model, experiment, results)


@dataclass(frozen=True)
class Steps:
    """The parts that do the work; the tests put small ones in their place."""

    compute: Callable[[str, Path, Path], None] = compute_results  # profile name, results folder, cache folder
    execute: Callable[..., None] = notebooks.execute  # source, target, parameters, folder, progress
    render: Callable[[Path, Path], None] = render  # staged folder, repository root -> root/_build/html


def toc_pages(toc: Path) -> list[str]:
    """All pages that the table of contents names, in its order.

    Raises
    ------
    DsamlError
        If the file is missing or is no table of contents.
    """
    if not toc.is_file():
        raise DsamlError(f"{toc}: no table of contents here; run this in the repository's own folder")
    try:
        return list(parse_toc_yaml(toc))
    except (MalformedError, yaml.YAMLError) as error:
        raise DsamlError(f"{toc}: {error}; see the Jupyter Book documentation of _toc.yml") from error


def digest(*parts: Any) -> str:
    """SHA-256 of the parts; a path stands for its content, a folder for all files below it and their names."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = sorted(path for path in part.rglob("*") if path.is_file()) if part.is_dir() else [part]
            for file in files:
                if "__pycache__" not in file.parts:
                    total.update(f"{file.relative_to(part)}\0".encode())
                    total.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"missing")
        else:
            total.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\0")
    return total.hexdigest()


def installed() -> list[str]:
    """Every installed package with its version, and Python's."""
    found = {f"{item.metadata['Name']}=={item.version}" for item in distributions()}
    return [f"python=={platform.python_version()}", *sorted(found)]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time builds into ``folder``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DsamlError(f"{folder}: another process is building this book; wait until it is done") from error
    except OSError as error:
        raise DsamlError(f"{folder}: cannot be written ({error.strerror}); check the folder's permissions") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Log a line when a step starts and one with its seconds when it is done."""
    log.info("%s …", what)
    start = time.perf_counter()
    try:
        yield
    except BaseException:
        log.info("%s: FAILED after %.0f s", what, time.perf_counter() - start)
        raise
    log.info("%s: done in %.0f s", what, time.perf_counter() - start)


class Ledger:
    """What is already done: the key of each step and what it made, kept in ``_build/done.json``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.done: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.done = {}  # no ledger, or half a one: then nothing counts as done

    def once(self, step: str, what: str, key: str, made: Path, work: Callable[[], None]) -> None:
        """Do a step, unless it was done with this ``key`` and every file that it ``made`` is still the same."""
        done = self.done.get(step)
        if done and done["key"] == key and done["files"].items() <= digests(made).items():
            log.info("%s: unchanged", what)
            return
        self.done.pop(step, None)
        write_json(self.path, self.done)
        with timed(what):
            work()
        self.done[step] = {"key": key, "files": digests(made)}
        write_json(self.path, self.done)


def digests(made: Path) -> dict[str, str]:
    """Of a file, or of every file in a folder."""
    files = [made, *sorted(made.rglob("*"))]
    return {str(file.relative_to(made)): digest(file) for file in files if file.is_file()}


def parameters_of(profile: str) -> dict[str, str]:
    """What every notebook is given; a notebook whose ``parameters`` cell lacks one of these fails the build."""
    return {"profile": profile, "results": f"results/{profile}"}  # relative to the repository, where its kernel runs


def _select(sources: list[Path], only: str | None) -> list[Path]:
    chosen = [source for source in sources if only is None or source.stem == only or source.stem.startswith(f"{only}_")]
    if not chosen:
        names = ", ".join(source.stem for source in sources) or "none"
        raise DsamlError(f"no notebook '{only or '*'}'; there are: {names}")
    return chosen


def build(
    profile: str = "demo",
    only: str | None = None,
    root: Path = Path(),
    compute: bool = True,
    steps: Steps | None = None,
    device: str = "cpu",
) -> Path | None:
    """Build the book from the run ``results/<profile>/``, or execute ``only`` one notebook, named by its number or its name.

    Without ``compute`` the results are only drawn again; ``device`` is where they are computed. ``steps`` replaces parts of it,
    for tests. Gives the built book's first page; None if one notebook was executed and others are still missing.

    Raises
    ------
    DsamlError
        If another process is building it; for a failing cell, an unknown parameter, a missing ``parameters`` tag, outputs in a
        source, a name in the prose that no result gives, a warning while rendering, a page without HTML.
    """
    steps = steps or Steps(compute=partial(compute_results, device=device))
    get_profile(profile)
    root = root.resolve()
    toc_pages(root / "_toc.yml")
    with _alone(root / "_build"):
        return _build(profile, only, root, steps, device if compute else None)


def _build(profile: str, only: str | None, root: Path, steps: Steps, device: str | None) -> Path | None:
    """The same, alone in its folder; without a ``device`` nothing is computed."""
    results, staged, executed = root / "results" / profile, root / "_build/stage", root / "_build/executed"
    ledger, parameters = Ledger(root / "_build/done.json"), parameters_of(profile)
    base = digest(root / "dsaml", root / "book" / "builder", root / "data", installed())
    sources = sorted((root / "notebooks").glob("*.ipynb"))
    chosen = _select(sources, only)
    if problems := [found for source in chosen for found in notebooks.problems(source, parameters)]:
        raise DsamlError("\n".join(problems))

    def compute() -> None:
        steps.compute(profile, results, root / "cache")
        if not any(results.glob("*.json")):
            raise DsamlError(f"{results}: the computation wrote no results; see the messages above")

    if device:
        ledger.once(f"results {profile}", f"results ({profile})", digest(base, profile, device), results, compute)

    key = digest(base, parameters, digests(results))
    for place, source in enumerate(chosen, start=1):
        target = executed / source.name
        work = partial(steps.execute, source, target, parameters, root, sys.stderr.isatty())
        ledger.once(source.name, f"notebook {place}/{len(chosen)} {source.stem}", digest(key, source), target, work)
    if waiting := [s.stem for s in sources if s.name not in ledger.done or not (executed / s.name).is_file()]:
        log.info("executed: %s; the book needs these too: %s", executed / chosen[0].name, ", ".join(waiting))
        return None

    def pages() -> None:
        shutil.rmtree(root / "_build/html", ignore_errors=True)
        steps.render(staged, root)
        if missing := [page for page in toc_pages(root / "_toc.yml") if not (root / "_build/html" / f"{page}.html").is_file()]:
            raise DsamlError(f"pages of _toc.yml without HTML: {', '.join(missing)}; see the messages above")

    stage(root, staged, executed, results)
    ledger.once("pages", "pages", digest(base, staged), root / "_build/html", pages)
    return root / "_build/html/index.html"
