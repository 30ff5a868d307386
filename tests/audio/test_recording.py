"""Recordings of any length and rate: the same samples as ever, in bounded memory, and nothing that waits for ever."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import torchaudio

from dsaml.audio import recording, waveform
from dsaml.audio.encoders import MelEncoder, windows_for
from dsaml.audio.recording import Recording, load_waveform
from dsaml.audio.slices import cut_slices, log_mel_slices
from dsaml.audio.waveform import resample
from dsaml.config import DEMO
from dsaml.data.checks import audio_problem
from dsaml.errors import DsamlError

ROOT = Path(__file__).parents[2]
COMMON = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 48_000, 96_000)  # Hz


def noise(seconds: float, rate: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(rate).standard_normal(round(seconds * rate))).astype(np.float32)


@pytest.mark.parametrize("rate", COMMON)
def test_common_rates_give_torchaudios_samples_bit_by_bit(rate: int, tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", noise(2, rate), rate, subtype="FLOAT")
    wanted = torchaudio.functional.resample(torch.from_numpy(noise(2, rate)), rate, 44_100)
    assert torch.equal(load_waveform(tmp_path / "a.wav"), wanted)


@pytest.mark.parametrize("rate", [*COMMON, 44_100, 44_101])
def test_a_long_recording_gives_the_samples_of_a_short_one(
    rate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sf.write(tmp_path / "a.wav", np.stack([noise(9, rate), 0 * noise(9, rate)], 1), rate, subtype="FLOAT")
    whole = load_waveform(tmp_path / "a.wav")
    monkeypatch.setattr(recording, "SECONDS_IN_MEMORY", 2)
    monkeypatch.setattr(recording, "LOOK_BACK", 1)
    monkeypatch.setattr(recording, "BLOCK", 20_000)
    monkeypatch.setattr(waveform, "AT_ONCE", 20_000)
    long = load_waveform(tmp_path / "a.wav", 44_100)
    assert not isinstance(long, torch.Tensor) and len(long) == len(whole)
    for first, last in [(0, 40_000), (200_001, 260_000), (160_000, 170_000), (len(whole) - 7, len(whole)), (0, 9)]:
        torch.testing.assert_close(long[first:last], whole[first:last], atol=5e-7, rtol=0)


def test_features_of_a_long_recording_equal_those_of_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sf.write(tmp_path / "a.flac", noise(150, 22_050), 22_050)
    encoder, (windows, _) = MelEncoder(16), windows_for(False, 269, DEMO.audio, 2.0)

    def features() -> tuple[torch.Tensor, ...]:
        waveform = load_waveform(tmp_path / "a.flac", 44_100)
        embedding = encoder.embed(waveform, 44_100, windows)
        return log_mel_slices(waveform, DEMO.audio), cut_slices(waveform, 269, DEMO.audio), embedding

    short = features()
    monkeypatch.setattr(recording, "SECONDS_IN_MEMORY", 20)
    for ours, wanted in zip(features(), short, strict=True):
        torch.testing.assert_close(ours, wanted, atol=2e-3, rtol=0)  # log power of noise, where samples differ by 1e-7


@pytest.mark.parametrize(("rate", "wanted"), [(48_000, 44_100), (8_000, 44_100), (44_100, 16_000), (384_000, 44_100)])
def test_the_filter_for_odd_rates_is_torchaudios(rate: int, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = torch.from_numpy(noise(1, rate))
    table = resample(samples, rate, wanted)
    monkeypatch.setattr(waveform, "KERNEL", 0)
    torch.testing.assert_close(resample(samples, rate, wanted), table, atol=2e-5, rtol=0)


@pytest.mark.parametrize("rate", [44_101, 99_991, 4_001, 383_999])
def test_coprime_rates_keep_a_tone_on_its_pitch(rate: int) -> None:
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(3 * rate, dtype=torch.float64) / rate).float()
    ours = resample(tone, rate, 44_100)
    assert abs(len(ours) - 3 * 44_100) <= 1
    wanted = np.sin(2 * np.pi * 440 * np.arange(len(ours)) / 44_100)
    np.testing.assert_allclose(ours[500:-500], wanted[500:-500], atol=3e-3)


MEASURED = """
import resource, sys
from pathlib import Path
from dsaml.config import AudioConfig
from dsaml.audio.encoders import MelEncoder
from dsaml.audio.encoders import windows_for
from dsaml.audio.recording import load_waveform
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
MelEncoder(64).embed(__import__("torch").zeros(44100 * 30), 44100, [(0.0, 30.0)])
before = peak()
waveform = load_waveform(sys.argv[1], 44_100)
steps = 2 * (len(waveform) // 44_100) - 30
MelEncoder(64).embed(waveform, 44_100, windows_for(False, steps, AudioConfig(), 2.0)[0])
print(steps, peak() - before)
"""


@pytest.mark.parametrize(
    ("name", "rate", "minutes", "limit"), [("long.flac", 4_000, 16, 140), ("odd.wav", 99_991, 1, 180)]
)
def test_memory_is_bounded(name: str, rate: int, minutes: int, limit: float, tmp_path: Path) -> None:
    """Sixteen minutes are 169 MB at 44.1 kHz, and features cost several times that where a song is taken whole."""
    sf.write(tmp_path / name, noise(60 * minutes, rate), rate)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / name)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    steps, grown = done.stdout.split()
    assert int(steps) == 120 * minutes - 30
    assert float(grown) < limit  # MB


@pytest.mark.parametrize("rate", [3_999, 384_001, 1])
def test_rates_outside_4_to_384_khz_are_refused(rate: int, tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", noise(1, 8_000), rate)
    with pytest.raises(DsamlError, match=f"sample rate is {rate} Hz; convert it to one of 4 to 384 kHz"):
        Recording(tmp_path / "a.wav")
    assert "4 to 384 kHz" in audio_problem(tmp_path / "a.wav", 0.0)[1]


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
def test_what_is_no_file_is_refused_before_it_is_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        here = Path.cwd()
        os.chdir(tmp_path)  # names of sockets are short
        socket.socket(socket.AF_UNIX).bind("a.wav")
        os.chdir(here)
    with pytest.raises(DsamlError, match="not a file; correct the path"):
        Recording(path)
