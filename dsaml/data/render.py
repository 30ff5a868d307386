"""Audio of VGMIDI's pieces: its MIDI, played by FluidSynth with a General MIDI sound font, or else by the package itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import soundfile as sf

from dsaml.audio.song import AUDIO_SUFFIXES
from dsaml.data import synthesizer
from dsaml.data.findings import Findings
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


def has_fluidsynth() -> bool:
    """Whether FluidSynth is installed."""
    return shutil.which("fluidsynth") is not None


def render(
    root: Path, sound_font: Path | None = None, progress: Callable[[int, int], None] = lambda done, total: None
) -> int:
    """Render every piece that can be used into ``audio/<piece>.flac``, mono. What is there already is left alone.

    FluidSynth plays at 44.1 kHz with a sound font, by default Debian's FluidR3. Where it is not installed and no sound font was
    named, the package's own synthesizer does (:mod:`dsaml.data.synthesizer`, 22.05 kHz). ``audio/rendered.json`` says which one.

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
    pieces, _ = read_pieces(root, Findings(root))
    target = folder(root) / "audio"
    about, play = _player(sound_font)
    try:
        target.mkdir(exist_ok=True)
        missing = [p for p in pieces if not any((target / f"{p.id}{suffix}").exists() for suffix in AUDIO_SUFFIXES)]
        if not missing:
            return 0
        if (before := _said(target, about)) != about:
            raise DsamlError(
                f"{target}: was begun with {_words(before)}, and would go on with {_words(about)}; delete {ABOUT} and the files "
                "rendered so far, so that all pieces sound alike"
            )
        write_json(target / ABOUT, about)
        for done, piece in enumerate(missing, len(pieces) - len(missing) + 1):
            _write(play, piece.midi, target / f"{piece.id}.flac")
            progress(done, len(pieces))
    except OSError as error:
        raise DsamlError(f"{target}: cannot be written ({error.strerror}); make room or copy the data set") from error
    return len(missing)


def rendered_with(root: Path) -> str:
    """What the audio of a data set was rendered with, for stamps; "as it came" where nothing says so."""
    about = _said(folder(root) / "audio", None)
    return f"rendered with {_words(about)}" if about else "as it came"


def _said(target: Path, otherwise: dict[str, str] | None) -> dict[str, str] | None:
    """What ``rendered.json`` in a folder of audio says; ``otherwise`` where there is none."""
    path = target / ABOUT
    return read_json(path, "rendering", "render again with 'python -m dsaml render'") if path.is_file() else otherwise


def _words(about: dict[str, str]) -> str:
    """Program and sound font, in words."""
    return ", ".join(str(about[key]) for key in ("program", "sound_font") if about.get(key))


def _player(sound_font: Path | None) -> tuple[dict[str, str], Callable[[Path, Path], None]]:
    """What will play, for ``rendered.json``, and a function that renders a MIDI file into a FLAC file."""
    program = shutil.which("fluidsynth")
    if program is None and sound_font is None:
        return {"program": synthesizer.NAME}, synthesizer.play_into
    if program is None:
        raise DsamlError(f"fluidsynth: not installed, and only it plays {sound_font}; {INSTALL}")
    font = sound_font or SOUND_FONT
    require_file(font, "sound font", "give a General MIDI sound font (.sf2) with --sound-font")
    return {"program": _version(program), "sound_font": font.name}, partial(_fluidsynth, program, font)


def _version(program: str) -> str:
    """First line of what FluidSynth says of itself."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.splitlines()
    return next((line for line in said if "version" in line.lower()), "FluidSynth")


def _write(play: Callable[[Path, Path], None], midi: Path, target: Path) -> None:
    """Through a temporary folder, then renamed: a file that is there is whole."""
    with tempfile.TemporaryDirectory(dir=target.parent) as room:
        packed = Path(room, "packed.flac")
        play(midi, packed)
        os.replace(packed, target)


def _fluidsynth(program: str, sound_font: Path, midi: Path, target: Path) -> None:
    raw = target.with_name("raw.wav")
    settings = ["-ni", "-q", "-r", str(RATE), "-T", "wav", "-F", str(raw)]
    done = subprocess.run([program, *settings, str(sound_font), str(midi)], capture_output=True, text=True, check=False)
    if done.returncode or not raw.is_file():
        said = (done.stderr or done.stdout).strip().splitlines()
        raise DsamlError(
            f"{midi}: fluidsynth failed ({said[-1] if said else f'code {done.returncode}'}); render it by hand"
        )
    samples, rate = sf.read(raw, dtype="float32", always_2d=True)  # (samples, channels)
    sf.write(target, samples.mean(1), rate)
