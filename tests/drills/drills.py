"""Fault drills: commands are killed, starved and crowded at random moments, then run again; the numbers have to be the same.

    python tests/drills/drills.py                       all of them, about 20 minutes
    python tests/drills/drills.py --only train book --faults kill full --rounds 5 --seed 1

Each drill runs a real command on a tiny corpus and profile, does it a harm, checks how it ended (one sentence, no traceback, no
process left after 5 s), runs the same command again undisturbed, and compares with an undisturbed run bit by bit.
"""

from __future__ import annotations

import argparse
import ctypes
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

import numpy as np
from drill_commands import BEGUN, COMMANDS, WITH_WORKERS, numbers, prepare

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ("kill", "term", "worker", "full", "readonly", "two")
LONGEST = 900  # s of one command


class Command:
    """One process that runs a command of drill_commands.py."""

    def __init__(self, name: str, folder: Path, corpus: Path, limit: int | None = None):
        def restrict() -> None:
            libc.prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE: a read-only folder is one for root, too
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        libc = ctypes.CDLL(None)
        self.started = time.monotonic()
        line = [sys.executable, str(ROOT / "tests/drills/drill_commands.py"), name, str(folder), str(corpus)]
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


def command_line(pid: int) -> bytes:
    """What a process was started with; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


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


class Missed(Exception):
    """The command had ended before the harm was done, after so many seconds."""


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
        while True:
            folder, moment = self.fresh(), self.seconds * rng.uniform(0.1, 0.95)
            try:
                done = getattr(self, f"do_{fault}")(folder, moment, rng)
                break
            except Missed as missed:  # the machine has less to do than before
                self.seconds = missed.args[0]
        code, said = self.start(folder).end()
        ended_well(code, said, (0,))
        expect(numbers(self.name, folder) == self.expected, f"other numbers after: {done}", said)
        shutil.rmtree(folder)  # made by this drill, in its own temporary folder
        return done

    def do_kill(self, folder: Path, moment: float, rng: np.random.Generator) -> str:
        """Kill -9 in the middle."""
        command = self.start(folder)
        command.at(moment)
        command.process.kill()
        code, said = command.end()
        if code == 0:
            raise Missed(time.monotonic() - command.started)
        expect(code == -signal.SIGKILL, f"exit code {code}", said)
        return f"kill -9 after {moment:.1f} s"

    def do_term(self, folder: Path, moment: float, rng: np.random.Generator) -> str:
        """SIGTERM in the middle."""
        command = self.start(folder)
        command.at(moment)
        command.process.terminate()
        code, said = command.end()
        if code == 0 or numbers(self.name, folder) == self.expected:  # Python itself was ending
            raise Missed(time.monotonic() - command.started)
        ended_well(code, said, (1, 143) if BEGUN in said else (-signal.SIGTERM,))
        return f"SIGTERM after {moment:.1f} s (exit code {code})"

    def do_worker(self, folder: Path, moment: float, rng: np.random.Generator) -> str:
        """Kill -9 of one of its workers; joblib's own tracker of files is none."""
        command = self.start(folder)
        while command.at(moment) and not (workers := [p for p in command.below if b"tracker" not in command_line(p)]):
            moment += 0.1
        if command.process.poll() is not None:
            command.end()
            raise Missed(time.monotonic() - command.started)
        os.kill(int(rng.choice(workers)), signal.SIGKILL)
        code, said = command.end()
        ended_well(code, said, (0, 1))
        return f"kill -9 of one of {len(workers)} workers after {moment:.1f} s (exit code {code})"

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
    sys.exit(main())
