"""How fast songs become features, and what a larger hop of the global encoder costs: ``bench --inputs FOLDER``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchaudio
from torch import Tensor

from benchmarks.common import Progress, machine, seconds, take_turns
from dsaml.audio.encoders import GlobalEncoder, MelEncoder, windows_for
from dsaml.audio.features import FeatureCache
from dsaml.audio.recording import decode, load_waveform
from dsaml.audio.slices import cut_slices, log_mel, log_mel_slices
from dsaml.audio.song import AUDIO_SUFFIXES
from dsaml.config import CLIP_STEPS, AudioConfig
from dsaml.data.base import Song
from dsaml.errors import DsamlError
from dsaml.runtime.devices import one_thread

CONFIG = AudioConfig()
CLIP = [(15.0, 45.0)]
HOPS = (1.0, 2.0, 5.0, 10.0)


def measure(
    folder: Path, checkpoint: str | None = None, songs: int = 100, progress: Progress = lambda what: None
) -> dict[str, Any]:
    """Everything that ``data/bench/inputs.json`` holds, of a folder of songs of 45 s or more.

    ``checkpoint`` are ImageBind's weights, or the word "random" for random ones, which take the same time; without it ImageBind is
    left out. So many ``songs``' log-mels time a whole data set; files are taken again where there are fewer.

    Raises
    ------
    DsamlError
        If the folder holds no songs.
    """
    files = (
        sorted(file for file in folder.iterdir() if file.suffix.lower() in AUDIO_SUFFIXES) if folder.is_dir() else []
    )
    if not files:
        raise DsamlError(f"{folder}: no songs here ({', '.join(AUDIO_SUFFIXES)})")
    progress(f"{len(files)} songs; one core for what is timed alone")
    out: dict[str, Any] = {"machine": machine(), "files": len(files)}
    with one_thread():
        out["one_core"] = _one_core(files, progress)
        if checkpoint:
            out["imagebind"] = _imagebind(files[0], checkpoint, progress)
    out["many"] = _many([files[k % len(files)] for k in range(songs)], progress)
    return out


def _one_core(files: Sequence[Path], progress: Progress) -> dict[str, Any]:
    waveform, rate = decode(files[0])
    song = load_waveform(files[0])
    mel = MelEncoder(64)
    progress("decoding, log-mels, the mel encoder")
    taken = seconds(lambda: log_mel_slices(load_waveform(files[0]), CONFIG, CLIP_STEPS))
    return {
        "decode_and_log_mel_seconds": taken,
        "times_real_time": len(waveform) / rate / taken,
        "mel_clip_seconds": seconds(lambda: mel.embed(song, CONFIG.sample_rate, CLIP)),
        "mel_hop_cost": hop_cost(mel, [load_waveform(file) for file in files[:5]]),
    }


def _slice_by_slice(slices: Tensor, transform: Callable[[], Callable[[Tensor], Tensor]]) -> Tensor:
    return torch.stack([(transform()(part) + CONFIG.log_offset).log() for part in slices])


_make_transform = partial(
    torchaudio.transforms.MelSpectrogram, CONFIG.sample_rate, n_fft=CONFIG.n_fft, hop_length=CONFIG.hop_length, n_mels=CONFIG.n_mels
)


def _many(files: Sequence[Path], progress: Progress) -> dict[str, Any]:
    """Log-mels of many songs on all cores, against a loop over slices, and the feature cache's two runs."""
    progress(f"log-mels of {len(files)} songs")
    slices = {file: cut_slices(load_waveform(file), CLIP_STEPS) for file in files}
    every = [slices[file] for file in files]
    once = _make_transform()
    times = take_turns(
        {
            "here": lambda: [log_mel(song) for song in every],
            "loop": lambda: [_slice_by_slice(song, _make_transform) for song in every],
            "loop_with_one_transform": lambda: [_slice_by_slice(song, lambda: once) for song in every],
        },
        rounds=1,
    )
    progress("the feature cache, empty and full")
    with tempfile.TemporaryDirectory() as place:
        wanted = {file.stem: (Song(file.stem, file), CLIP_STEPS) for file in slices}

        def fill() -> None:
            FeatureCache(place, CONFIG, MelEncoder(64)).fill(wanted, workers=torch.get_num_threads())

        start = time.perf_counter()
        fill()
        first = time.perf_counter() - start
        second = seconds(fill, 1)
    return {
        "songs": len(files),
        "log_mel_seconds_per_song": times["here"] / len(files),
        "ratio_to_loop": times["loop"] / times["here"],
        "ratio_to_loop_with_one_transform": times["loop_with_one_transform"] / times["here"],
        "cache_first_seconds_per_song": first / len(slices),
        "cache_second_seconds_per_song": second / len(slices),
        "cache_ratio": first / second,
    }


def hop_cost(encoder: GlobalEncoder, songs: Sequence[Tensor]) -> dict[str, float]:
    """What a larger hop does to the embeddings of full songs at 44.1 kHz.

    For each hop in seconds the cosine distance between the vector that a step gets and the one it would get at a hop of 0.5 s,
    averaged over steps; under "between_songs" the distance between the songs' mean vectors.
    """
    costs: dict[str, list[Tensor]] = {f"{hop:g}": [] for hop in HOPS}
    centers: list[Tensor] = []
    for song in songs:
        steps = int((len(song) / CONFIG.sample_rate - CONFIG.label_start) / CONFIG.step_seconds)
        windows, index = windows_for(False, steps, CONFIG, 0.5)
        exact = encoder.embed(song, CONFIG.sample_rate, windows)[index]  # (steps, D)
        for hop in HOPS:
            coarse_windows, coarse_index = windows_for(False, steps, CONFIG, hop)
            rows = [windows.index(window) for window in coarse_windows]  # each is one of the fine ones
            coarse = exact[rows][coarse_index]
            costs[f"{hop:g}"].append(1 - torch.cosine_similarity(coarse, exact).mean())
        centers.append(exact.mean(0))
    result = {hop: float(torch.stack(values).mean()) for hop, values in costs.items()}
    if len(songs) > 1:
        pairs = [1 - torch.cosine_similarity(a, b, dim=0) for k, a in enumerate(centers) for b in centers[:k]]
        result["between_songs"] = float(torch.stack(pairs).mean())
    return result


def _imagebind(file: Path, checkpoint: str, progress: Progress) -> dict[str, Any]:
    from dsaml.audio.imagebind import CLIPS, ImageBindEncoder, build_audio_model

    with tempfile.TemporaryDirectory() as place:
        if checkpoint == "random":
            torch.manual_seed(0)
            torch.save(build_audio_model().state_dict(), f"{place}/random.pth")
        encoder = ImageBindEncoder(f"{place}/random.pth" if checkpoint == "random" else checkpoint)
    song = load_waveform(file)
    progress("ImageBind: one clip, and the released recipe's 61 windows (a minute or two)")
    unused = [(15.0 + 0.5 * k - 2.5, 15.0 + 0.5 * k + 2.5) for k in range(CLIP_STEPS)]  # 5 s for each step, never read
    times = take_turns(
        {
            "here": lambda: encoder.embed(song, CONFIG.sample_rate, CLIP),
            "released": lambda: encoder.embed(song, CONFIG.sample_rate, [*CLIP, *unused]),
        },
        rounds=1,
    )
    progress("ImageBind: what a larger hop costs")
    return {
        "weights": "random" if checkpoint == "random" else encoder.fingerprint,
        "clip_seconds": times["here"],
        "seconds_per_2_s": times["here"] / CLIPS,
        "released_clip_seconds": times["released"],
        "ratio": times["released"] / times["here"],
        "hop_cost": hop_cost(encoder, [song]),
    }
