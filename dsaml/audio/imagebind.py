"""ImageBind's audio encoder, frozen: the paper's global features, 1024 numbers per stretch of audio.

ImageBind (Girdhar et al., CVPR 2023), code and weights, is under CC BY-NC-SA 4.0: **non-commercial use only**. It is an optional
package, and its weights are never downloaded by this one. Only the audio part is built: 86 M of 1.2 G parameters.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
import torchaudio
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from dsaml.audio.waveform import Waveform, Window, cut_window, resample
from dsaml.errors import DsamlError
from dsaml.io import load_weights, read_weights, write_bytes_atomically

log = logging.getLogger(__name__)

LICENCE = "ImageBind (code and weights): CC BY-NC-SA 4.0, non-commercial use only"
HOW_TO_GET = (
    "get imagebind_huge.pth (4.8 GB) yourself from https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth; "
    "dsaml never downloads it"
)
SIZES = "it should have 4.8 GB (audio alone: 345 MB)"
HOW_TO_INSTALL = (
    "pip install --no-deps --use-pep517 imagebind-packaged==0.1.2 timm==1.0.31 pytorchvideo==0.1.5 "
    "(never the package called 'imagebind': it is an empty placeholder)"
)

DIM = 1024  # D of imagebind_huge
SAMPLE_RATE = 16_000  # Hz, ImageBind's own
RELEASED_RATE = 44_100  # Hz, what DSAML's released code feeds it
CLIPS, CLIP_SECONDS = 3, 2  # per window
FRAMES, MELS = 204, 128  # of a clip's spectrogram
MEAN, STD = -4.268, 9.138  # of AudioSet's log-mels

PARTS = tuple(f"modality_{part}" for part in ("preprocessors", "trunks", "heads", "postprocessors"))


@contextlib.contextmanager
def _old_torchvision_name() -> Iterator[None]:
    """pytorchvideo imports a module that torchvision has renamed; the old name exists only inside this context."""
    old, new = "torchvision.transforms.functional_tensor", "torchvision.transforms._functional_tensor"
    added = old not in sys.modules
    if added:
        sys.modules[old] = importlib.import_module(new)
    try:
        yield
    finally:
        if added:
            sys.modules.pop(old, None)


def build_audio_model() -> nn.Module:
    """ImageBind's own class with imagebind_huge's audio settings and random weights; the other modalities are dropped.

    Raises
    ------
    DsamlError
        If ImageBind is not installed.
    """
    try:
        with _old_torchvision_name(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside packages of 2022
            from imagebind.models.imagebind_model import ImageBindModel
    except ImportError as error:
        raise DsamlError(f"ImageBind cannot be imported ({error}); {HOW_TO_INSTALL}") from error
    sizes = {"embed_dim": 8, "num_blocks": 1, "num_heads": 1}
    others = ("vision", "text", "depth", "thermal", "imu")
    tiny = {f"{name}_{what}": size for name in others for what, size in sizes.items()}
    model = ImageBindModel(out_embed_dim=DIM, audio_drop_path=0.1, **tiny)
    for part in PARTS:
        setattr(model, part, nn.ModuleDict({"audio": getattr(model, part)["audio"]}))
    return model.eval().requires_grad_(False)


def read_audio_weights(path: str | Path | None) -> dict[str, Tensor]:
    """The audio part of ``imagebind_huge.pth`` or of a file of :func:`save_audio_only`: float32 tensors by official name.

    Raises
    ------
    DsamlError
        If there is no such file, it is damaged, it would run code, or its audio weights are not those of imagebind_huge (every
        missing, unknown or mis-shaped tensor is counted, the first ones are named).
    """
    if path is None:
        raise DsamlError(f"ImageBind needs its weights; {HOW_TO_GET}; name the file with --checkpoint or --imagebind")
    path = Path(path)
    if not path.is_file():
        raise DsamlError(f"{path}: no such ImageBind checkpoint; {HOW_TO_GET}")
    if path.suffix == ".safetensors":
        try:
            stored = safetensors.torch.load_file(path)
        except (SafetensorError, OSError) as error:
            raise DsamlError(f"{path}: not a complete safetensors file ({error}); make it again") from error
    else:
        stored = read_weights(path, f"{SIZES}; {HOW_TO_GET}")
    own = tuple(f"{part}.audio." for part in PARTS)
    weights = {name: value for name, value in stored.items() if name.startswith(own)}
    if not weights:
        some = ", ".join(map(str, list(stored)[:3])) or "none at all"
        raise DsamlError(f"{path}: holds no audio weights of ImageBind (its first names: {some}); {HOW_TO_GET}")
    expected = build_audio_model().to("meta")
    load_weights(expected, weights, f"{path}: not the audio weights of imagebind_huge, {HOW_TO_GET}")
    return {name: weights[name].float().contiguous() for name in expected.state_dict()}


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and values: the same for the full checkpoint and for its audio part in any format."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name}{tuple(weights[name].shape)}".encode())
        digest.update(weights[name].numpy().data)
    return digest.hexdigest()


def save_audio_only(full: str | Path, out: str | Path) -> str:
    """Keep the audio part of ``imagebind_huge.pth``: 345 MB instead of 4.8 GB. It stays under ImageBind's licence.

    ``out`` is a new ``.safetensors`` or ``.pth`` file, written atomically. Returns :func:`weights_digest`.

    Raises
    ------
    DsamlError
        See :func:`read_audio_weights`; or if ``out`` ends otherwise.
    """
    out = Path(out)
    if out.suffix not in (".safetensors", ".pth"):
        raise DsamlError(f"{out}: the file of audio weights must end in .safetensors or .pth; choose another name")
    weights = read_audio_weights(full)
    if out.suffix == ".safetensors":
        content = safetensors.torch.save(weights, {"licence": LICENCE})
    else:
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        content = buffer.getvalue()
    write_bytes_atomically(out, content)
    return weights_digest(weights)


def spectrograms(waveform: Tensor, sample_rate: int) -> Tensor:
    """ImageBind's own input of one window: 3 clips of 2 s that begin at 0, 1/3 and 2/3 of (length - 2 s).

    Kaldi filter banks (128 mels, 25 ms Hann windows every 10 ms), cut or zero-padded to 204 frames, normalised: (samples,) at
    ``sample_rate`` Hz -> (3, 1, 128, 204).
    """
    length = CLIP_SECONDS * sample_rate
    spare = max(0, len(waveform) - length)
    clips = []
    for k in range(CLIPS):
        start = spare * k // CLIPS
        clip = waveform[start : start + length]
        bank = torchaudio.compliance.kaldi.fbank(
            (clip - clip.mean())[None],
            sample_frequency=sample_rate,
            num_mel_bins=MELS,
            frame_length=25,
            frame_shift=10,
            window_type="hanning",
            htk_compat=True,
            use_energy=False,
            dither=0.0,
        )[:FRAMES]  # (frames, mels)
        clips.append(F.pad(bank.T, (0, FRAMES - len(bank))))
    return (torch.stack(clips)[:, None] - MEAN) / STD


class ImageBindEncoder:
    """ImageBind's audio encoder. CC BY-NC-SA 4.0: non-commercial use only.

    ``checkpoint`` is ``imagebind_huge.pth``, or the audio part of it (:func:`save_audio_only`), whose SHA-256 is :attr:`sha256`.
    With ``released_rate`` the filter banks see audio of 44.1 kHz, as in DSAML's released code, instead of ImageBind's own 16 kHz.

    Raises
    ------
    DsamlError
        If ImageBind is not installed, the weights cannot be used (see :func:`read_audio_weights`), or there is no such device.
    """

    name = "imagebind"
    dim = DIM

    def __init__(self, checkpoint: str | Path | None, device: str = "cpu", *, released_rate: bool = False):
        weights = read_audio_weights(checkpoint)
        self.sample_rate = RELEASED_RATE if released_rate else SAMPLE_RATE
        self.device, self.batch_size = device, 12  # clips in one forward pass; a window has three
        self.sha256 = weights_digest(weights)
        self.fingerprint = f"imagebind-audio-1:{self.sample_rate}:{self.sha256}"
        self._model = build_audio_model()
        self._model.load_state_dict(weights)
        try:
            self._model.to(device)
        except (RuntimeError, AssertionError) as error:  # torch says it in many lines
            raise DsamlError(f"device '{device}' cannot be used here; choose another one, such as cpu") from error
        log.info("%s: SHA-256 of its audio weights %s; %s", checkpoint, self.sha256, LICENCE)

    @torch.no_grad()
    def embed(self, waveform: Waveform, sample_rate: int, windows: Sequence[Window]) -> Tensor:
        """(samples,) at ``sample_rate`` Hz and W windows -> (W, 1024): the mean of three clips, each of norm 20."""
        waveform = resample(waveform, sample_rate, self.sample_rate)
        at_once = max(1, self.batch_size // CLIPS)
        rows = []
        for first in range(0, len(windows), at_once):
            part = [cut_window(waveform, self.sample_rate, window) for window in windows[first : first + at_once]]
            clips = torch.stack([spectrograms(audio, self.sample_rate) for audio in part])  # (windows, 3, 1, 128, 204)
            rows.append(self._model({"audio": clips.to(self.device)})["audio"].cpu())  # (windows, 1024)
        return torch.cat(rows)
