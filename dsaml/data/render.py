"""Audio of VGMIDI's pieces: its MIDI, played by FluidSynth with a General MIDI sound font, or else by the package itself.

The package's own synthesizer needs no program and no sound font: the wavetables of the embedded corpus play the notes. It is no
piano: it keeps what a label could follow (pitch, loudness, density, tempo), not a piano's timbre. Velocity v of a note sets its
gain, (v / 127)^2 as General MIDI recommends, and its brightness. Pedals are ignored: a note ends where its key is let go.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile as sf

from dsaml.audio.song import AUDIO_SUFFIXES
from dsaml.data.findings import Findings
from dsaml.data.midi import read_score
from dsaml.data.synthetic.sound import SAMPLE_RATE, add_note
from dsaml.data.vgmidi import folder, read_pieces
from dsaml.errors import DsamlError, require_file
from dsaml.io import read_json, write_json

RATE = 44_100  # Hz
SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")  # where Debian's package fluid-soundfont-gm has it
ABOUT = "rendered.json"  # beside the audio: what played it
INSTALL = (
    "install it and a sound font (Debian, Ubuntu: apt-get install fluidsynth fluid-soundfont-gm; macOS: brew install fluid-synth), "
    "or render the files in midi/ with any other program"
)
NAME = "the package's own synthesizer"
LONGEST = 3600.0  # s; a score that lasts longer is damaged, or no piece
SHORTEST = 0.08  # s that a note sounds at least
ATTACK = 0.004  # s
TAIL = 3.0  # s of silence at the end: labels may reach into the rest of their last bar, as FluidSynth's reverberation does
LEVEL = 0.16  # of a note at full velocity, as in the embedded corpus


def has_fluidsynth() -> bool:
    """Whether FluidSynth is installed."""
    return shutil.which("fluidsynth") is not None


def render(
    root: Path, sound_font: Path | None = None, progress: Callable[[int, int], None] = lambda done, total: None
) -> int:
    """Render every piece that can be used into ``audio/<piece>.flac``, mono. What is there already is left alone.

    FluidSynth plays at 44.1 kHz with a sound font, by default Debian's FluidR3. Where it is not installed and no sound font was
    named, the package's own synthesizer does, at 22.05 kHz. ``audio/rendered.json`` says which one.

    Returns
    -------
    int
        How many were rendered now.

    Raises
    ------
    DsamlError
        If a sound font is named and FluidSynth is missing, or the font is; if something else rendered the audio that is there; if
        FluidSynth fails, or the folder cannot be written.
    """
    pieces, _ = read_pieces(Findings(root))
    target = folder(root) / "audio"
    about, player = _player(sound_font)
    try:
        target.mkdir(exist_ok=True)
        missing = [p for p in pieces if not any((target / f"{p.id}{suffix}").exists() for suffix in AUDIO_SUFFIXES)]
        if not missing:
            return 0
        if (before := _said(target) or about) != about:
            raise DsamlError(
                f"{target}: was begun with {_words(before)}, and would go on with {_words(about)}; delete {ABOUT} and the files "
                "rendered so far, so that all pieces sound alike"
            )
        write_json(target / ABOUT, about)
        for done, piece in enumerate(missing, len(pieces) - len(missing) + 1):
            with tempfile.TemporaryDirectory(dir=target) as room:  # then renamed: a file that is there is whole
                packed = Path(room, "packed.flac")
                samples, rate = player(piece.midi, room)
                sf.write(packed, samples, rate)
                os.replace(packed, target / f"{piece.id}.flac")
            progress(done, len(pieces))
    except OSError as error:
        raise DsamlError(f"{target}: cannot be written ({error.strerror}); make room or copy the data set") from error
    return len(missing)


def rendered_with(root: Path) -> str:
    """What the audio of a data set was rendered with, for stamps; "as it came" where nothing says so."""
    about = _said(folder(root) / "audio")
    return f"rendered with {_words(about)}" if about else "as it came"


def _said(target: Path) -> dict[str, str]:
    """What ``rendered.json`` in a folder of audio says; nothing where there is none."""
    path = target / ABOUT
    return read_json(path, "rendering", "render again with 'python -m dsaml render'") if path.is_file() else {}


def _words(about: dict[str, str]) -> str:
    """Program and sound font, in words."""
    return ", ".join(str(about[key]) for key in ("program", "sound_font") if about.get(key))


def _player(sound_font: Path | None) -> tuple[dict[str, str], Callable[[Path, str], tuple[np.ndarray, int]]]:
    """What will play, for ``rendered.json``, and a function from a MIDI file and a folder for its own files to samples and rate."""
    program = shutil.which("fluidsynth")
    if program is None and sound_font is None:
        return {"program": NAME}, lambda midi, room: (play(midi), SAMPLE_RATE)
    if program is None:
        raise DsamlError(f"fluidsynth: not installed, and only it plays {sound_font}; {INSTALL}")
    font = sound_font or SOUND_FONT
    require_file(font, "sound font", "give a General MIDI sound font (.sf2) with --sound-font")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.splitlines()
    version = next((line for line in said if "version" in line.lower()), "FluidSynth")
    return {"program": version, "sound_font": font.name}, partial(_fluidsynth, program, font)


def _fluidsynth(program: str, sound_font: Path, midi: Path, room: str) -> tuple[np.ndarray, int]:
    raw = Path(room, "raw.wav")
    settings = ["-ni", "-q", "-r", str(RATE), "-T", "wav", "-F", str(raw)]
    done = subprocess.run([program, *settings, str(sound_font), str(midi)], capture_output=True, text=True, check=False)
    if done.returncode or not raw.is_file():
        said = (done.stderr or done.stdout).strip().splitlines()
        raise DsamlError(
            f"{midi}: fluidsynth failed ({said[-1] if said else f'code {done.returncode}'}); render it by hand"
        )
    samples, rate = sf.read(raw, dtype="float32", always_2d=True)  # (samples, channels)
    return samples.mean(1), rate


def play(midi: Path) -> np.ndarray:
    """Play a Standard MIDI File to the end of its longest track, and three seconds of silence.

    Returns
    -------
    ndarray, shape (samples,), float32
        Mono audio at 22 050 Hz, peak below 1.

    Raises
    ------
    DsamlError
        If the file cannot be read, holds no note, or lasts more than an hour.
    """
    score = read_score(midi)
    seconds = float(score.seconds(np.array([score.end]))[0])
    if not len(score.notes) or not seconds:
        raise DsamlError(f"{midi}: holds no note; get the data set again")
    if seconds > LONGEST:
        raise DsamlError(f"{midi}: lasts {seconds / 3600:.1f} hours, more than one; get the data set again")
    out = np.zeros(int(np.ceil((seconds + TAIL) * SAMPLE_RATE)), np.float32)
    starts, ends = score.seconds(score.notes[:, 0]), score.seconds(score.notes[:, 1])
    for start, end, key, velocity in zip(starts, ends, *score.notes[:, 2:].T, strict=True):
        length = max(end - start, SHORTEST)
        add_note(out, start, float(key), length, (velocity / 127) ** 2, velocity / 64 - 1, ATTACK)
    return np.tanh(LEVEL * out)
