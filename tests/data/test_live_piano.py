"""The live piano performances from small tables in their format: points over time, a largest gap, a split of both."""

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from dsaml.cli.main import app
from dsaml.data import load_dataset
from dsaml.data.base import PARTS
from dsaml.data.checks import check
from dsaml.data.live_piano import FILE
from dsaml.errors import DsamlError
from dsaml.evaluate.floors import score_floors

CLIPS, PEOPLE = 12, 20


def points(clip: int, who: int) -> list[tuple[float, float, float]]:
    """Time, valence, arousal of about one point in three seconds of a minute."""
    rng = np.random.default_rng(100 * clip + who)
    times = np.round(np.cumsum(rng.uniform(1, 5, 25)), 2)
    return [(t, 0.5 * np.sin(t / 9 + clip), 0.6 * np.cos(t / 7 + who)) for t in times[times < 60]]


def write(root, tracks=None, header="participant_id,clip_id,time_s,valence,arousal", shuffle=True):
    """The table; its rows come in any order."""
    root.mkdir(exist_ok=True)
    tracks = tracks or {(f"p{w}", f"c{c}"): points(c, w) for w in range(PEOPLE) for c in range(CLIPS)}
    rows = [f"{who},{clip},{t},{v:.4f},{a:.4f}" for (who, clip), own in tracks.items() for t, v, a in own]
    if shuffle:
        np.random.default_rng(0).shuffle(rows)
    (root / FILE).write_text("\n".join([header, *rows]) + "\n")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("piano"))


def test_points_become_two_hertz_between_each_other(root):
    data = load_dataset("live-piano", root)
    assert data.real and len(data.mean) == CLIPS
    who = data.split.annotators["test"][0]
    clip = sorted(data.tracks[who])[0]
    own = np.array(points(int(clip[1:]), int(who[1:])))
    track = data.tracks[who][clip]
    assert track.times[0] == 15 and own[-1, 0] - 0.5 < track.times[-1] <= own[-1, 0]  # ends with the last point
    np.testing.assert_allclose(track.values[:, 0], np.interp(track.times, own[:, 0], own[:, 2]), atol=1e-4)
    np.testing.assert_allclose(track.values[:, 1], np.interp(track.times, own[:, 0], own[:, 1]), atol=1e-4)
    ends = [points(int(clip[1:]), who)[-1][0] for who in range(PEOPLE)]
    assert data.mean[clip].times[-1] == max(ends) // 0.5 * 0.5


def test_nobody_and_no_clip_is_in_two_parts(root):
    data = load_dataset("live-piano", root)
    assert [len(data.split.songs[part]) for part in PARTS] == [9, 1, 2]
    people = [who for part in PARTS for who in data.split.annotators[part]]
    assert len(people) == len(set(people)) and data.split.annotators["train"] and data.split.annotators["test"]
    assert all(set(data.tracks[who]) <= set(data.split.songs["test"]) for who in data.split.annotators["test"])
    assert set(score_floors(data)["live-piano"]) >= {"test", "test prefix", "test cross-song"}


def test_gaps_late_starts_and_early_ends_are_left_out_with_a_reason(tmp_path):
    tracks = {(f"p{w}", f"c{c}"): points(c, w) for w in range(PEOPLE) for c in range(CLIPS)}
    tracks["p0", "c0"] = [(t, 0.1 * t / 60, 0.3) for t in (2, 14, 20, 30, 40.5, 50)]
    tracks["p1", "c0"] = [(t, 0.1, 0.3) for t in (16, 20, 25)]
    tracks["p2", "c0"] = [(3, 0.1, 0.3), (14, 0.2, 0.1)]
    tracks["p3", "c0"] = [(t, 0.2, 0.3) for t in range(5, 60, 5)]
    tracks["all", "c0"] = points(0, 0)
    tracks["p4", "c0"] = [*points(0, 4), points(0, 4)[3]]
    report = check("live-piano", write(tmp_path, tracks), labels_only=True)
    why = {e.subject: e.reason for e in report.exclusions}
    said = [why[f"song c0, annotator {who}"] for who in ("p0", "p1", "p2", "p3", "all")]
    assert said[:3] == [
        "has 10.5 s between two labels, more than 10 s",
        "starts at 16 s; labels are used from 15 s on and must cover it",
        "ends at 14 s; labels are used from 15 s on",
    ]
    assert "flat track" in said[3] and "reserved" in said[4] and "appears twice" in why["song c0, annotator p4"]
    assert len(report.problems) == 1 and report.problems[0].line  # the double point, with its line
    assert report.summary["tracks"] == PEOPLE * CLIPS + 1 and report.summary["participants in the table"] == PEOPLE + 1


def test_check_with_audio(tmp_path):
    write(tmp_path / "p")
    (tmp_path / "p/audio").mkdir()
    for clip in range(1, CLIPS):
        sf.write(tmp_path / f"p/audio/c{clip}.flac", np.random.default_rng(clip).uniform(-0.1, 0.1, 8000 * 60), 8000)
    done = CliRunner().invoke(app, ["check", "--dataset", "live-piano", "--root", str(tmp_path / "p")])
    assert done.exit_code == 1 and "song c0: labels but no audio" in done.output and "1 errors" in done.output


def test_another_header_scale_or_unit_is_said_exactly(tmp_path):
    report = check("live-piano", write(tmp_path, header="who,Clip,t,Valence,arousal"), labels_only=True)
    assert len(report.problems) == 1
    said = report.problems[0].message
    assert "no column for the participant (participant_id," in said and "and none for the time (time_s," in said
    assert "the columns are: who, Clip, t, Valence, arousal" in said and "clip (" not in said
    tracks = {(f"p{w}", f"c{c}"): [(t * 1000, v, a) for t, v, a in points(c, w)] for w in range(3) for c in range(3)}
    with pytest.raises(DsamlError, match=r"column 'time_s' goes up to \d+, and a clip lasts one minute; give seconds"):
        load_dataset("live-piano", write(tmp_path, tracks))
    tracks = {(f"p{w}", f"c{c}"): [(t, v * 100, a) for t, v, a in points(c, w)] for w in range(3) for c in range(3)}
    problem = check("live-piano", write(tmp_path, tracks), labels_only=True).problems[0]
    assert problem.kind == "scale" and "[-100, 100]" in problem.message
    (tmp_path / FILE).unlink()
    assert "the file is missing" in check("live-piano", tmp_path, labels_only=True).problems[0].message
    with pytest.raises(DsamlError, match="no track can be used"):
        load_dataset("live-piano", write(tmp_path, {("p0", "c0"): [(1, 0, 0), (2, 1, 1)]}))
