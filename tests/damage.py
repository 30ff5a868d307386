"""Small data sets in DEAM's layout and in folder's, and the many ways to damage them."""

import re
import shutil
from pathlib import Path

import numpy as np
import soundfile as sf

from dsaml.config import DIMENSIONS
from dsaml.data import deam

RATE = 8000
CLIPS, FULL = ("1001", "1002", "1003"), "2001"
WORKERS = ("w1", "w2", "w3")


def write_deam(root: Path) -> None:
    """Three clips and one full song of 40 s labels, three annotators, with audio."""
    rng = np.random.default_rng(0)
    steps = {**dict.fromkeys(CLIPS, 60), FULL: 80}
    for k, d in enumerate(DIMENSIONS):
        header = ",".join(f"sample_{15000 + 500 * i}ms" for i in range(80))
        mean = [f"song_id,{header}"]
        for song, n in steps.items():
            curves = {w: 0.8 * np.sin(np.arange(n) / 9 + k + rng.uniform(0, 6)) for w in WORKERS}
            rows = [f"{w}," + ",".join(f"{v:.4f}" for v in c) for w, c in curves.items()]
            path = deam.rater_folder(root, d) / f"{song}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            cut = ",".join(header.split(",")[:n])
            path.write_text("\n".join([f"WorkerId,{cut}", *rows]) + "\n")
            average = np.mean(list(curves.values()), 0)
            mean.append(",".join([song, *(f"{v:.4f}" for v in average), *[""] * (80 - n)]))
        path = deam.mean_file(root, d)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(mean) + "\n")
    audio = deam.audio_folder(root)
    audio.mkdir(parents=True)
    for song, n in steps.items():
        sound = 0.1 * np.sin(np.arange(RATE * (15 + n // 2)) / 7)
        sf.write(audio / f"{song}.wav", sound, RATE, subtype="PCM_U8")


def edit(path, pattern, new, count=1):
    text = path.read_text()
    changed = re.sub(pattern, new, text, count=count, flags=re.M)
    assert changed != text
    path.write_text(changed)


def mean_table(root):
    return deam.mean_file(root, "arousal")


def rater_table(root):
    return deam.rater_folder(root, "valence") / "1002.csv"


def one_wav(root):
    return deam.audio_folder(root) / "1003.wav"


def swap(path, a, b):
    lines = path.read_text().splitlines()
    cells = lines[0].split(",")
    cells[a], cells[b] = cells[b], cells[a]
    path.write_text("\n".join([",".join(cells), *lines[1:]]))


def cut_file(path, size):
    path.write_bytes(path.read_bytes()[:size])


TABLE = {  # damage to a label table: how, and what must be said
    "missing": (lambda p: p.unlink(), "missing|no file"),
    "empty": (lambda p: p.write_text(""), "file is empty"),
    "header only": (lambda p: edit(p, r"\n(.|\n)*", "\n"), "no rows|is missing, but"),
    "semicolons": (lambda p: p.write_text(p.read_text().replace(",", ";")), "separated by semicolons"),
    "tabs": (lambda p: p.write_text(p.read_text().replace(",", "\t")), "separated by tabs"),
    "UTF-16": (lambda p: p.write_text(p.read_text(), encoding="utf-16"), "UTF-16"),
    "Latin-1": (lambda p: p.write_bytes(p.read_bytes() + b"caf\xe9,0.1\n"), "not UTF-8"),
    "zero bytes": (lambda p: p.write_bytes(p.read_bytes()[:300] + b"\0\0\0"), "zero bytes"),
    "a directory": (lambda p: (p.unlink(), p.mkdir()), "cannot be read"),
    "an image": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(1, 256))), "not UTF-8|first column"),
    "wrong first column": (lambda p: edit(p, r"^\w+,", "id,"), "first column is 'id'"),
    "wrong column": (lambda p: edit(p, "sample_15500ms", "second_2"), "column 'second_2' is no time"),
    "times swapped": (lambda p: swap(p, 3, 4), "times must rise by 0.5 s"),
    "time twice": (lambda p: edit(p, "sample_16000ms", "sample_15500ms"), "times must rise by 0.5 s"),
    "starts too early": (lambda p: shift_times(p), "first label is at 0 s"),
    "hole": (lambda p: set_cell(p, 2, 5, ""), "inside the track"),
    "NaN": (lambda p: set_cell(p, 2, 7, "nan"), "inside the track"),
    "text for a number": (lambda p: set_cell(p, 2, 7, "loud"), "not a number"),
    "off scale": (lambda p: set_cell(p, 2, 7, "7.5"), r"off the scale \[-1, 1\].*looks like \[-10, 10\]"),
    "1 to 9": (lambda p: rescale_table(p), r"off the scale.*looks like \[1, 9\]"),
    "row twice": (lambda p: p.write_text(p.read_text() + p.read_text().splitlines()[1]), "appears twice"),
    "row gone": (lambda p: p.write_text("\n".join(np.delete(p.read_text().splitlines(), 2))), "is missing, but"),
    "no id": (lambda p: set_cell(p, 2, 0, ""), "the row has no"),
    "too many cells": (lambda p: edit(p, r"^(100\d|w1),.*$", lambda m: m[0] + ",0.1" * 90), "labels but the header"),
    "short row": (lambda p: edit(p, r"^((1001|w1)(,[^,\n]*){40}).*$", r"\1"), "arousal but"),
    "empty row": (lambda p: edit(p, r"^(1001|w1),.*$", r"\1" + "," * 60), "has no labels"),
}


def set_cell(path, line, cell, value):
    lines = path.read_text().splitlines()
    cells = lines[line - 1].split(",")
    cells[cell] = value
    lines[line - 1] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


def shift_times(path):
    path.write_text(re.sub(r"sample_(\d+)ms", lambda m: f"sample_{int(m[1]) - 15000}ms", path.read_text()))


def rescale_table(path):
    lines = path.read_text().splitlines()
    rows = [r.split(",") for r in lines[1:]]
    new = [",".join([r[0], *(f"{5 + 4 * float(c):.3f}" if c else "" for c in r[1:])]) for r in rows]
    path.write_text("\n".join([lines[0], *new]) + "\n")


AUDIO = {
    "missing": (lambda p: p.unlink(), "song 1003: labels but no audio"),
    "extra": (lambda p: shutil.copy(p, p.with_name("1999.wav")), "song 1999: audio but no labels"),
    "twice": (lambda p: shutil.copy(p, p.with_suffix(".flac")), "has 2 audio files"),
    "empty": (lambda p: p.write_bytes(b""), "0 bytes"),
    "truncated": (lambda p: cut_file(p, p.stat().st_size // 2), "truncated"),
    "noise": (lambda p: p.write_bytes(bytes(range(256)) * 40), "cannot be decoded"),
    "header only": (lambda p: cut_file(p, 30), "truncated|cannot be decoded"),
    "short": (lambda p: sf.write(p, np.full(RATE * 20, 0.1), RATE), "20.0 s long but its labels need 45.0 s"),
    "silent": (lambda p: sf.write(p, np.zeros(RATE * 45), RATE), "silent"),
    "NaN": (lambda p: sf.write(p, np.full(RATE * 45, np.nan), RATE, subtype="FLOAT"), "no finite numbers"),
    "other format": (lambda p: p.rename(p.with_suffix(".m4a")), ".m4a is not read"),
    "text": (lambda p: p.write_text("404 Not Found"), "cannot be decoded"),
}
FILES = {
    "stranger's labels": (lambda r: shutil.copy(rater_table(r), rater_table(r).with_name("7.csv")), "song 7: annotators' labels"),
    "foreign file": (lambda r: rater_table(r).with_name("notes.txt").write_text("x"), "does not belong here"),
    "one dimension": (lambda r: shutil.rmtree(rater_table(r).parent), "own labels are missing"),
    "reserved name": (lambda r: edit(rater_table(r), "^w1,", "all,"), "reserved"),
    "ids of one file gone": (lambda r: edit(rater_table(r), r"^[^,\n]+,", "", 0), "'WorkerId' is missing"),
    "text id": (lambda r: [edit(deam.mean_file(r, d), "^1001,", "a,") for d in DIMENSIONS], "no whole number"),
    "clip too long": (
        lambda r: [edit(deam.mean_file(r, d), "^1001(.*?),,", r"1001\1,0.1,") for d in DIMENSIONS],
        "has 61 labels",
    ),
    "only [0, 1]": (
        lambda r: mean_table(r).write_text(re.sub(r",-?0\.", ",0.", mean_table(r).read_text())),
        r"scale seems to be \[0, 1\]",
    ),
}


def edit_folder(root, *change):
    edit(root / "annotations.csv", *change)


FOLDER = {
    "no table": (lambda r: (r / "annotations.csv").unlink(), "the file is missing"),
    "column gone": (lambda r: edit_folder(r, "time_s", "time"), "column 'time_s' is missing"),
    "time goes back": (lambda r: edit_folder(r, "^example-1,ben,20,", "example-1,ben,18.5,"), "times must rise"),
    "time twice": (lambda r: edit_folder(r, "^example-1,ben,20,", "example-1,ben,19,"), "appears twice"),
    "too slow": (lambda r: edit_folder(r, "^example-1,ben,2[0-4].*\n", "", 0), "has 6.0 s between two labels"),
    "starts late": (lambda r: edit_folder(r, "^example-1,ben,1.*\n", "", 0), "starts at 20 s"),
    "ends early": (lambda r: edit_folder(r, "^example-1,ben,(1[6-9]|[23]).*\n", "", 0), "ends at 15 s"),
    "text": (lambda r: edit_folder(r, "^example-1,ben,20,[^,]*", "example-1,ben,20,loud"), "not a number"),
    "empty": (lambda r: edit_folder(r, "^example-1,ben,20,[^,]*", "example-1,ben,20,"), "arousal is ''"),
    "no song": (lambda r: edit_folder(r, "^example-1,ben,20", ",ben,20"), "the row has no song_id"),
    "cells": (lambda r: edit_folder(r, "^example-1,ben,20", "example-1,ben,20,1"), "has 6 cells"),
    "percent": (lambda r: edit_folder(r, "^example-1,ben,20,[^,]*", "example-1,ben,20,80"), r"\[-100, 100\]"),
    "quote": (lambda r: edit_folder(r, "^example-1,ben,20", '"example-1,ben,20'), "no comma-separated|cells"),
    "reserved": (lambda r: edit_folder(r, ",ben,", ",all,", 0), "reserved"),
    "no audio": (lambda r: (r / "audio/example-2.flac").unlink(), "song example-2: labels but no audio"),
    "split": (lambda r: (r / "splits.json").write_text("{"), "no JSON"),
    "split list": (lambda r: (r / "splits.json").write_text('{"songs": []}'), "not a split file"),
    "stranger": (
        lambda r: (r / "splits.json").write_text('{"songs": {"train": ["example-1", "x"], "test": ["example-2"]}}'),
        "song x: listed",
    ),
    "bad parquet": (lambda r: (r / "annotations.parquet").write_text("x"), "Parquet"),
}
