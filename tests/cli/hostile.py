"""What the hostile-input suites share: small valid inputs of every kind, and the rules that each damaged one has to keep."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from dsaml.cli.main import main
from dsaml.config import DEMO, ModelConfig
from dsaml.io import KEY, document_digest, pack_tensors
from dsaml.model.dsaml import DSAML
from dsaml.study.answers import write_template

RATE = 8_000
PROFILE = dataclasses.replace(
    DEMO, model=ModelConfig(dim=8, heads=2, layers=1, feed_forward=8, dropout=0.0, slice_shape=(13, 64))
)
HEADER = {"profile": json.dumps(dataclasses.asdict(PROFILE)), "about": json.dumps({"seeds": [0]})}
torch.manual_seed(0)
WEIGHTS = {name: tensor.contiguous() for name, tensor in DSAML(PROFILE.model).state_dict().items()}

Change = Callable[[Path], object]


@dataclasses.dataclass(frozen=True)
class Case:
    """One hostile command line: what is done to the folder of inputs, the arguments, and what has to be said (a regex)."""

    name: str
    arguments: tuple[str, ...]
    says: str = "."
    change: Change = lambda folder: None
    code: int = 1
    environment: tuple[tuple[str, str], ...] = ()


def case(
    name: str, line: str, says: str = ".", change: Change = lambda folder: None, code: int = 1, **environment: str
) -> Case:
    """A case from one line of arguments, split at blanks."""
    return Case(name, tuple(line.split()), says, change, code, tuple(environment.items()))


def model_bytes(header: dict[str, str] | None = None, weights: dict[str, torch.Tensor] | None = None) -> bytes:
    """A model file with any header and any weights, and the digest that fits."""
    return pack_tensors(WEIGHTS if weights is None else weights, HEADER if header is None else header)


def stamped(document: dict[str, object]) -> str:
    """A result file with any content, a stamp, and the digest that fits."""
    document = document | {"provenance": {}}
    return json.dumps(document | {"provenance": {KEY: document_digest(document)}})


def write_inputs(folder: Path) -> None:
    """A song, a model, a curve, rankings, study curves, a grid: all valid, all small."""
    folder.mkdir()
    clock = np.arange(RATE * 20) / RATE
    sf.write(folder / "song.wav", 0.2 * np.sin(2 * np.pi * 220 * clock), RATE)
    (folder / "model.safetensors").write_bytes(model_bytes())
    rows = [f"{t},{0.5 * np.sin(t):.3f},{0.3 * np.cos(t):.3f}" for t in range(20)]
    (folder / "curve.csv").write_text("\n".join(["time_s,arousal,valence", *rows]) + "\n")
    write_template(folder / "rankings.csv")
    curve = [[0.1, 0.2], [0.3, 0.4]]
    song = {"song_id": "s", "truth": curve, "methods": {"A": curve, "B": curve}}
    (folder / "curves.json").write_text(stamped({"participants": [{"id": "p", "songs": [song]}]}))
    (folder / "grid.yaml").write_text("datasets: [{name: folder, root: nowhere}]\nseeds: [0]\n")


def digest(folder: Path) -> dict[str, str]:
    """What lies in a folder: kind and content of everything."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = "link" if path.is_symlink() else "file" if path.is_file() else "folder" if path.is_dir() else "special"
        content = hashlib.sha256(path.read_bytes()).hexdigest() if kind == "file" else ""
        found[str(path.relative_to(folder))] = f"{kind} {content}"
    return found


def children() -> set[int]:
    """Processes that this one has started and that still run (Linux; elsewhere nothing is known)."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return set()
    found: set[int] = set()
    for task in tasks.iterdir():
        with contextlib.suppress(OSError):  # a thread may end meanwhile
            found |= set(map(int, (task / "children").read_text().split()))
    return found


def pipe(path: Path) -> None:
    """Put a named pipe in the place of a file."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    """Put a socket in the place of a file."""
    path.unlink(missing_ok=True)
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(here)


def folder_instead(path: Path) -> None:
    """Put a folder in the place of a file."""
    path.unlink(missing_ok=True)
    path.mkdir()


def endless_link(path: Path) -> None:
    """Put a link to itself in the place of a file."""
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


SPECIAL: dict[str, Change] = {
    "missing": lambda path: path.unlink(),
    "pipe": pipe,
    "socket": unix_socket,
    "folder": folder_instead,
    "endless link": endless_link,
    "device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
}
"""What can stand in the place of any file."""


def run(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run one case inside ``folder`` (inputs in ``in``); returns what was said after checking the rules of all cases."""
    for name, value in case.environment:
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TMPDIR", str(folder))
    case.change(folder / "in")
    before, running = digest(folder / "in"), children()
    with pytest.raises(SystemExit) as left:
        main(list(case.arguments))
    out, err = capsys.readouterr()
    assert left.value.code == case.code, f"exit code {left.value.code}\n{out}\n{err}"
    assert "Traceback" not in out + err and "mistake in dsaml" not in err, err
    assert digest(folder / "in") == before, "an input was changed"
    assert children() <= running, "a process is left"
    sentences = [line for line in err.splitlines() if line.startswith("error: ")]
    if case.code == 1 and case.arguments[0] != "check":  # check prints a report instead
        assert len(sentences) == 1 and err.strip().splitlines()[-1] == sentences[0], err
    return out + err
