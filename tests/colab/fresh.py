"""Every notebook alone, each on a machine of its own that came with other packages, as it is in Colab.

    make colab        or        .venv/bin/python tests/colab/fresh.py --python 3.12 --only 02 --load 2

A *machine* is an environment with what a hosted one was built around (``HOSTED``), an empty folder, and no dsaml. In it the
notebook runs from its first cell to its last; the address in its set-up cell is that of a clone of this repository, so what is not
committed is not tried. It has to end in time, without a warning, and leave ``KEEP`` as it was. Then a set-up is killed at several
moments, and run again to its end. Needs the package index and about 8 GB of disk for each version of Python.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import common  # noqa: E402
from dsaml import address  # noqa: E402
from dsaml.colab import KEEP, SETUP  # noqa: E402
from dsaml.io import write_json  # noqa: E402

PYTHONS = ("3.11", "3.12", "3.13")
HOSTED = [  # what Colab had with torch 2.9, as far as dsaml meets it; typer, soundfile and the like are left to the set-up
    "torch==2.9.1", "torchvision==0.24.1", "torchaudio==2.9.1", "numpy>=2.0,<2.2", "scipy", "pandas==2.2.*", "matplotlib==3.10.*",
    "seaborn==0.13.2", "gym==0.25.2", "requests", "cloudpickle", "tqdm", "joblib", "filelock", "rich", "ipykernel<7", "ipython<9",
    "setuptools<81", "wheel",
]  # fmt: skip
SECONDS = {"01": 60, "02": 60, "03": 300, "04": 60, "05": 60, "06": 120, "07": 60}  # after the set-up, at most
KILLED_AT = (0.15, 0.4, 0.65, 0.9)  # of the time that a set-up takes


@dataclass
class Machine:
    """An environment on top of the hosted packages, and the empty folder that it works in."""

    folder: Path
    python: Path

    @classmethod
    def new(cls, folder: Path, hosted: Path) -> Machine:
        """A fresh one: what it lacks goes into its own environment, what is there it sees in ``hosted``."""
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([hosted / "bin/python", "-m", "venv", folder / "venv"], check=True)
        (own,), (there,) = ((place.glob("lib/python*/site-packages")) for place in (folder / "venv", hosted))
        (own / "hosted.pth").write_text(f"{there}\n")
        (folder / "work").mkdir()
        return cls(folder, folder / "venv/bin/python")

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the caller's that could help: no path to the package, no settings of threads."""
        return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OMP_", "MKL_", "VIRTUAL_ENV"))}

    def run(self, code: str) -> str:
        """What Python prints."""
        settings = {"cwd": self.folder / "work", "env": self.environment, "capture_output": True, "text": True}
        return subprocess.run([str(self.python), "-c", code], check=True, **settings).stdout

    def kept(self) -> dict[str, list[str]]:
        """Version and place of each package that must not change."""
        look = f"import importlib.metadata as m, json; d = {{n: m.distribution(n) for n in {KEEP}}}"
        return json.loads(self.run(f"{look}; print(json.dumps({{n: [x.version, str(x.locate_file(''))] for n, x in d.items()}}))"))


def pointed(source: str, clone: Path) -> str:
    """The set-up with the clone in place of the repository; without a name, which an older pip refuses before a file."""
    asked = f"dsaml @ git+{address.URL}"
    assert asked in source
    return source.replace(asked, f"git+file://{clone}")


def _seconds(cell: Any) -> float:
    times = [datetime.fromisoformat(text) for text in cell.metadata.get("execution", {}).values()]
    return (max(times) - min(times)).total_seconds() if times else 0.0


def _said(notebook: Any) -> str:
    """What was printed to stderr; of a bar only its last state."""
    texts = [o.text for c in notebook.cells for o in c.get("outputs", []) if o.output_type == "stream" and o.name == "stderr"]
    lines = [line.rsplit("\r", 1)[-1].strip() for text in texts for line in text.splitlines()]
    return " | ".join(line for line in lines if line and "/s]" not in line and "%|" not in line)


def execute(source: Path, machine: Machine, clone: Path) -> dict[str, Any]:
    """Run a notebook on a machine; what came out, in numbers and words."""
    before, started, beside = machine.kept(), time.perf_counter(), os.getloadavg()[0]
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        if "setup" in cell.metadata.get("tags", []):
            cell.source, setup = pointed(cell.source, clone), cell
    kernel = KernelManager(kernel_name="python3")
    kernel.kernel_spec.argv = [str(machine.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    client = NotebookClient(
        notebook, km=kernel, timeout=1200, resources={"metadata": {"path": str(machine.folder / "work")}}
    )
    wrong = ""
    try:
        client.execute(env=machine.environment)
    except CellExecutionError as error:
        wrong = f"{error.ename}: {error.evalue}"
    except Exception as error:  # a dead or endless kernel
        wrong = f"{type(error).__name__}: {str(error)[:200]}"
    nbformat.write(notebook, machine.folder / source.name)
    if not wrong and (said := _said(notebook)):
        wrong = f"said: {said}"
    rest, limit = sum(_seconds(c) for c in notebook.cells if c is not setup), SECONDS[source.name[:2]]
    if not wrong and rest > limit:
        wrong = f"took longer than {limit} s"
    if not wrong and machine.kept() != before:
        wrong = f"changed {before} to {machine.kept()}"
    shown = str(notebook.cells)
    return {
        "notebook": source.stem,
        "setup": round(_seconds(setup), 1),
        "cells": round(rest, 1),
        "all": round(time.perf_counter() - started, 1),
        "figures": shown.count("<img src="),
        "players": shown.count("<audio"),
        "beside": round(beside, 1),
        "wrong": wrong,
    }


def interrupted(machine: Machine, clone: Path, usual: float) -> dict[str, Any]:
    """Kill a set-up at several moments, one after the other, then let it end."""
    cell = f'profile, results = "demo", "results/demo"\n{pointed(SETUP, clone)}\nprint(results)'
    command = [str(machine.python), "-c", cell]
    settings = {"cwd": machine.folder / "work", "env": machine.environment, "text": True}
    for part in KILLED_AT:
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, start_new_session=True, **silent, **settings)
        time.sleep(part * usual)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before, started = machine.kept(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, **settings)
    wrong = done.stderr[-300:] if done.returncode else ""
    if not wrong:
        machine.run("import dsaml.listen.personal, dsaml.experiment.reproduce, dsaml.cli.main")  # everything is there
        stamp = "provenance(get_profile('demo'), None, seeds=[0], seconds=0.0, real=False)"
        code = f"from dsaml.config import get_profile; from dsaml.experiment.results import provenance; print({stamp}['commit'])"
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=clone, check=True, capture_output=True, text=True).stdout
        found = (machine.run(code).strip(), (Path(done.stdout.splitlines()[-1]) / "pdmer.json").is_file(), machine.kept())
        wrong = "" if found == (commit[:12], True, before) else f"commit, results there, packages: {found}"
    return {"notebook": "a set-up killed 4 times", "setup": round(time.perf_counter() - started, 1), "wrong": wrong}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that want a core all the time."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def hosted(python: str, folder: Path) -> Path:
    """The packages that machines of this Python are built around; installed once."""
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", "pip>=24", "wheel", "setuptools<81"], check=True)
        subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", *HOSTED], check=True)
        (folder / "complete").touch()
    return folder


def line(python: str, row: dict[str, Any]) -> str:
    """One row for a person."""
    cells = "" if "cells" not in row else f"cells {row['cells']:6.1f} s, {row['figures']} figures, {row['players']} players"
    return f"{python:5} {row['notebook']:28} set-up {row['setup']:6.1f} s  {cells}  {row['wrong'] or 'ok'}"


def save(path: Path, seconds: dict[str, dict[str, Any]]) -> None:
    """Put what ended well into the file, beside what earlier calls measured."""
    known = json.loads(path.read_text(encoding="utf-8"))["seconds"] if path.is_file() else {}
    merged = {version: known.get(version, {}) | seconds.get(version, {}) for version in sorted({*known, *seconds})}
    write_json(path, {"machine": common.machine(), "limits": SECONDS, "seconds": merged})


def main() -> int:
    """Run what is asked for; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", help="a version; all of 3.11, 3.12 and 3.13 that are there by default")
    parser.add_argument("--only", action="append", help="number of a notebook; all, and the killed set-up, by default")
    parser.add_argument("--load", type=int, default=0, help="processes that keep cores busy beside it")
    parser.add_argument("--folder", type=Path, help="where environments are kept; a temporary folder by default")
    parser.add_argument("--save", type=Path, help="JSON of the seconds of what ends well; the book shows data/bench/colab.json")
    given = parser.parse_args()
    folder = (given.folder or Path(tempfile.mkdtemp(prefix="dsaml-colab-"))).resolve()
    clone = folder / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    wrong, seconds = False, {}
    for version in given.python or PYTHONS:
        python = shutil.which(f"python{version}")
        if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
            print(f"{version}: no such Python here, left out")
            continue
        there, usual, seconds[version] = hosted(python, folder / f"hosted-{version}"), 30.0, {}
        with busy(given.load):
            for source in sorted(clone.glob("notebooks/*.ipynb")):
                if not given.only or source.name[:2] in given.only:
                    row = execute(source, Machine.new(folder / f"{version}-{source.stem}", there), clone)
                    wrong, usual = wrong or bool(row["wrong"]), row["setup"]
                    if not row["wrong"]:
                        seconds[version][source.name[:2]] = {key: row[key] for key in ("setup", "cells", "beside")}
                    print(line(version, row), flush=True)
            if not given.only:
                row = interrupted(Machine.new(folder / f"{version}-killed", there), clone, usual)
                wrong = wrong or bool(row["wrong"])
                if not row["wrong"]:
                    seconds[version]["killed"] = {"setup": row["setup"]}
                print(line(version, row), flush=True)
    if given.save:
        save(given.save, seconds)
    if not given.folder:
        shutil.rmtree(folder)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
