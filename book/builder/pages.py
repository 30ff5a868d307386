"""The pages of the book: stage their sources, fill them, render them with Jupyter Book.

Nothing in a finished page is fetched from another host: MathJax travels with the book.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import yaml

from book.builder import claims_page, loops, notebooks, pictures, prose, reference, sounds
from dsaml import address
from dsaml.errors import DsamlError
from dsaml.experiment.results import read_result
from dsaml.io import write_bytes_atomically
from dsaml.runtime import workers

log = logging.getLogger(__name__)

MATHJAX = ("mathjax@3.2.2", "es5/tex-svg-full.js")  # npm, Apache-2.0; one file: fonts and all TeX extensions inside
WAVESURFER = ("wavesurfer.js@8.0.1", "dist/wavesurfer.min.js")  # npm, BSD-3-Clause


def all_real(results: Path) -> bool:
    """Whether every result was computed on real data; False if there is none."""
    stamps = [json.loads(file.read_text(encoding="utf-8")).get("provenance") for file in sorted(results.glob("*.json"))]
    return bool(stamps) and all(stamp and stamp.get("real") for stamp in stamps)


def from_npm(package: str, member: str, cache: Path) -> Path | None:
    """One file of an npm package, fetched once into ``cache``; None where that is not possible."""
    target = cache / package.replace("@", "-") / Path(member).name
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    npm = shutil.which("npm")
    if npm is None:
        return None
    try:
        done = subprocess.run(
            [npm, "pack", package, "--silent", "--fetch-retries=1"],
            cwd=target.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        archive = target.parent / done.stdout.split()[-1]
        with tarfile.open(archive) as files:
            found = files.extractfile(f"package/{member}")
            content = found.read() if found else b""
        archive.unlink()
    except (OSError, subprocess.SubprocessError, tarfile.TarError, KeyError, IndexError):
        return None
    if not content:
        return None
    write_bytes_atomically(target, content)
    return target


def _player(root: Path, target: Path, results: Path) -> None:
    """Lay out what the page with the player loads: its script and style, clips, curves, wavesurfer.js."""
    shutil.copytree(root / "dsaml" / "listen" / "player", target)
    shutil.copytree(results / "player", target, dirs_exist_ok=True)
    data = read_result(results / "player.json")
    if (results / "light.json").is_file():  # `reproduce book` computes none
        data["light"] = read_result(results / "light.json")
        del data["light"]["provenance"]
    del data["provenance"]
    (target / "data.js").write_text(f"window.dsamlPlayer = {json.dumps(data)};\n", encoding="utf-8")
    script = from_npm(*WAVESURFER, root / "cache")
    if script:
        shutil.copy(script, target / script.name)
    else:
        log.warning("npm could not fetch %s: the player will show no waveform", WAVESURFER[0])


IN_COLAB = {
    True: "every notebook opens in Colab (the rocket above it)",
    False: "every notebook opens in Colab, once this book has a public address (`make publish REPO=owner/name`)",
}
"""What the first page says about Colab, by whether the repository's address is known."""


def _configure(source: Path, target: Path, local_mathjax: bool, published: bool = address.PUBLISHED) -> None:
    """Copy ``_config.yml``, pointing it at the MathJax that travels with the book and, if it is known, at the repository."""
    configuration = yaml.safe_load(source.read_text(encoding="utf-8"))
    html = configuration.setdefault("html", {})
    if published:
        configuration["repository"] = {"url": address.URL, "path_to_book": "", "branch": "main"}
    else:
        configuration.pop("launch_buttons", None)
        html["use_repository_button"] = False
        html["extra_footer"] = f"{html.get('extra_footer', '')} Built without a public address (make publish)."
    sphinx = configuration.setdefault("sphinx", {}).setdefault("config", {})
    sphinx["html_extra_path"] = ["_extra"]
    if local_mathjax:
        sphinx["mathjax_path"] = f"../mathjax/{Path(MATHJAX[1]).name}"  # from _static, where Sphinx looks for scripts
    target.write_text(yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True), encoding="utf-8")


def stage(root: Path, target: Path, executed: Path, results: Path) -> None:
    """Lay the book's sources out in ``target``, in the repository's own shape.

    ``results`` is the run that the book is built from: ``numbers.json`` and, under ``index/``, the figure and the clip of the first
    page. The runs beside it are shown on the pages of tables and claims.
    """
    shutil.rmtree(target, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "builder", "reference")
    for name in ("book", "data", "dsaml"):  # the package for the listings of its code
        if (root / name).is_dir():
            shutil.copytree(root / name, target / name, ignore=ignore)
    (target / "book").mkdir(parents=True, exist_ok=True)
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        notebooks.tidy(executed / notebook.name, target / "notebooks" / notebook.name, root)

    extra = target / "_extra"  # copied as it is to the top of the built book
    extra.mkdir()
    pictures.draw(results, target / "book/_media")
    for folder in filter(Path.is_dir, (results / "index", target / "book/_media")):
        shutil.copytree(folder, extra / "media", dirs_exist_ok=True)  # sounds too: Sphinx copies only what is an image
    script = from_npm(*MATHJAX, root / "cache")
    if script:
        (extra / "mathjax").mkdir()
        shutil.copy(script, extra / "mathjax" / script.name)
    else:
        log.warning("npm could not fetch %s: equations in the book will need a network connection", MATHJAX[0])
    if (results / "player.json").is_file():
        _player(root, extra / "player", results)

    heard = sounds.write(target)
    if (root / "book/_loops").is_dir():
        shutil.copytree(root / "book/_loops", extra / "loops")
        loops.write(extra / "loops")

    if all_real(results):
        (target / "book/_banner.md").write_text("```{note}\nComputed on real data.\n```\n", encoding="utf-8")
    runs = reference.choose(results.name, results.parent, root / "dsaml" / "reference", target.parent / "shown")
    values = prose.numbers(runs[0]) | prose.facts(root / "data") | claims_page.words()
    values |= {"in_colab": IN_COLAB[address.PUBLISHED]}
    made = prose.makers(root, runs, target / "book/_figures") | {
        "player": lambda name: sounds.text(heard),
        "reference": lambda name: reference.comparison(results, root / "dsaml" / "reference" / results.name),
    }
    prose.fill(target / "book", values, made)
    shutil.copy(root / "_toc.yml", target / "_toc.yml")
    _configure(root / "_config.yml", target / "_config.yml", script is not None)


def render(staged: Path, root: Path) -> None:
    """Render the staged sources into ``root/_build/html`` with Jupyter Book; a warning is an error.

    Raises
    ------
    DsamlError
        With the warnings, if there are any.
    """
    own = f"import runpy; runpy.run_path({workers.__file__!r})['end_with_parent']({os.getpid()})"
    command = [sys.executable, "-c", f"{own}; from jupyter_book.cli.main import main; main()"]
    options = ["build", str(staged), "--path-output", str(root), "-W", "--keep-going", "--all"]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    shutil.rmtree(root / "_build/.doctrees", ignore_errors=True)
    done = subprocess.run(
        command + options,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "NO_COLOR": "1"},
    )
    said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
    (root / "_build/book.log").write_text(said, encoding="utf-8")
    if done.returncode:
        lines = said.strip().splitlines()
        told = [
            line
            for before, line in zip(["", *lines], lines, strict=False)
            if re.search(r"\b(WARNING|ERROR|CRITICAL)\b", line) or before.endswith("exception was raised:")
        ]
        wrong = "\n".join(told[:40] or lines[-15:])
        raise DsamlError(f"the pages were not rendered (everything Jupyter Book said is in _build/book.log):\n{wrong}")
