"""Hostile outputs, times and damage through the command line: nothing of the user's is overwritten, nothing silently wrong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hostile import Case, case, run
from test_hostile import EVALUATE, PERSONALIZE, PREDICT, at, check_case, inputs, put

__all__ = ["inputs"]

CURVE = "time_s,arousal,valence\n"


def to(line: str, out: str) -> str:
    """The same command with another output."""
    return line.replace("out.safetensors", out).replace("out.csv", out).replace("out.json", out)


def flip(folder: Path) -> None:
    """A thousand flipped bytes in the weights of a model."""
    raw = bytearray((folder / "model.safetensors").read_bytes())
    for k in range(1000):
        raw[-1 - 3 * k] ^= 0xFF
    (folder / "model.safetensors").write_bytes(bytes(raw))


STUDY = "study simulate --curves in/curves.json --out out.csv"
TRAIN = "train --dataset folder --root in --out out.safetensors"
WRITERS = {
    "predict": PREDICT,
    "personalize": PERSONALIZE,
    "evaluate": EVALUATE,
    "train": TRAIN,
    "study simulate": STUDY,
}
PLACES = {
    "an input": "in/model.safetensors",
    "another input": "in/curves.json",
    "a folder": "in",
    "a device": "/dev/null",
    "below a file": "in/song.wav/out",
    "a pipe": "in/pipe",
    "the user's own": "mine",
}


def place(name: str, folder: Path) -> None:
    if name == "a pipe":
        os.mkfifo(folder / "pipe")
    (folder.parent / "mine").write_text("my notes")


CASES = [
    case(f"{command}: output is {name}", to(line, out), change=lambda folder, name=name: place(name, folder))
    for command, line in WRITERS.items()
    for name, out in PLACES.items()
    if not (command == "train" and name in ("an input", "another input"))
    and not (command == "study simulate" and name == "an input")
]
CASES += [
    case("predict: output is the song", to(PREDICT, "in/song.wav"), "input"),
    case("predict: output is the song, forced", to(PREDICT, "in/song.wav") + " --force", "input"),
    case("predict: output is the model, by another name", to(PREDICT, "in/../in/model.safetensors"), "input"),
    case("personalize: output is its base, forced", to(PERSONALIZE, "in/model.safetensors") + " --force", "input"),
    case("personalize: output is the curve", to(PERSONALIZE, "in/curve.csv"), "input"),
    case("predict: start -5", PREDICT + " --start=-5", "first predicted second, 0 or more"),
    case("predict: start nan", PREDICT + " --start nan", "start"),
    case("predict: start inf", PREDICT + " --start inf", "start|finite"),
    case("predict: start 1e300", PREDICT + " --start 1e300", "start|missing"),
    case("predict: start after the song", PREDICT + " --start 30", "lasts 20.0 s"),
    case("predict: 1000 flipped bytes", PREDICT, "checksum", flip),
    case("personalize: 1000 flipped bytes", PERSONALIZE, "checksum", flip),
    case("evaluate: 1000 flipped bytes", EVALUATE, "checksum", flip),
    case("personalize: negative times", PERSONALIZE, "before the song", put("curve.csv", CURVE + "-5,0,0\n5,0,0\n")),
    case("personalize: two points 25 s apart", PERSONALIZE, "25 s after", put("curve.csv", CURVE + "0,0,0\n25,0,0\n")),
    case(
        "personalize: a gap of 20 s",
        PERSONALIZE,
        "20 s after",
        put("curve.csv", CURVE + "".join(f"{t},0,0\n" for t in (*range(10), *range(29, 40)))),
    ),
    case("personalize: a leading column", PERSONALIZE, "fields", put("curve.csv", CURVE + "7,0,0,0\n8,1,0,0\n")),
    case("features: hop nan", "features --dataset folder --root in --hop-seconds nan", code=2),
    case("synthesize: workers 0", "synthesize out --workers 0", code=2),
    case("synthesize: workers -1", "synthesize out --workers -1", code=2),
    case("study analyse: output is the rankings", "study analyse in/rankings.csv --json in/rankings.csv", "input|writes"),
    case("study collect: output is a curve", "study collect in/curve.csv --out in/curve.csv --force", "input"),
    case("study collect: output exists", "study collect in/curve.csv --out in/grid.yaml", "add --force"),
    case("study export: output is a file", "study export in --out in/song.wav", "song.wav"),
    case("study template: output exists", "study template in/rankings.csv", "exists|writes"),
    case("predict: curve of a link to a device", to(PREDICT, "in/zero"), change=at("zero", lambda p: p.symlink_to("/dev/zero"))),
]  # fmt: skip


@pytest.mark.parametrize("hostile", CASES, ids=[c.name for c in CASES])
def test_hostile_outputs(hostile: Case, inputs, tmp_path, monkeypatch, capsys):
    shutil.copytree(inputs, tmp_path / "in")
    check_case(hostile, tmp_path, monkeypatch, capsys)
    mine = tmp_path / "mine"
    assert not mine.exists() or mine.read_text() == "my notes"


def test_the_undamaged_command_lines_work(inputs, tmp_path, monkeypatch, capsys):
    shutil.copytree(inputs, tmp_path / "in")
    for line in (PREDICT, PERSONALIZE, to(STUDY, "answers.csv"), "study power --difference 1 --spread 1"):
        run(case(line, line, code=0), tmp_path, monkeypatch, capsys)
    for command in (PREDICT, PERSONALIZE):  # again: they may replace what they wrote
        run(case(command, command, code=0), tmp_path, monkeypatch, capsys)
