"""Windows, the mel encoder, and ImageBind against its own package (with random weights in the official format)."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from dsaml.audio import encoders, imagebind
from dsaml.audio.encoders import MelEncoder, make_encoder, windows_for
from dsaml.audio.waveform import cut_window
from dsaml.config import DEMO, PAPER, AudioConfig, adjusted
from dsaml.errors import DsamlError

CONFIG = AudioConfig()
RATE = CONFIG.sample_rate
DEAM_SONG = Path(__file__).parents[3] / "shared" / "data" / "DEAM" / "DEAM_audio" / "MEMD_audio" / "2.mp3"


def music(seconds: float, rate: int = RATE) -> torch.Tensor:
    """Chords that change twice a second, with noise."""
    t, rng = np.arange(round(seconds * rate)) / rate, np.random.default_rng(1)
    pitch = 110 * 2 ** (rng.integers(0, 36, len(t) * 2 // rate + 1) / 12)
    phase = 2 * np.pi * np.cumsum(pitch[(2 * t).astype(int)]) / rate
    sound = sum(np.sin(k * phase) / k for k in range(1, 6)) * 0.1 + 0.02 * rng.standard_normal(len(t))
    return torch.from_numpy(sound.astype(np.float32))


# Windows --------------------------------------------------------------------------------------------------------------


def test_a_clip_has_one_window_from_15_to_45_s() -> None:
    windows, index = windows_for(True, 60, CONFIG, 2.0)
    assert windows == [(15.0, 45.0)] and index.tolist() == [0]


@settings(deadline=None)
@given(steps=st.integers(1, 400), hop=st.sampled_from([0.5, 1.0, 2.0, 5.0, 7.5]))
def test_each_step_of_a_song_has_the_nearest_window(steps: int, hop: float) -> None:
    windows, index = windows_for(False, steps, CONFIG, hop)
    centers = torch.tensor([(start + end) / 2 for start, end in windows])
    away = (centers[index] - (15 + 0.5 * torch.arange(steps))).abs()
    assert index.shape == (steps,) and away.max() <= hop / 2
    assert all(end - start == 30 for start, end in windows)
    assert sorted(set(index.tolist())) == list(range(len(windows)))  # none is computed in vain
    assert hop > 0.5 or away.max() == 0  # released code


def test_edges_are_filled_by_repeating_the_audio_next_to_them() -> None:
    waveform = torch.arange(40.0)  # 40 s at 1 Hz: the sound at t is t
    assert cut_window(waveform, 1, (5, 35)).tolist() == list(range(5, 35))
    assert cut_window(waveform, 1, (-5, 25)).tolist() == [25, 26, 27, 28, 29, *range(25)]
    assert cut_window(waveform, 1, (15, 45)).tolist() == [*range(15, 40), 10, 11, 12, 13, 14]
    assert cut_window(waveform[:4], 1, (-3, 6)).tolist() == [1, 2, 3, 0, 1, 2, 3, 0, 1]  # shorter than the window


# The mel encoder ------------------------------------------------------------------------------------------------------


def test_windows_that_share_slices_give_what_each_gives_alone() -> None:
    waveform, encoder = music(40), MelEncoder(32)
    windows, _ = windows_for(False, 50, CONFIG, 2.0)
    together = encoder.embed(waveform, RATE, windows)
    alone = torch.cat([encoder.embed(waveform, RATE, [window]) for window in windows])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    uneven = [(0.0, 10.0), (3.3, 13.3), (5.0, 20.0)]
    torch.testing.assert_close(
        encoder.embed(waveform, RATE, uneven), torch.cat([encoder.embed(waveform, RATE, [w]) for w in uneven])
    )


def test_the_mel_projection_keeps_distances_and_size() -> None:
    waveform, windows = music(30), [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0)]
    full, wide, narrow = (MelEncoder(dim).embed(waveform, RATE, windows) for dim in (256, 1024, 64))
    assert wide.shape == (3, 1024) and narrow.shape == (3, 64)
    torch.testing.assert_close(torch.cdist(wide, wide), 2 * torch.cdist(full, full), atol=1e-3, rtol=1e-3)
    for embedding in (full, wide, narrow):
        assert 0.3 < embedding.square().mean().sqrt() < 4
    torch.testing.assert_close(narrow, MelEncoder(64).embed(waveform, RATE, windows))
    assert MelEncoder(64).fingerprint != MelEncoder(32).fingerprint


def test_the_mel_encoder_resamples() -> None:
    low = music(10, 22_050)
    high = torchaudio.functional.resample(low, 22_050, RATE)
    a, b = (MelEncoder(16).embed(x, rate, [(0.0, 10.0)]) for x, rate in ((low, 22_050), (high, RATE)))
    torch.testing.assert_close(a, b)


def test_the_profile_chooses_the_encoder() -> None:
    encoder = make_encoder(DEMO)
    assert (encoder.name, encoder.dim) == ("mel", DEMO.model.dim)
    with pytest.raises(DsamlError, match="needs its weights; get imagebind_huge"):
        make_encoder(PAPER)


def test_the_encoder_as_released_hears_44_khz(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(encoders, "ImageBindEncoder", lambda path, device, released_rate: made.append((device, released_rate)))
    for name in ("imagebind", "imagebind-44k"):
        make_encoder(adjusted(PAPER, name), Path("weights.pth"), device="cuda")
    assert made == [("cuda", False), ("cuda", True)]
    with pytest.raises(DsamlError, match="encoder 'ear' does not exist; choose one of: mel, imagebind, imagebind-44k"):
        make_encoder(adjusted(PAPER, "ear"))


# ImageBind ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """The package's own model with random weights (audio in full, the rest tiny), and its state dict as a .pth file."""
    pytest.importorskip("timm", reason="ImageBind is not installed")
    imagebind.build_audio_model()  # makes the package importable beside a recent torchvision
    from imagebind.models.imagebind_model import ImageBindModel

    tiny = {f"{name}_embed_dim": 8 for name in ("vision", "text", "depth", "thermal", "imu")}
    tiny |= {key.replace("embed_dim", "num_blocks"): 1 for key in tiny}
    tiny |= {key.replace("embed_dim", "num_heads"): 1 for key in tiny if "embed_dim" in key}
    torch.manual_seed(0)
    model = ImageBindModel(out_embed_dim=1024, **tiny).eval()
    path = tmp_path_factory.mktemp("imagebind") / "imagebind_random.pth"
    torch.save(model.state_dict(), path)
    return model, path


@pytest.fixture(scope="module")
def encoder(official: tuple[torch.nn.Module, Path]) -> imagebind.ImageBindEncoder:
    return imagebind.ImageBindEncoder(official[1])


def test_importing_imagebind_leaves_torchvision_as_it_was(official: tuple[torch.nn.Module, Path]) -> None:
    assert "torchvision.transforms.functional_tensor" not in sys.modules


def test_embeddings_equal_those_of_the_official_package(
    official: tuple[torch.nn.Module, Path],
    encoder: imagebind.ImageBindEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from imagebind import data

    def load(path: str) -> tuple[torch.Tensor, int]:  # torchaudio.load needs ffmpeg's libraries
        samples, rate = sf.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(samples.T.copy()), rate

    monkeypatch.setattr(torchaudio, "load", load)
    song = music(46)
    if DEAM_SONG.is_file():
        from dsaml.audio.recording import load_waveform

        song = load_waveform(DEAM_SONG)
    parts = {(15.0, 45.0): song[15 * RATE : 45 * RATE], (3.0, 4.5): song[3 * RATE : round(4.5 * RATE)]}
    for number, part in enumerate(parts.values()):
        sf.write(tmp_path / f"{number}.wav", part.numpy(), RATE, subtype="FLOAT")
    for number, window in enumerate(parts):  # 30 s, and less than one clip
        with torch.no_grad():
            audio = data.load_and_transform_audio_data([str(tmp_path / f"{number}.wav")], "cpu")
            theirs = official[0]({"audio": audio})["audio"]
        whole = encoder.embed(parts[window], RATE, [(0.0, window[1] - window[0])])
        torch.testing.assert_close(whole, theirs, atol=1e-4, rtol=0)
        # resampled before it is cut: a few samples at the edges differ
        torch.testing.assert_close(encoder.embed(song, RATE, [window]), theirs, atol=1e-3, rtol=0)
        assert 15 < theirs.norm() <= 20.01 and whole.shape == (1, 1024)  # a mean of three vectors of norm 20
    late = encoder.embed(song, RATE, [(15.01, 45.01)])
    first = encoder.embed(song, RATE, [(15.0, 45.0)])
    assert (late - first).abs().max() > 0.02  # so 1e-4 does say something


def test_a_batch_gives_what_single_windows_give(encoder: imagebind.ImageBindEncoder) -> None:
    song, windows = music(8, 16_000), [(0.0, 2.0), (1.0, 7.0), (5.0, 9.0)]
    encoder.batch_size = 6
    together = encoder.embed(song, 16_000, windows)
    assert together.shape == (3, 1024)
    torch.testing.assert_close(encoder.embed(song, 16_000, windows[2:]), together[2:], atol=1e-4, rtol=0)
    assert not together.requires_grad and not torch.is_inference(together)


def test_three_clips_begin_at_the_thirds_and_the_released_rate_is_available() -> None:
    ramp = torch.zeros(30 * 16_000)
    for k in range(3):
        ramp[28 * 16_000 * k // 3] = 1.0  # the first sample of each clip has no weight in a Hann window, the next has
        ramp[28 * 16_000 * k // 3 + 200] = 1.0
    own = imagebind.spectrograms(ramp, 16_000)
    assert own.shape == (3, 1, 128, 204)
    torch.testing.assert_close(own[0], own[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(own[0], own[2], atol=1e-4, rtol=0)
    assert own[0, 0, :, 198:].unique().numel() == 1  # 198 frames, then padding with (0 + 4.268) / 9.138
    assert own[0, 0, 0, 200].item() == pytest.approx(4.268 / 9.138)
    assert imagebind.spectrograms(music(30), RATE).shape == (3, 1, 128, 204)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_the_audio_part_alone_gives_the_same_encoder(
    ending: str, official: tuple[torch.nn.Module, Path], encoder: imagebind.ImageBindEncoder, tmp_path: Path
) -> None:
    out = tmp_path / f"audio.{ending}"
    assert imagebind.save_audio_only(official[1], out) == encoder.sha256
    weights = imagebind.read_audio_weights(out)
    assert imagebind.weights_digest(weights) == encoder.sha256 and encoder.sha256 in encoder.fingerprint
    assert 344e6 < out.stat().st_size < 347e6
    if ending == "safetensors":
        other = imagebind.ImageBindEncoder(out, released_rate=True)
        assert other.sample_rate == 44_100 and other.fingerprint != encoder.fingerprint
        out.write_bytes(out.read_bytes()[:1000])
        with pytest.raises(DsamlError, match="not a complete safetensors file"):
            imagebind.read_audio_weights(out)


class Payload:
    """What a hostile checkpoint contains."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["archive", "old archive", "pickle", "text pickle"])
def test_a_checkpoint_that_wants_to_run_code_is_refused(kind: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "hostile.pth", tmp_path / "mark"
    if "archive" in kind:
        weights = {"modality_heads.audio.2.weight": Payload(mark)}
        torch.save(weights, path, _use_new_zipfile_serialization=kind == "archive")
    else:
        path.write_bytes(pickle.dumps(Payload(mark), protocol=0 if kind == "text pickle" else None))
    said = "not a PyTorch checkpoint" if kind == "text pickle" else "refused, because loading it would run code"
    with pytest.raises(DsamlError, match=said) as caught:
        imagebind.ImageBindEncoder(path)
    assert not mark.exists() and "\n" not in str(caught.value)


def shaped(changes: dict[str, tuple[int, ...] | None]) -> dict[str, torch.Tensor]:
    """Weights of the official names and shapes that take no space, with changes."""
    shapes = {name: value.shape for name, value in imagebind.build_audio_model().state_dict().items()} | changes
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items() if shape is not None}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "no such ImageBind checkpoint; get imagebind_huge.pth"),
        ("text", "not a PyTorch checkpoint"),
        ("empty", "not a PyTorch checkpoint"),
        ("cut", "damaged or cut off"),
        ("no audio", "holds no audio weights of ImageBind .its first names: modality_trunks.vision.x"),
        ("a list", "holds no table of weights"),
        (
            "other audio",
            r"missing modality_heads\.audio\.2\.weight; unknown modality_trunks\.audio\.more; "
            r"modality_heads\.audio\.0\.bias is \(7,\), want \(768,\)",
        ),
    ],
)
def test_an_unusable_checkpoint_is_one_sentence(
    kind: str, said: str, official: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    if kind == "text":
        path.write_text("imagebind\n" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        with official[1].open("rb") as stream:
            path.write_bytes(stream.read(1 << 20))
    elif kind == "no audio":
        torch.save({"modality_trunks.vision.x": torch.zeros(3)}, path)
    elif kind == "a list":
        torch.save([torch.zeros(3)], path)
    elif kind == "other audio":
        changes = {"heads.audio.2.weight": None, "trunks.audio.more": (2,), "heads.audio.0.bias": (7,)}
        torch.save(shaped({f"modality_{name}": shape for name, shape in changes.items()}), path)
    with pytest.raises(DsamlError, match=said) as caught:
        imagebind.ImageBindEncoder(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_without_the_package_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagebind.models.imagebind_model", None)
    with pytest.raises(DsamlError, match="pip install --no-deps --use-pep517 imagebind-packaged"):
        imagebind.build_audio_model()


def test_impossible_requests_are_one_sentence(official: tuple[torch.nn.Module, Path], tmp_path: Path) -> None:
    with pytest.raises(DsamlError, match="must end in"):
        imagebind.save_audio_only(official[1], tmp_path / "audio.bin")
    with pytest.raises(DsamlError, match="device 'nowhere' cannot be used here"):
        imagebind.ImageBindEncoder(official[1], device="nowhere")
