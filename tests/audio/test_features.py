"""The feature cache: what is in the key, damage, kills, two processes, and the command."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from dsaml.audio.encoders import MelEncoder, windows_for
from dsaml.audio.features import ONE_EMBEDDING, FeatureCache, raw_slices
from dsaml.audio.recording import load_waveform
from dsaml.audio.slices import log_mel_slices
from dsaml.config import DEMO, AudioConfig
from dsaml.data import Dataset, Song, Split
from dsaml.data.annotations import Annotation
from dsaml.data.base import songs_with_steps
from dsaml.errors import DsamlError

ROOT = Path(__file__).resolve().parents[2]
RATE = 8000  # quick to transform; loaders resample anyway
AUDIO = AudioConfig(sample_rate=RATE, n_fft=480, hop_length=80, n_mels=16, label_start=1.0, pool=(4, 2))


@pytest.fixture
def songs(tmp_path: Path) -> dict[str, tuple[Song, int]]:
    made = {}
    for k, (steps, clip) in enumerate([(6, True), (6, True), (20, False)]):
        path = tmp_path / f"{k}.wav"
        sf.write(path, 0.1 * np.random.default_rng(k).standard_normal(round((1 + steps / 2) * RATE)), RATE)
        made[str(k)] = (Song(str(k), path, clip), steps)
    return made


def cache_in(folder: Path, audio: AudioConfig = AUDIO, dim: int = 8, hop_seconds: float = 2.0) -> FeatureCache:
    return FeatureCache(folder, audio, MelEncoder(dim, audio), hop_seconds)


def test_a_clip_has_one_embedding_and_a_full_song_one_per_step(songs: dict, tmp_path: Path) -> None:
    cache = cache_in(tmp_path / "cache")
    clip, full = cache.get(*songs["0"]), cache.get(*songs["2"])
    assert clip.log_mel.shape == (6, 13, 8) and clip.global_embedding.shape == (1, 8)
    assert full.log_mel.shape == (20, 13, 8) and full.global_embedding.shape == (20, 8)
    waveform = load_waveform(songs["2"][0].audio, RATE)
    torch.testing.assert_close(full.log_mel, log_mel_slices(waveform, AUDIO, 20))
    windows, index = windows_for(False, 20, AUDIO, 2.0)
    torch.testing.assert_close(full.global_embedding, MelEncoder(8, AUDIO).embed(waveform, RATE, windows)[index])


def test_the_second_time_nothing_is_computed(songs: dict, tmp_path: Path) -> None:
    first, second = cache_in(tmp_path / "cache"), cache_in(tmp_path / "cache")
    calls: list[tuple[int, int]] = []
    made = first.fill(songs, workers=2, progress=lambda done, total: calls.append((done, total)))
    again = second.fill(songs)
    assert second.compute(songs) == 0
    assert calls == [(1, 3), (2, 3), (3, 3)]
    for song in songs:
        assert torch.equal(made[song].log_mel, again[song].log_mel)
        assert torch.equal(made[song].global_embedding, again[song].global_embedding)
    assert "3 songs: 0 computed, 3 found in" in second.account(3, 0, 1.0)
    assert not torch.is_inference(made["0"].global_embedding)


def test_whatever_changes_the_features_changes_the_key(songs: dict, tmp_path: Path) -> None:
    song, steps = songs["2"]
    folder = tmp_path / "cache"
    paths = [
        cache_in(folder).path(song, steps),
        cache_in(folder).path(song, steps - 1),
        cache_in(folder).path(dataclasses.replace(song, clip=True), steps),
        cache_in(folder).path(songs["0"][0], steps),  # other bytes
        cache_in(folder, dim=4).path(song, steps),
        cache_in(folder, dataclasses.replace(AUDIO, log_offset=1e-5)).path(song, steps),
        cache_in(folder, hop_seconds=0.5).path(song, steps),
    ]
    assert len(set(paths)) == len(paths)
    moved = tmp_path / "moved.wav"
    moved.write_bytes(song.audio.read_bytes())
    assert cache_in(folder).path(Song("other name", moved, False), steps) == paths[0]  # content, not its name


@pytest.mark.parametrize("damage", ["flip", "header", "cut", "empty", "text"])
def test_a_damaged_file_is_named_and_computed_again(
    damage: str, songs: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = cache_in(tmp_path / "cache")
    song, steps = songs["0"]
    good, path = cache.get(song, steps), cache.path(song, steps)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
    elif damage == "header":
        content = content.replace(b'"F32"', b'"I32"')
    elif damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "empty":
        content = bytearray()
    else:
        content = bytearray(b"not a feature file")
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        again = cache.get(song, steps)
    assert str(path) in caplog.text and "damaged" in caplog.text
    assert torch.equal(good.log_mel, again.log_mel)
    assert cache_in(tmp_path / "cache").get(song, steps).log_mel.dtype == torch.float32


def test_raw_slices_are_kept_and_damaged_ones_made_again(
    songs: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "waveforms.safetensors"
    first = raw_slices(songs, AUDIO, path)
    content = path.read_bytes()
    songs["0"][0].audio.unlink()  # so the second time it can only be read
    again = raw_slices(songs, AUDIO, path)
    assert all(torch.equal(first[s].log_mel, again[s].log_mel) for s in songs) and first["0"].log_mel.dtype == torch.half
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    del songs["0"]
    with caplog.at_level(logging.WARNING):
        assert list(raw_slices(songs, AUDIO, path)) == ["1", "2"]
    assert "damaged" in caplog.text and raw_slices(songs, AUDIO, path).keys() == {"1", "2"}


@pytest.mark.parametrize("hop", [float("nan"), float("inf"), -1.0, 0.0])
def test_a_hop_that_is_no_time_is_refused(hop: float, tmp_path: Path) -> None:
    with pytest.raises(DsamlError, match="between two windows of the encoder"):
        cache_in(tmp_path, hop_seconds=hop)


class Stops(MelEncoder):
    """An encoder that is interrupted at the third song."""

    def embed(self, *args: object, **kwargs: object) -> torch.Tensor:
        self.left = getattr(self, "left", 2) - 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().embed(*args, **kwargs)


def test_an_interrupted_run_goes_on_where_it_stopped(songs: dict, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        FeatureCache(folder, AUDIO, Stops(8, AUDIO)).fill(songs)
    assert len(list(folder.iterdir())) == 2
    (folder / ".half-written.safetensors.x1y2").write_bytes(b"left by a killed process")
    made = [cache_in(folder).make(*song) for song in songs.values()]
    assert made == [False, False, True]


def test_two_processes_can_fill_one_folder(songs: dict, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; sys.path[:0] = sys.argv[1:3]; import torch; torch.set_num_threads(1)\n"
        "from test_features import *\n"
        "folder = pathlib.Path(sys.argv[3])\n"
        "listed = {str(k): (Song(str(k), folder / f'{k}.wav', k < 2), 6 if k < 2 else 20) for k in range(3)}\n"
        "for _ in range(5):\n"
        "    cache = cache_in(folder / 'cache')\n"
        "    print(sum(float(f.log_mel.sum()) for f in cache.fill(listed).values()))\n"
        "    [p.unlink(missing_ok=True) for p in (folder / 'cache').glob('*.safetensors')]\n"
    )
    command = [sys.executable, "-c", code, str(ROOT), str(Path(__file__).parent), str(tmp_path)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [run.communicate(timeout=100) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert len({line for out, _ in outputs for line in out.split()}) == 1
    assert not any("damaged" in error for _, error in outputs)


def test_errors_name_the_file(songs: dict, tmp_path: Path) -> None:
    cache = cache_in(tmp_path / "cache")
    with pytest.raises(DsamlError, match="song 9: no audio file"):
        cache.get(Song("9", None), 6)
    with pytest.raises(DsamlError, match=r"gone\.wav: no such audio file"):
        cache.get(Song("9", tmp_path / "gone.wav"), 6)
    with pytest.raises(DsamlError, match=r"0\.wav: the audio lasts 4\.0 s, its labels need 6\.0 s"):
        cache.get(songs["0"][0], 10)
    assert not list((tmp_path).glob("cache/*"))


def curve(song: str, who: str, steps: int) -> Annotation:
    return Annotation(song, who, 15 + 0.5 * np.arange(steps), np.zeros((steps, 2)))


def test_steps_are_those_of_the_mean_label_or_else_the_longest_track(songs: dict) -> None:
    listed = {i: song for i, (song, _) in songs.items()} | {"mute": Song("mute", None)}
    parts: dict[str, Sequence[str]] = {"train": (), "validation": (), "test": ()}
    tracks = {"u": {"0": curve("0", "u", 7), "1": curve("1", "u", 3)}, "v": {"1": curve("1", "v", 5)}}
    mean = {"0": curve("0", "all", 6), "mute": curve("mute", "all", 6)}
    data = Dataset("folder", True, Path("here"), listed, mean, tracks, Split(parts, parts))
    assert {i: steps for i, (_, steps) in songs_with_steps(data).items()} == {"0": 6, "1": 5}
    with pytest.raises(DsamlError, match="no song has both audio and labels"):
        songs_with_steps(dataclasses.replace(data, mean={}, tracks={}))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dsaml", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)


def test_the_command_fills_the_cache_and_says_so(tmp_path: Path) -> None:
    root, cache = str(tmp_path / "mine"), str(tmp_path / "cache")
    assert run("template", root).returncode == 0
    first, second = (run("features", "--dataset", "folder", "--root", root, "--cache", cache) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "2 songs: 2 computed" in first.stdout and f"mel, {DEMO.model.dim} numbers, mel-" in first.stdout
    assert "2 songs: 0 computed, 2 found" in second.stdout


def test_a_mistake_at_the_command_is_one_sentence(tmp_path: Path) -> None:
    root = str(tmp_path / "mine")
    assert run("template", root).returncode == 0
    done = run("features", "--dataset", "folder", "--root", root, "--profile", "paper", "--cache", str(tmp_path / "c"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ImageBind needs its weights") and done.stderr.count("\n") == 1


def test_whether_steps_share_an_embedding_is_a_setting_and_by_default_the_songs_own(songs: dict, tmp_path: Path) -> None:
    """The rule by length is what the songs say; either of the others holds for all of them, under keys of its own."""
    folder, every = tmp_path / "cache", {}
    for name, one in ONE_EMBEDDING.items():
        cache = FeatureCache(folder, AUDIO, MelEncoder(8, AUDIO), clip=one)
        every[name] = [len(features.global_embedding) for features in cache.fill(songs).values()], cache
    assert {name: lengths for name, (lengths, _) in every.items()} == {
        "by-length": [1, 1, 20],
        "song": [1, 1, 1],
        "step": [6, 6, 20],
    }
    paths = {name: [cache.path(*song) for song in songs.values()] for name, (_, cache) in every.items()}
    assert paths["by-length"][:2] == paths["song"][:2] and paths["by-length"][2] == paths["step"][2]
    assert paths["song"][2] != paths["step"][2] and paths["by-length"] == [cache_in(folder).path(*s) for s in songs.values()]
