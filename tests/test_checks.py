"""``check``: a valid data set passes; damaged in many ways it is named, never crashed on."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dsaml.__main__ import app
from dsaml.checks import check
from dsaml.datasets import deam, folder

SHARED = Path(__file__).parents[2] / "shared" / "data"
RATE = 8000
CLIPS, FULL = ("1001", "1002", "1003"), "2001"
WORKERS = ("w1", "w2", "w3")


def write_deam(root: Path) -> None:
    """Three clips and one full song of 40 s labels, three annotators, with audio."""
    rng = np.random.default_rng(0)
    steps = {**dict.fromkeys(CLIPS, 60), FULL: 80}
    for k, d in enumerate(deam.DIMENSIONS):
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


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    root = tmp_path_factory.mktemp("deam") / "DEAM"
    write_deam(root)
    return root


def _edit(path, pattern, new, count=1):
    text = path.read_text()
    changed = re.sub(pattern, new, text, count=count, flags=re.M)
    assert changed != text
    path.write_text(changed)


def _mean(root):
    return deam.mean_file(root, "arousal")


def _rater(root):
    return deam.rater_folder(root, "valence") / "1002.csv"


def _wav(root):
    return deam.audio_folder(root) / "1003.wav"


def _swap(path, a, b):
    lines = path.read_text().splitlines()
    cells = lines[0].split(",")
    cells[a], cells[b] = cells[b], cells[a]
    path.write_text("\n".join([",".join(cells), *lines[1:]]))


def _cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


TABLE = {  # damage to a label table: how, and what must be said
    "missing": (lambda p: p.unlink(), "missing|no file"),
    "empty": (lambda p: p.write_text(""), "file is empty"),
    "header only": (lambda p: _edit(p, r"\n(.|\n)*", "\n"), "no rows|is missing, but"),
    "semicolons": (lambda p: p.write_text(p.read_text().replace(",", ";")), "separated by semicolons"),
    "tabs": (lambda p: p.write_text(p.read_text().replace(",", "\t")), "separated by tabs"),
    "UTF-16": (lambda p: p.write_text(p.read_text(), encoding="utf-16"), "UTF-16"),
    "Latin-1": (lambda p: p.write_bytes(p.read_bytes() + b"caf\xe9,0.1\n"), "not UTF-8"),
    "zero bytes": (lambda p: p.write_bytes(p.read_bytes()[:300] + b"\0\0\0"), "zero bytes"),
    "a directory": (lambda p: (p.unlink(), p.mkdir()), "cannot be read"),
    "an image": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(1, 256))), "not UTF-8|first column"),
    "wrong first column": (lambda p: _edit(p, r"^\w+,", "id,"), "first column is 'id'"),
    "wrong column": (lambda p: _edit(p, "sample_15500ms", "second_2"), "column 'second_2' is no time"),
    "times swapped": (lambda p: _swap(p, 3, 4), "times must rise by 0.5 s"),
    "time twice": (lambda p: _edit(p, "sample_16000ms", "sample_15500ms"), "times must rise by 0.5 s"),
    "starts too early": (lambda p: _shift(p), "first label is at 0 s"),
    "hole": (lambda p: _cell(p, 2, 5, ""), "inside the track"),
    "NaN": (lambda p: _cell(p, 2, 7, "nan"), "inside the track"),
    "text for a number": (lambda p: _cell(p, 2, 7, "loud"), "not a number"),
    "off scale": (lambda p: _cell(p, 2, 7, "7.5"), r"off the scale \[-1, 1\].*looks like \[-10, 10\]"),
    "1 to 9": (lambda p: _rescale(p), r"off the scale.*looks like \[1, 9\]"),
    "row twice": (lambda p: p.write_text(p.read_text() + p.read_text().splitlines()[1]), "appears twice"),
    "row gone": (lambda p: p.write_text("\n".join(np.delete(p.read_text().splitlines(), 2))), "is missing, but"),
    "no id": (lambda p: _cell(p, 2, 0, ""), "the row has no"),
    "too many cells": (lambda p: _edit(p, r"^(100\d|w1),.*$", lambda m: m[0] + ",0.1" * 90), "labels but the header"),
    "short row": (lambda p: _edit(p, r"^((1001|w1)(,[^,\n]*){40}).*$", r"\1"), "arousal but"),
    "empty row": (lambda p: _edit(p, r"^(1001|w1),.*$", r"\1" + "," * 60), "has no labels"),
}


def _cell(path, line, cell, value):
    lines = path.read_text().splitlines()
    cells = lines[line - 1].split(",")
    cells[cell] = value
    lines[line - 1] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


def _shift(path):
    path.write_text(re.sub(r"sample_(\d+)ms", lambda m: f"sample_{int(m[1]) - 15000}ms", path.read_text()))


def _rescale(path):
    lines = path.read_text().splitlines()
    rows = [r.split(",") for r in lines[1:]]
    new = [",".join([r[0], *(f"{5 + 4 * float(c):.3f}" if c else "" for c in r[1:])]) for r in rows]
    path.write_text("\n".join([lines[0], *new]) + "\n")


AUDIO = {
    "missing": (lambda p: p.unlink(), "song 1003: labels but no audio"),
    "extra": (lambda p: shutil.copy(p, p.with_name("1999.wav")), "song 1999: audio but no labels"),
    "twice": (lambda p: shutil.copy(p, p.with_suffix(".flac")), "has 2 audio files"),
    "empty": (lambda p: p.write_bytes(b""), "0 bytes"),
    "truncated": (lambda p: _cut(p, p.stat().st_size // 2), "truncated"),
    "noise": (lambda p: p.write_bytes(bytes(range(256)) * 40), "cannot be decoded"),
    "header only": (lambda p: _cut(p, 30), "truncated|cannot be decoded"),
    "short": (lambda p: sf.write(p, np.full(RATE * 20, 0.1), RATE), "20.0 s long but its labels need 45.0 s"),
    "silent": (lambda p: sf.write(p, np.zeros(RATE * 45), RATE), "silent"),
    "NaN": (lambda p: sf.write(p, np.full(RATE * 45, np.nan), RATE, subtype="FLOAT"), "no finite numbers"),
    "other format": (lambda p: p.rename(p.with_suffix(".m4a")), ".m4a is not read"),
    "text": (lambda p: p.write_text("404 Not Found"), "cannot be decoded"),
}
FILES = {
    "stranger's labels": (lambda r: shutil.copy(_rater(r), _rater(r).with_name("7.csv")), "song 7: annotators' labels"),
    "foreign file": (lambda r: _rater(r).with_name("notes.txt").write_text("x"), "does not belong here"),
    "one dimension": (lambda r: shutil.rmtree(_rater(r).parent), "own labels are missing"),
    "reserved name": (lambda r: _edit(_rater(r), "^w1,", "all,"), "reserved"),
    "ids of one file gone": (lambda r: _edit(_rater(r), r"^[^,\n]+,", "", 0), "'WorkerId' is missing"),
    "text id": (lambda r: [_edit(deam.mean_file(r, d), "^1001,", "a,") for d in deam.DIMENSIONS], "no whole number"),
    "clip too long": (
        lambda r: [_edit(deam.mean_file(r, d), "^1001(.*?),,", r"1001\1,0.1,") for d in deam.DIMENSIONS],
        "has 61 labels",
    ),
    "only [0, 1]": (
        lambda r: _mean(r).write_text(re.sub(r",-?0\.", ",0.", _mean(r).read_text())),
        r"scale seems to be \[0, 1\]",
    ),
}
CASES = (
    [(f"averaged table: {name}", lambda r, d=d: d(_mean(r)), says, "arousal.csv") for name, (d, says) in TABLE.items()]
    + [(f"annotators: {name}", lambda r, d=d: d(_rater(r)), says, "valence") for name, (d, says) in TABLE.items()]
    + [(f"audio: {name}", lambda r, d=d: d(_wav(r)), says, "MEMD_audio") for name, (d, says) in AUDIO.items()]
    + [(f"files: {name}", damage, says, "annotations") for name, (damage, says) in FILES.items()]
)


def run(root, *more, name="deam"):
    done = CliRunner().invoke(app, ["check", "--dataset", name, "--root", str(root), *more])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_a_valid_data_set_passes(valid):
    done = run(valid)
    assert done.exit_code == 0, done.output
    assert "0 errors, 0 notices" in done.output
    report = json.loads(run(valid, "--json").stdout)
    assert report["ok"] and report["problems"] == []
    assert report["summary"]["usable songs"] == 4
    assert report["summary"]["tracks in the annotators' files"] == 12


@pytest.mark.parametrize(("case", "damage", "says", "where"), CASES, ids=[c[0] for c in CASES])
def test_damage_is_named(valid, tmp_path, case, damage, says, where):
    root = tmp_path / "DEAM"
    shutil.copytree(valid, root)
    damage(root)
    done = run(root)
    assert done.exit_code == 1
    assert "Traceback" not in done.output and "the check stopped" not in done.output
    lines = [line for line in done.output.splitlines() if line.startswith("error") and re.search(says, line)]
    assert len(lines) == 1 and where in lines[0], done.output
    report = json.loads(run(root, "--json").stdout)
    assert report["errors"] >= 1 and not report["ok"]
    assert report["summary"]["songs with averaged valence"] >= 3  # the valid part still counts
    assert report["summary"]["audio files"] >= 3
    if not case.startswith("averaged"):
        assert report["summary"]["usable songs"] >= 3


def test_a_truncated_mp3_is_named(valid, tmp_path):
    root = tmp_path / "DEAM"
    shutil.copytree(valid, root)
    sound, _ = sf.read(_wav(root))
    _wav(root).unlink()
    path = _wav(root).with_suffix(".mp3")
    sf.write(path, sound, RATE)
    assert run(root).exit_code == 0
    _cut(path, path.stat().st_size * 3 // 4)
    done = run(root)
    assert done.exit_code == 1 and re.search(r"1003\.mp3 +(truncated|the audio is 3)", done.output), done.output


def test_several_problems_come_at_once(valid, tmp_path):
    root = tmp_path / "DEAM"
    shutil.copytree(valid, root)
    _cell(_mean(root), 2, 7, "nan")
    _wav(root).write_bytes(b"")
    _rater(root).write_text("")
    assert "3 errors" in run(root).output


def test_a_full_song_that_differs_by_one_label_is_a_notice(valid, tmp_path):
    root = tmp_path / "DEAM"
    shutil.copytree(valid, root)
    _edit(_mean(root), r"^(2001,.*),[^,\n]*$", r"\1,")
    done = run(root)
    assert done.exit_code == 0 and "79 arousal but 80 valence labels; cut to 79" in done.output


def test_an_empty_first_line_is_one_problem(valid, tmp_path):
    root = tmp_path / "DEAM"
    shutil.copytree(valid, root)
    _mean(root).write_text("\n" + _mean(root).read_text())
    done = run(root)
    assert done.exit_code == 1 and "is empty; it must name the columns, first 'song_id'" in done.output


def test_a_damaged_row_without_a_partner_is_named(valid, tmp_path):
    root = tmp_path / "DEAM"
    shutil.copytree(valid, root)
    _rater(root).write_text(_rater(root).read_text() + "stranger,abc\n")
    done = run(root)
    assert (
        done.exit_code == 1 and "WorkerId stranger is missing" in done.output and "the check stopped" not in done.output
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_bytes_never_crash_it(valid, tmp_path, data):
    root = tmp_path / "DEAM"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(valid, root)
    path = data.draw(st.sampled_from([_mean(root), _rater(root), _wav(root)]))
    raw = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, min(len(raw) - 1, 5000)))
    raw[start : start + 30] = data.draw(st.binary(min_size=1, max_size=60))
    path.write_bytes(bytes(raw))
    report = check("deam", root)
    assert not any("the check stopped" in p.message or "cannot be loaded (" in p.message for p in report.problems)


def _long(root, *edit):
    _edit(root / "annotations.csv", *edit)


FOLDER = {
    "no table": (lambda r: (r / "annotations.csv").unlink(), "the file is missing"),
    "column gone": (lambda r: _long(r, "time_s", "time"), "column 'time_s' is missing"),
    "time goes back": (lambda r: _long(r, "^example-1,ben,20,", "example-1,ben,18.5,"), "times must rise"),
    "time twice": (lambda r: _long(r, "^example-1,ben,20,", "example-1,ben,19,"), "appears twice"),
    "too slow": (lambda r: _long(r, "^example-1,ben,2[0-4].*\n", "", 0), "gap of 6 s"),
    "starts late": (lambda r: _long(r, "^example-1,ben,1.*\n", "", 0), "starts at 20 s"),
    "ends early": (lambda r: _long(r, "^example-1,ben,(1[6-9]|[23]).*\n", "", 0), "ends at 15 s"),
    "text": (lambda r: _long(r, "^example-1,ben,20,[^,]*", "example-1,ben,20,loud"), "not a number"),
    "empty": (lambda r: _long(r, "^example-1,ben,20,[^,]*", "example-1,ben,20,"), "arousal is ''"),
    "no song": (lambda r: _long(r, "^example-1,ben,20", ",ben,20"), "the row has no song_id"),
    "cells": (lambda r: _long(r, "^example-1,ben,20", "example-1,ben,20,1"), "has 6 cells"),
    "percent": (lambda r: _long(r, "^example-1,ben,20,[^,]*", "example-1,ben,20,80"), r"\[-100, 100\]"),
    "quote": (lambda r: _long(r, "^example-1,ben,20", '"example-1,ben,20'), "no comma-separated|cells"),
    "reserved": (lambda r: _long(r, ",ben,", ",all,", 0), "reserved"),
    "no audio": (lambda r: (r / "audio/example-2.flac").unlink(), "song example-2: labels but no audio"),
    "split": (lambda r: (r / "splits.json").write_text("{"), "no JSON"),
    "split list": (lambda r: (r / "splits.json").write_text('{"songs": []}'), "not a split file"),
    "stranger": (
        lambda r: (r / "splits.json").write_text('{"songs": {"train": ["example-1", "x"], "test": ["example-2"]}}'),
        "song x: listed",
    ),
    "bad parquet": (lambda r: (r / "annotations.parquet").write_text("x"), "Parquet"),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder") / "mine"
    folder.write_template(root)
    return root


def test_the_template_passes(template):
    assert run(template, name="folder").exit_code == 0


@pytest.mark.parametrize(("damage", "says"), FOLDER.values(), ids=FOLDER)
def test_damage_to_a_folder_is_named(template, tmp_path, damage, says):
    root = tmp_path / "mine"
    shutil.copytree(template, root)
    damage(root)
    done = run(root, name="folder")
    assert done.exit_code == 1 and "the check stopped" not in done.output
    lines = done.output.splitlines()
    assert [line for line in lines if line.startswith("error") and re.search(says, line)], done.output


def test_a_missing_root_is_one_sentence(tmp_path):
    done = CliRunner().invoke(app, ["check", "--dataset", "deam", "--root", str(tmp_path / "no")])
    assert done.exit_code != 0 and "not a folder" in str(done.exception)
    assert run(tmp_path).exit_code == 1  # an empty folder: problems, no crash
    for name in ("pmemo", "folder", "synthetic"):
        assert run(tmp_path, name=name).exit_code == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real labels (../shared/data) are not here")
def test_real_labels():
    real = check("deam", SHARED / "DEAM", labels_only=True)
    assert real.ok and real.summary["songs by part"]["test"] == 58
    assert sum("cut to" in p.message for p in real.problems) == 7
    assert not check("deam", SHARED / "DEAM").ok  # 1797 songs have no audio here
    pmemo = check("pmemo", SHARED / "PMEmo2019", labels_only=True)
    assert pmemo.ok and any("27 in all" in p.message for p in pmemo.problems)
    parts = pmemo.summary["songs by part"]
    assert (parts["train"] + parts["validation"], parts["test"]) == (632, 40)
    assert pmemo.summary["songs shorter than 25 s (dropped)"] == 122
