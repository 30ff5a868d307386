"""Decoding, slices, log-mel: golden numbers of the released code, alignment, and what is said about bad files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsaml.audio.recording import decode, load_waveform
from dsaml.audio.slices import cut_slices, log_mel, log_mel_slices, slice_times
from dsaml.audio.waveform import resample
from dsaml.config import DEMO, AudioConfig
from dsaml.errors import DsamlError

SHARED = Path(__file__).parents[3] / "shared"
DEAM_AUDIO = SHARED / "data" / "DEAM" / "DEAM_audio" / "MEMD_audio"
RATE = 44_100
CONFIG = AudioConfig()
FROM_START = AudioConfig(label_start=0.0)


def noise(seconds: float, rate: int = RATE) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate))).astype(np.float32)


def test_log_mel_equals_golden_numbers_of_the_released_code() -> None:
    path = SHARED / "golden" / "log_mel_slices.npz"
    if not path.is_file():
        pytest.skip("the golden numbers are not on this machine")
    golden = np.load(path, allow_pickle=False)
    ours = log_mel_slices(torch.from_numpy(golden["waveform"]), FROM_START, 3)
    assert ours.shape == (3, 51, 128)
    np.testing.assert_allclose(ours, golden["log_mel"], atol=1e-4)


@pytest.mark.skipif(not DEAM_AUDIO.is_dir(), reason="real DEAM songs are not on this machine")
def test_golden_real_deam_songs_give_sixty_finite_slices() -> None:
    files = sorted(DEAM_AUDIO.glob("*.mp3"))
    for file in files:
        features = log_mel_slices(load_waveform(file), CONFIG, 60)
        assert features.shape == (60, 51, 128)
        assert features.isfinite().all()
        assert -14 < features.mean() < 6 and features.std() > 1  # log power, not silence
    assert len(files) == 5


# What an impulse at t says about alignment ---------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(sample=st.integers(0, 6 * RATE - 1), start=st.sampled_from([0.0, 0.5, 1.3, 2.0]))
def test_an_impulse_is_heard_in_the_slice_of_its_label_alone(sample: int, start: float) -> None:
    waveform = torch.zeros(6 * RATE)
    waveform[sample] = 1.0
    loud = cut_slices(waveform, 8, dataclasses.replace(CONFIG, label_start=start)).abs().amax(1) > 0
    label = (sample - round(start * RATE)) // (RATE // 2)  # floor((t - start) / 0.5)
    assert loud.nonzero().flatten().tolist() == ([label] if 0 <= label < 8 else [])


def test_by_default_labels_begin_at_15_s() -> None:
    waveform = torch.zeros(20 * RATE)
    waveform[round(17.6 * RATE)] = 1.0
    power = log_mel_slices(waveform).amax((1, 2))
    assert len(power) == 10
    assert power.argmax() == 5  # floor((17.6 - 15) / 0.5)
    np.testing.assert_allclose(slice_times(3), [15.0, 15.5, 16.0])


def test_slices_know_nothing_of_each_other() -> None:
    slices = cut_slices(torch.from_numpy(noise(3)), 6, FROM_START)
    one_by_one = torch.cat([log_mel(part) for part in slices.split(1)])
    torch.testing.assert_close(log_mel(slices), one_by_one, atol=1e-4, rtol=0)


def test_pooling_averages_the_log_mel() -> None:
    waveform = torch.from_numpy(noise(1.5))
    full, pooled = (log_mel_slices(waveform, dataclasses.replace(c, label_start=0.0), 3) for c in (CONFIG, DEMO.audio))
    assert pooled.shape == (3, *DEMO.model.slice_shape)
    torch.testing.assert_close(pooled[1, 2, 5], full[1, 8:12, 10:12].mean())
    torch.testing.assert_close(pooled[1, 12, 5], full[1, 48:51, 10:12].mean())  # the last one has three frames


def test_audio_may_lack_half_a_second_but_no_more() -> None:
    waveform = torch.from_numpy(noise(16.6))
    slices = cut_slices(waveform, 4, CONFIG)
    there = len(waveform) - round(16.5 * RATE)
    torch.testing.assert_close(slices[3, :there], waveform[-there:])
    assert 0 < there < slices.shape[1] and not slices[3, there:].any()
    with pytest.raises(DsamlError, match=r"lasts 16\.6 s, its labels need 17\.5 s: 0\.9 s are missing"):
        cut_slices(waveform, 5, CONFIG)
    with pytest.raises(DsamlError, match="missing"):
        cut_slices(torch.zeros(RATE), None, CONFIG)


# Files ----------------------------------------------------------------------------------------------------------------


def test_channels_are_averaged_and_the_rate_is_changed(tmp_path: Path) -> None:
    t = np.arange(2 * 22_050) / 22_050
    left = np.sin(2 * np.pi * 440 * t).astype(np.float32)
    sf.write(tmp_path / "a.wav", np.stack([left, 0 * left], 1), 22_050, subtype="FLOAT")
    waveform, rate = decode(tmp_path / "a.wav")
    assert rate == 22_050 and waveform.dtype == np.float32
    np.testing.assert_allclose(waveform, left / 2, atol=1e-7)
    loaded = load_waveform(tmp_path / "a.wav")
    assert len(loaded) == 2 * RATE
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    np.testing.assert_allclose(loaded[200:-200], wanted[200:-200], atol=2e-3)
    assert resample(loaded, RATE, RATE) is loaded


def write(path: Path, samples: np.ndarray) -> Path:
    with sf.SoundFile(path, "w", RATE, 1) as stream:
        for start in range(0, len(samples), 65_536):
            stream.write(samples[start : start + 65_536])
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.mp3", "no such audio file"),
        ("text.mp3", "cannot be decoded"),
        ("nothing.wav", "cannot be decoded"),
        ("empty.wav", "holds no audio samples"),
        ("nan.wav", "not numbers"),
        ("half.flac", "cannot be decoded"),
        ("half.mp3", r"breaks off after .* s, its header says 10\.0 s"),
    ],
)
def test_a_bad_file_is_one_sentence(name: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "text.mp3":
        path.write_text("this is not audio " * 100)
    elif name == "nothing.wav":
        path.write_bytes(b"")
    elif name == "empty.wav":
        write(path, noise(0))
    elif name == "nan.wav":
        sf.write(path, np.full(100, np.nan, np.float32), RATE, subtype="FLOAT")
    elif name.startswith("half"):
        whole = write(tmp_path / f"whole{path.suffix}", noise(10)).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DsamlError, match=said) as caught:
        load_waveform(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
