"""``check``: a valid data set passes; damaged in many ways it is named, never crashed on."""

import json
import re
import shutil
from pathlib import Path

import pytest
import soundfile as sf
from damage import (
    AUDIO,
    FILES,
    FOLDER,
    RATE,
    TABLE,
    cut_file,
    edit,
    mean_table,
    one_wav,
    rater_table,
    set_cell,
    write_deam,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dsaml.cli.main import app
from dsaml.data import folder
from dsaml.data.checks import check

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    root = tmp_path_factory.mktemp("deam") / "DEAM"
    write_deam(root)
    return root


CASES = (
    [(f"averaged table: {name}", lambda r, d=d: d(mean_table(r)), says, "arousal.csv") for name, (d, says) in TABLE.items()]
    + [(f"annotators: {name}", lambda r, d=d: d(rater_table(r)), says, "valence") for name, (d, says) in TABLE.items()]
    + [(f"audio: {name}", lambda r, d=d: d(one_wav(r)), says, "MEMD_audio") for name, (d, says) in AUDIO.items()]
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
    sound, _ = sf.read(one_wav(root))
    one_wav(root).unlink()
    path = one_wav(root).with_suffix(".mp3")
    sf.write(path, sound, RATE)
    assert run(root).exit_code == 0
    cut_file(path, path.stat().st_size * 3 // 4)
    done = run(root)
    assert done.exit_code == 1 and re.search(r"1003\.mp3 +(truncated|the audio is 3)", done.output), done.output


def test_several_problems_come_at_once(valid, tmp_path):
    root = tmp_path / "DEAM"
    shutil.copytree(valid, root)
    set_cell(mean_table(root), 2, 7, "nan")
    one_wav(root).write_bytes(b"")
    rater_table(root).write_text("")
    assert "3 errors" in run(root).output


def test_a_full_song_that_differs_by_one_label_is_a_notice(valid, tmp_path):
    root = tmp_path / "DEAM"
    shutil.copytree(valid, root)
    edit(mean_table(root), r"^(2001,.*),[^,\n]*$", r"\1,")
    done = run(root)
    assert done.exit_code == 0 and "79 arousal but 80 valence labels; cut to 79" in done.output


def test_an_empty_first_line_is_one_problem(valid, tmp_path):
    root = tmp_path / "DEAM"
    shutil.copytree(valid, root)
    mean_table(root).write_text("\n" + mean_table(root).read_text())
    done = run(root)
    assert done.exit_code == 1 and "is empty; it must name the columns, first 'song_id'" in done.output


def test_a_damaged_row_without_a_partner_is_named(valid, tmp_path):
    root = tmp_path / "DEAM"
    shutil.copytree(valid, root)
    rater_table(root).write_text(rater_table(root).read_text() + "stranger,abc\n")
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
    path = data.draw(st.sampled_from([mean_table(root), rater_table(root), one_wav(root)]))
    raw = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, min(len(raw) - 1, 5000)))
    raw[start : start + 30] = data.draw(st.binary(min_size=1, max_size=60))
    path.write_bytes(bytes(raw))
    report = check("deam", root)
    assert not any("the check stopped" in p.message or "cannot be loaded (" in p.message for p in report.problems)


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
