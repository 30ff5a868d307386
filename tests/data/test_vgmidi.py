"""VGMIDI: times from the MIDI, people, a split that keeps their pieces together, audio that is rendered."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from labels import midi, write_vgmidi
from typer.testing import CliRunner

from dsaml.cli.main import app
from dsaml.data import load_dataset, splits, vgmidi
from dsaml.data.base import flat_tracks, with_flat, without_short
from dsaml.data.checks import check
from dsaml.data.findings import Findings
from dsaml.data.midi import read_score
from dsaml.data.render import NAME, TAIL, render, rendered_with
from dsaml.data.splits import SPLITS, read_split
from dsaml.errors import DsamlError
from dsaml.evaluate.floors import FLAT_TOO, score_floors

REAL = Path(__file__).parents[3] / "shared/data/vgmidi"
real = pytest.mark.skipif(not REAL.is_dir(), reason="VGMIDI (../shared/data/vgmidi) is not here")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vgmidi")
    write_vgmidi(folder)
    return folder


def edit(root: Path, change) -> Path:
    path = root / "annotations" / vgmidi.FILES[0]
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def test_time_follows_every_change_of_tempo(tmp_path):
    path = tmp_path / "a.mid"
    path.write_bytes(midi([(4, 1_000_000), (8, 250_000)], 300))
    score = read_score(path)
    np.testing.assert_allclose(score.seconds(np.array([0, 2, 4, 6, 8, 12]) * score.division), [0, 1, 2, 4, 6, 7])
    for content in (b"", b"RIFF" + path.read_bytes()[4:], path.read_bytes()[:-2], midi([], 4, division=0x8000 | 25)):
        path.write_bytes(content)
        with pytest.raises(DsamlError, match="is no intact MIDI file"):
            read_score(path)
    with pytest.raises(DsamlError, match="cannot be read"):
        read_score(tmp_path / "b.mid")


def test_labels_become_two_hertz_at_the_middle_of_their_units(root):
    data = load_dataset("vgmidi", root)
    label = data.mean["1-piece10"]
    raw = json.loads((root / "annotations" / vgmidi.FILES[0]).read_text())["annotations"]
    values = np.array([raw[f"piece10_{k}"]["arousal"] for k in range(4)])  # one in 2 s: middles at 1, 3, 5, ...
    assert label.times[0] == 15 and label.times[-1] == 47 and data.real
    np.testing.assert_allclose(label.values[::4, 0], values[:, 7:].mean(0))
    np.testing.assert_allclose(label.values[1, 0], (0.75 * values[:, 7] + 0.25 * values[:, 8]).mean())
    who = next(who for who, tracks in data.tracks.items() if "1-piece10" in tracks)
    np.testing.assert_allclose(data.tracks[who]["1-piece10"].values[::4, 0], values[int(who[-1]), 7:])


@pytest.mark.parametrize("name", vgmidi.SEEDS)
def test_people_keep_both_pieces_in_one_part(root, name, monkeypatch, tmp_path):
    monkeypatch.setattr(splits, "SPLITS", tmp_path)  # by the rule
    data = load_dataset(name, root)
    assert {part: len(ids) for part, ids in data.split.songs.items()} == {"train": 20, "validation": 4, "test": 8}
    of_song = {song: part for part, ids in data.split.songs.items() for song in ids}
    for part, people in data.split.annotators.items():
        assert people
        for who in people:
            assert len(data.tracks[who]) == 2 and {of_song[song] for song in data.tracks[who]} == {part}
    torn = [e for e in data.exclusions if e.reason.endswith("songs, fewer than 2; 1 more in other parts of the split")]
    assert len(torn) + sum(map(len, data.split.annotators.values())) == 64
    assert set(score_floors(data)[name]) >= {"test", "test prefix", "test cross-song"}


@pytest.mark.parametrize("name", vgmidi.SEEDS)
def test_the_committed_splits_follow_their_rule(name):
    parts = read_split(SPLITS / f"{name}.json")["songs"]
    names = [[i for ids in parts.values() for i in ids if i.startswith(f"{n}-")] for n in (1, 2)]
    assert vgmidi.split_pieces(names, vgmidi.SEEDS[name]) == parts
    assert list(map(len, names)) == [99, 105]


def test_a_person_is_told_by_what_they_wrote(tmp_path):
    write_vgmidi(tmp_path, pieces=4, people=3)

    def change(document):
        labels = document["annotations"]
        labels["piece0_0"]["ex1_description"] = labels["piece1_1"][
            "ex1_description"
        ]  # piece0_1 and piece1_1 are one person
        labels["piece2_9"] = labels.pop("piece2_2")  # the suffix differs, the person does not

    edit(tmp_path, change)
    pieces, _ = vgmidi.read_pieces(Findings(tmp_path))
    people = {piece.id: set(piece.tracks) for piece in pieces}
    assert len(people["1-piece2"] & people["1-piece3"]) == 3
    assert people["1-piece0"] & people["1-piece1"] == {
        "1-piece0_1",
        "1-piece0_2",
    }  # three of one text: the suffix decides
    assert {"1-piece0_0"} < people["1-piece0"]


def test_what_cannot_be_used_is_left_out_with_a_reason(tmp_path):
    write_vgmidi(tmp_path)

    def change(document):
        labels = document["annotations"]
        labels["piece0_0"]["arousal"][3] = 1.5
        labels["piece0_1"]["arousal"].append(0.0)
        labels["piece0_1"]["valence"].append(0.0)
        labels["piece0_2"]["valence"] = [0.2] * 24
        del document["pieces"]["piece1"]

    edit(tmp_path, change)
    (tmp_path / "midi/1-piece2.mid").unlink()
    (tmp_path / "midi/1-piece3.mid").write_bytes(midi([(40, 2_000_000)], 96))
    (tmp_path / "midi/1-piece4.mid").write_bytes(midi([(0, 100_000)], 96))
    found = check("vgmidi", tmp_path, labels_only=True)
    why = {e.subject: e.reason for e in found.exclusions}
    assert "off the scale" in why["song 1-piece0, annotator 1-piece0_0"]
    assert why["song 1-piece0, annotator 1-piece0_1"] == "has 25 labels, the others 24"
    assert "flat track" in why["song 1-piece0, annotator 1-piece0_2"]
    assert "no metadata" in why["song 1-piece1"] and "no MIDI" in why["song 1-piece2"]
    assert why["song 1-piece3"] == "has 8.0 s between two labels, more than 6 s"
    assert "0 labels from 15 s on" in why["song 1-piece4"]
    assert [p.kind for p in found.problems] == ["scale", "missing"] and "1 of 4 tracks" in found.problems[0].message
    assert found.summary["pieces in the annotations"] == 32 and found.summary["usable songs"] == 28


def test_a_track_that_never_moves_counts_for_levels_alone(root, tmp_path, monkeypatch):
    """Of one person one piece is flat, of another both: the others and their split are as before."""
    monkeypatch.setattr(splits, "SPLITS", tmp_path)  # by the rule
    write_vgmidi(tmp_path)
    before = load_dataset("vgmidi", root)
    first, second = before.split.annotators["test"][:2]
    flat = [(first, sorted(before.tracks[first])[0]), *((second, song) for song in before.tracks[second])]
    for number, name in enumerate(vgmidi.FILES, 1):
        path = tmp_path / "annotations" / name
        document = json.loads(path.read_text())
        for who, song in flat:
            if song[0] == str(number):
                document["annotations"][f"{song[2:]}_{who[-1]}"]["valence"] = [0.2] * 24
        path.write_text(json.dumps(document))
    data = load_dataset("vgmidi", tmp_path)
    left = tuple(who for who in before.split.annotators["test"] if who not in (first, second))
    assert data.split.annotators == before.split.annotators | {"test": left} and data.split.songs == before.split.songs
    assert {who: sorted(own) for who, own in data.flat.items()} == {who: sorted(before.tracks[who]) for who in (first, second)}
    assert [flat_tracks(data, part) for part in ("train", "validation", "test")] == [0, 0, 3]
    every = with_flat(data)
    assert every.split == before.split and every.tracks.keys() == before.tracks.keys()
    assert with_flat(before) is before and with_flat(every) is every
    assert sum("kept for levels" in e.reason for e in data.exclusions) == 3
    longest = max(map(len, data.mean.values()))
    assert without_short(data, longest)[0] is data and without_short(data, longest + 1)[0].flat_people["test"] == ()
    floors = score_floors(data)["vgmidi"]
    counts = floors["counts"]
    assert counts["test cross-song"] == {"annotators": len(left), "tracks": 2 * len(left), "flat_tracks_left_out": 3}
    assert counts[f"test cross-song{FLAT_TOO}"] == {"annotators": len(left) + 2, "tracks": 2 * len(left) + 4}
    whole = score_floors(every)["vgmidi"]
    assert whole["test prefix"] == floors[f"test prefix{FLAT_TOO}"] and not any(FLAT_TOO in key for key in whole)


def test_damaged_annotations_are_one_sentence(tmp_path):
    write_vgmidi(tmp_path)
    (tmp_path / "annotations" / vgmidi.FILES[1]).write_text('{"annotations": {"a_1": 3}, "pieces": {}}')
    with pytest.raises(DsamlError, match="is not VGMIDI's"):
        load_dataset("vgmidi", tmp_path)
    assert not check("vgmidi", tmp_path, labels_only=True).ok
    with pytest.raises(DsamlError, match=r"cannot be read .*; get VGMIDI's annotations again"):
        load_dataset("vgmidi", tmp_path / "midi")


def test_a_clone_is_read_too(tmp_path):
    write_vgmidi(tmp_path / "labelled")
    assert len(load_dataset("vgmidi", tmp_path).mean) == 32


FAKE = """#!/usr/bin/env python3
import sys, wave
out, midi = sys.argv[sys.argv.index("-F") + 1], sys.argv[-1]
assert open(midi, "rb").read(4) == b"MThd", "no MIDI"
with wave.open(out, "wb") as file:
    file.setparams((2, 2, int(sys.argv[sys.argv.index("-r") + 1]), 0, "NONE", ""))
    file.writeframes(b"\\1\\0\\3\\0" * 44100)
"""


def test_rendering_goes_on_where_it_was(tmp_path, monkeypatch):
    root, programs = tmp_path / "v", tmp_path / "bin"
    write_vgmidi(root, pieces=2, people=1)
    programs.mkdir()
    font = tmp_path / "font.sf2"
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(DsamlError, match=r"fluidsynth: not installed, and only it plays .*font\.sf2"):
        render(root, font)
    (programs / "fluidsynth").write_text(FAKE)
    (programs / "fluidsynth").chmod(0o755)
    monkeypatch.setenv(
        "PATH", f"{programs}{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/bin{os.pathsep}/usr/local/bin"
    )
    with pytest.raises(DsamlError, match="no such sound font"):
        render(root, font)
    font.write_bytes(b"sfbk")
    (root / "audio").mkdir()
    (root / "audio/2-piece1.wav").write_bytes(b"my own")
    done = CliRunner().invoke(app, ["render", "--root", str(root), "--sound-font", str(font)])
    assert done.exit_code == 0 and "3 pieces rendered" in done.output
    sound, rate = sf.read(root / "audio/1-piece0.flac", dtype="int16")
    assert rate == 44100 and set(sound) == {2}  # both channels' mean
    names = {"1-piece0.flac", "1-piece1.flac", "2-piece0.flac", "2-piece1.wav", "rendered.json"}
    assert {path.name for path in (root / "audio").iterdir()} == names
    assert render(root, font) == 0
    (root / "audio/1-piece0.flac").unlink()
    (programs / "fluidsynth").write_text("#!/bin/sh\necho 'bad font' >&2\nexit 3\n")
    with pytest.raises(DsamlError, match=r"fluidsynth failed \(bad font\)"):
        render(root, font)
    assert len(list((root / "audio").iterdir())) == 4
    assert rendered_with(root) == "rendered with FluidSynth, font.sf2" and rendered_with(tmp_path) == "as it came"
    with pytest.raises(DsamlError, match=r"was begun with FluidSynth, font\.sf2, and would go on with FluidSynth, other\.sf2"):
        render(root, font.rename(tmp_path / "other.sf2"))


def test_without_fluidsynth_the_package_plays_and_says_so(tmp_path, monkeypatch):
    write_vgmidi(tmp_path, pieces=2, people=1)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    done = CliRunner().invoke(app, ["render", "--root", str(tmp_path)])
    assert done.exit_code == 0 and done.output.startswith("FluidSynth is not installed: the package's own synthesizer plays")
    assert "4 pieces rendered" in done.output and rendered_with(tmp_path) == f"rendered with {NAME}"
    sound, rate = sf.read(tmp_path / "audio/1-piece0.flac")
    assert len(sound) / rate == pytest.approx(48 + TAIL, abs=0.01) and np.abs(sound).max() > 0.01
    assert check("vgmidi", tmp_path).ok and render(tmp_path) == 0


@real
def test_real_vgmidi():
    data = load_dataset("vgmidi", REAL)
    assert len(data.mean) > 190 and {part: len(ids) for part, ids in data.split.songs.items()}["test"] > 45
    assert len(data.split.annotators["test"]) > 300 and all(
        len(data.tracks[who]) == 2 for who in data.split.annotators["test"]
    )
    everyone = {piece for parts in read_split(SPLITS / "vgmidi.json")["songs"].values() for piece in parts}
    assert set(data.mean) < everyone
