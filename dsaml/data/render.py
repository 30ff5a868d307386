"""Audio of VGMIDI's pieces: its MIDI, played by FluidSynth with a General MIDI sound font."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import soundfile as sf

from dsaml.audio.song import AUDIO_SUFFIXES
from dsaml.data.findings import Findings
from dsaml.data.vgmidi import folder, read_pieces
from dsaml.errors import DsamlError, require_file
from dsaml.io import read_json, write_json

RATE = 44_100  # Hz
SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")  # where Debian's package fluid-soundfont-gm has it
ABOUT = "rendered.json"  # beside the audio: program and sound font
LACKING = (
    "fluidsynth: not installed; install it and a sound font (Debian, Ubuntu: apt-get install fluidsynth fluid-soundfont-gm; macOS: "
    "brew install fluid-synth), or render the files in midi/ with any other program"
)


def render(
    root: Path, sound_font: Path = SOUND_FONT, progress: Callable[[int, int], None] = lambda done, total: None
) -> int:
    """Render every piece that can be used into ``audio/<piece>.flac``: mono, 44.1 kHz. What is there already is left alone.

    Returns
    -------
    int
        How many were rendered now.

    Raises
    ------
    DsamlError
        If FluidSynth or the sound font is missing, it fails, or the folder cannot be written.
    """
    pieces, _ = read_pieces(root, Findings(root))
    program = shutil.which("fluidsynth")
    if program is None:
        raise DsamlError(LACKING)
    require_file(sound_font, "sound font", "give a General MIDI sound font (.sf2) with --sound-font")
    target = folder(root) / "audio"
    try:
        target.mkdir(exist_ok=True)
        made = 0
        for done, piece in enumerate(pieces, 1):
            if not any((target / f"{piece.id}{suffix}").exists() for suffix in AUDIO_SUFFIXES):
                _render_one(program, sound_font, piece.midi, target / f"{piece.id}.flac")
                made += 1
            progress(done, len(pieces))
        if made:
            write_json(target / ABOUT, {"program": _version(program), "sound_font": sound_font.name})
    except OSError as error:
        raise DsamlError(f"{target}: cannot be written ({error.strerror}); make room or copy the data set") from error
    return made


def rendered_with(root: Path) -> str:
    """What the audio of a data set was rendered with, for stamps; "as it came" where nothing says so."""
    path = folder(root) / "audio" / ABOUT
    if not path.is_file():
        return "as it came"
    about = read_json(path, "rendering", "render again with 'python -m dsaml render'")
    return f"rendered with {about.get('program')}, {about.get('sound_font')}"


def _version(program: str) -> str:
    """First line of what FluidSynth says of itself."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.splitlines()
    return next((line for line in said if "version" in line.lower()), "FluidSynth")


def _render_one(program: str, sound_font: Path, midi: Path, target: Path) -> None:
    """Through a temporary folder, then renamed: a file that is there is whole."""
    with tempfile.TemporaryDirectory(dir=target.parent) as room:
        raw, packed = Path(room, "raw.wav"), Path(room, "packed.flac")
        settings = ["-ni", "-q", "-r", str(RATE), "-T", "wav", "-F", str(raw)]
        done = subprocess.run(
            [program, *settings, str(sound_font), str(midi)], capture_output=True, text=True, check=False
        )
        if done.returncode or not raw.is_file():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise DsamlError(
                f"{midi}: fluidsynth failed ({said[-1] if said else f'code {done.returncode}'}); render it by hand"
            )
        samples, rate = sf.read(raw, dtype="float32", always_2d=True)  # (samples, channels)
        sf.write(packed, samples.mean(1), rate)
        os.replace(packed, target)
