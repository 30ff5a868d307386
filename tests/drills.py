"""Fault drills: commands are killed, starved and crowded at random moments, then run again; the numbers have to be the same.

    python tests/drills.py                       all of them, about 20 minutes
    python tests/drills.py --only train book --faults kill full --rounds 5 --seed 1

Each drill runs a real command on a tiny corpus and profile, does it a harm, checks how it ended (one sentence, no traceback, no
process left after 5 s), runs the same command again undisturbed, and compares with an undisturbed run bit by bit.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("synthesize", "features", "train", "reproduce", "book")
FAULTS = ("kill", "term", "worker", "full", "readonly", "two")
WITH_WORKERS = ("synthesize", "reproduce")
LONGEST = 900  # s of one command
BEGUN = "begun"  # what a command says when Python itself has started
TABLE_OF_CONTENTS = "format: jb-book\nroot: book/index\nchapters:\n  - file: notebooks/01_a\n  - file: notebooks/02_b\n"
CONFIGURATION = "title: Small\nexecute:\n  execute_notebooks: 'off'\nonly_build_toc_files: true\n"


# ---- inside the process that gets hurt


def work(name: str, folder: Path, corpus: Path) -> None:
    """Run one command through the command line's own entry, with a tiny corpus, profile or book."""
    from dsaml import __main__ as command

    signal.signal(signal.SIGTERM, command._terminate)  # as main does; what follows is imported late in a real command
    print(BEGUN, flush=True)
    from dsaml import book, config, pages
    from dsaml.datasets import deam, population

    small = config.ModelConfig(dim=16, heads=2, layers=1, feed_forward=16, slice_shape=(13, 64))
    plain = config.SupervisedConfig(steps=30, batch_size=4)
    meta = dataclasses.replace(
        config.DEMO.meta, steps=30, tasks_per_step=2, tasks_at_once=1, query_songs=2, inner_steps=1, adapt="all"
    )
    meta = dataclasses.replace(meta, train_adapter=True)
    config.PROFILES["tiny"] = dataclasses.replace(
        config.DEMO, name="tiny", model=small, warm_start=plain, supervised=plain, meta=meta, validate_every=10
    )
    tiny = population.CorpusConfig(
        train_songs=6,
        validation_songs=3,
        test_songs=3,
        long_songs=1,
        train_listeners=4,
        validation_listeners=2,
        test_listeners=2,
        ratings_per_song=4,
    )
    deam.MIN_SONGS.update(train=3, test=2)
    population.CONFIGS["two-signs"] = tiny
    data = ["--dataset", "synthetic", "--root", str(corpus), "--profile", "tiny", "--cache", str(folder / "cache")]
    lines = {
        "synthesize": ["synthesize", str(folder / "corpus")],
        "features": ["features", *data],
        "train": ["train", *data, "--out", str(folder / "model.safetensors"), "--save-every", "3", "--device", "cpu"],
        "reproduce": ["reproduce", "table1", *data, "--seeds", "2", "--results", str(folder / "results")],
    }
    if name == "book":
        pages.from_npm = lambda package, member, cache: None
        command.app = lambda: book.build(root=folder, steps=book.Steps(compute=_small_results))
    else:
        sys.argv = ["dsaml", *lines[name]]
    command.main()


def _small_results(profile: str, results: Path, cache: Path) -> None:
    from dsaml.config import DEMO
    from dsaml.results import provenance, write_result

    time.sleep(1)
    write_result(results / "numbers.json", {"ccc": "0.51"}, provenance(DEMO, None, seeds=[0], seconds=1.0, real=False))


# ---- outside of it


def prepare(name: str, folder: Path) -> None:
    """What a command needs before it starts."""
    folder.mkdir()
    if name != "book":
        return
    import nbformat

    (folder / "dsaml").mkdir()
    (folder / "dsaml/model.py").write_text('"""The model."""\n')
    (folder / "book").mkdir()
    (folder / "book/index.md").write_text("# Hello\n\nThe CCC is {{ ccc }}.\n")
    (folder / "_config.yml").write_text(CONFIGURATION)
    (folder / "_toc.yml").write_text(TABLE_OF_CONTENTS)
    (folder / "notebooks").mkdir()
    for title, code in {"01_a": "print(sum(range(1000)))", "02_b": "import time; time.sleep(1); print(results)"}.items():
        first = nbformat.v4.new_code_cell('profile = "demo"\nresults = "results/demo"', metadata={"tags": ["parameters"]})
        cells = [nbformat.v4.new_markdown_cell(f"# {title}"), first, nbformat.v4.new_code_cell(code)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        for number, cell in enumerate(cells):
            cell.id = f"cell-{number}"
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, folder / "notebooks" / f"{title}.ipynb")


def numbers(name: str, folder: Path) -> str:
    """A digest of what a command computed, without when and where."""
    from dsaml.integrity import read_tensors, tensors_digest

    found: dict[str, Any] = {}
    if name == "synthesize":
        files = [p for p in (folder / "corpus").rglob("*") if p.is_file() and p.name != ".lock"]
        found = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    elif name == "features":
        found = {p.name: tensors_digest(*read_tensors(p)) for p in (folder / "cache").glob("*.safetensors")}
    elif name == "train":
        found = {"weights": tensors_digest(read_tensors(folder / "model.safetensors")[0], {})}
    elif name == "reproduce":
        for path in (folder / "results").glob("*.json"):
            found[path.name] = json.loads(path.read_text())
            del found[path.name]["provenance"]
    else:
        for path in (folder / "_build/executed").glob("*.ipynb"):
            found[path.name] = [cell.get("outputs") for cell in json.loads(path.read_text())["cells"]]
        for path in sorted((folder / "_build/html").rglob("0*.html")):
            found[path.name] = re.findall(r"<pre>.*?</pre>", path.read_text(), re.DOTALL)
    if not found:
        return "nothing"
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


class Command:
    """One process that runs :func:`work`."""

    def __init__(self, name: str, folder: Path, corpus: Path, limit: int | None = None):
        def restrict() -> None:
            libc.prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE: a read-only folder is one for root, too
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        libc = ctypes.CDLL(None)
        self.started = time.monotonic()
        line = [sys.executable, __file__, "--work", name, str(folder), str(corpus)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "500"}
        self.below: list[int] = []
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}  # a limit on files would cut a file short
        self.process = subprocess.Popen(line, cwd=ROOT, env=environment, preexec_fn=restrict, **pipe)

    def at(self, moment: float) -> bool:
        """Wait until ``moment``, in seconds from the start; False if the command had ended before."""
        while time.monotonic() < self.started + moment and self.process.poll() is None:
            time.sleep(0.01)
        self.below = descendants(self.process.pid)
        return self.process.poll() is None

    def end(self) -> tuple[int, str]:
        """Exit code and everything it said, when it has ended; longer than LONGEST is a failure (code 124)."""
        try:
            self.process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return 124, "did not end"
        if left := left_after(self.below, 5):
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return 125, f"left {len(left)} processes running"
        return self.process.returncode, self.process.communicate()[0].decode(errors="replace")


def _parent(pid: int) -> int | None:
    """The parent of a living process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[1])  # a zombie has ended


def descendants(pid: int) -> list[int]:
    """All processes below one, in the order of their numbers."""
    parents = {int(p.name): _parent(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit()}
    found, new = set(), {pid}
    while new:
        found |= new
        new = {child for child, parent in parents.items() if parent in new} - found
    return sorted(found - {pid})


def left_after(pids: list[int], seconds: float) -> list[int]:
    """Which of the processes still live when the time is over."""
    end = time.monotonic() + seconds
    while (left := [pid for pid in pids if _parent(pid) is not None]) and time.monotonic() < end:
        time.sleep(0.1)
    return left


class Failure(Exception):
    """A drill that did not end as it should."""


def expect(condition: bool, what: str, said: str = "") -> None:
    """Fail the drill with what was expected."""
    if not condition:
        raise Failure(f"{what}\n{said.strip()}"[-3000:])


def ended_well(code: int, said: str, codes: tuple[int, ...]) -> None:
    """The exit code is one of these, with one sentence where it is an error, and never a traceback."""
    expect(code in codes, f"exit code {code}, not one of {codes}", said)
    expect("Traceback" not in said, "a traceback", said)
    if code == 1:
        expect(len(re.findall(r"^error: ", said, re.MULTILINE)) == 1, "not one sentence", said)


class Drills:
    """The undisturbed run of one command, and harm done to others."""

    def __init__(self, name: str, place: Path, corpus: Path):
        self.name, self.place, self.corpus, self.count = name, place, corpus, 0
        folder = self.fresh()
        command = Command(name, folder, corpus)
        code, said = command.end()
        self.seconds = time.monotonic() - command.started
        expect(code == 0, f"the undisturbed run ended with {code}", said)
        self.expected = numbers(name, folder)
        expect(self.expected != "nothing", "the undisturbed run wrote nothing")
        self.largest = max(p.stat().st_size for p in folder.rglob("*") if p.is_file())

    def fresh(self) -> Path:
        """A new folder for one run, with what the command needs."""
        self.count += 1
        folder = self.place / f"{self.name}-{self.count}"
        prepare(self.name, folder)
        return folder

    def start(self, folder: Path, limit: int | None = None) -> Command:
        """The command in a folder."""
        return Command(self.name, folder, self.corpus, limit)

    def run(self, fault: str, rng: np.random.Generator) -> str:
        """One drill; returns what was done, raises Failure."""
        folder, moment = self.fresh(), self.seconds * rng.uniform(0.1, 0.95)
        done = getattr(self, f"do_{fault}")(folder, moment, rng)
        code, said = self.start(folder).end()
        ended_well(code, said, (0,))
        expect(numbers(self.name, folder) == self.expected, f"other numbers after: {done}", said)
        shutil.rmtree(folder)  # made by this drill, in its own temporary folder
        return done

    def do_kill(self, folder: Path, moment: float, rng: np.random.Generator) -> str:
        """Kill -9 in the middle."""
        command = self.start(folder)
        hit = command.at(moment)
        command.process.kill()
        code, said = command.end()
        expect(code in ((-signal.SIGKILL,) if hit else (0, -signal.SIGKILL)), f"exit code {code}", said)
        return f"kill -9 after {moment:.1f} s"

    def do_term(self, folder: Path, moment: float, rng: np.random.Generator) -> str:
        """SIGTERM in the middle."""
        command = self.start(folder)
        command.at(moment)
        command.process.terminate()
        code, said = command.end()
        ended_well(code, said, (0, 1, 143) if BEGUN in said else (-signal.SIGTERM,))
        return f"SIGTERM after {moment:.1f} s (exit code {code})"

    def do_worker(self, folder: Path, moment: float, rng: np.random.Generator) -> str:
        """Kill -9 of one of its processes."""
        command = self.start(folder)
        while command.at(moment) and not command.below and moment < self.seconds:
            moment += 0.2
        if command.below:
            os.kill(int(rng.choice(command.below)), signal.SIGKILL)
        code, said = command.end()
        ended_well(code, said, (0, 1))
        return f"kill -9 of one of {len(command.below)} processes after {moment:.1f} s (exit code {code})"

    def do_full(self, folder: Path, moment: float, rng: np.random.Generator) -> str:
        """No file can grow beyond a size that the largest one needs."""
        limit = int(self.largest * rng.uniform(0.05, 0.95))
        code, said = self.start(folder, limit).end()
        ended_well(code, said, (1,))
        return f"no room beyond {limit} bytes in a file"

    def do_readonly(self, folder: Path, moment: float, rng: np.random.Generator) -> str:
        """Nothing can be written."""
        before = sorted(folder.rglob("*"))
        folder.chmod(0o555)
        try:
            code, said = self.start(folder).end()
        finally:
            folder.chmod(0o755)
        ended_well(code, said, (1,))
        expect(sorted(folder.rglob("*")) == before, "files in a read-only folder")
        return "a read-only folder"

    def do_two(self, folder: Path, moment: float, rng: np.random.Generator) -> str:
        """Two of them at once, the second one a little later."""
        first = self.start(folder)
        first.at(rng.uniform(0, 0.5) * self.seconds)
        second = self.start(folder)
        for command in (first, second):
            code, said = command.end()
            ended_well(code, said, (0, 1))
        return "two at once"


def main() -> int:
    """Run the drills that the command line asks for; exit code 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=COMMANDS, metavar="COMMAND")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS, metavar="FAULT")
    parser.add_argument("--rounds", type=int, default=2, help="of each fault that strikes at a random moment")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    chosen = parser.parse_args()
    done = failed = 0
    with tempfile.TemporaryDirectory(prefix="drills-") as made:
        place = Path(made)
        if set(chosen.only) & {"features", "train", "reproduce"}:
            code, said = Command("synthesize", place, place).end()
            expect(code == 0, "no corpus", said)
        for name in chosen.only:
            drills = Drills(name, place, place / "corpus")
            print(f"{name}: undisturbed in {drills.seconds:.1f} s", flush=True)
            for place_of_fault, fault in enumerate(FAULTS):
                if fault not in chosen.faults or (fault == "worker" and name not in WITH_WORKERS):
                    continue
                for number in range(chosen.rounds if fault in ("kill", "term", "worker") else 1):
                    rng = np.random.default_rng([chosen.seed, COMMANDS.index(name), place_of_fault, number])
                    done += 1
                    try:
                        print(f"  ok    {drills.run(fault, rng)}", flush=True)
                    except Failure as failure:
                        failed += 1
                        print(f"  FAIL  {fault}: {failure}", flush=True)
    print(f"{done} drills, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        sys.exit(main())
