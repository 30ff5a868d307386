"""Commands for one's own music: predict, annotate, personalize."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from dsaml.cli.common import CheckpointOption, DeviceOption, ForceOption, ImagebindOption
from dsaml.cli.outputs import Kind, check_output, holds_json, holds_mark, holds_model, holds_prediction
from dsaml.errors import DsamlError, printable
from dsaml.listen import DEMO_MODEL

app = typer.Typer()

SOUNDS = {".mp3", ".wav", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".m4a", ".aac"}  # of a folder's files
OWN: dict[str, Kind] = {
    "csv": holds_prediction,
    "json": holds_json("model", "time_s", "arousal", "valence"),
    "jams": holds_json("annotations", "file_metadata", "sandbox"),
    "png": holds_mark("dsaml predict"),
    "html": holds_mark("dsaml predict"),
}
"""What predict may replace, by ending."""


def songs_in(given: Sequence[str]) -> list[Path]:
    """The named files, and the songs in the named folders; an empty name, which a path takes for this folder, is refused."""
    if not all(given):
        raise DsamlError("one of the songs has no name: no such file; name files, or folders of them")
    songs = []
    for path in map(Path, given):
        if not path.is_dir():
            songs.append(path)
            continue
        there = sorted(p for p in path.iterdir() if p.suffix.lower() in SOUNDS and not p.name.startswith(".") and p.is_file())
        if not there:
            raise DsamlError(f"{path}: no song in this folder; its audio files have to end in {', '.join(sorted(SOUNDS))}")
        songs += there
    return songs


def planned(given: Sequence[str], out: Path | None, endings: Sequence[str]) -> list[tuple[Path, dict[str, Path]]]:
    """Each song with its files by ending: ``out`` for one, in the folder ``out`` for several, here by default; none twice."""
    songs = songs_in(given)
    one = len(given) == 1 and not Path(given[0]).is_dir() and out is not None
    bases = [out] if one else [(out or Path()) / f"{song.stem}.curve.{endings[0]}" for song in songs]
    if twice := [base for base, count in Counter(bases).items() if count > 1]:
        raise DsamlError(f"{twice[0]}: two of the songs would be written to it; rename one, or predict them one by one")
    # of the others only the last ending is replaced, whatever that is
    more = ({ending: base.with_suffix(f".{ending}") for ending in endings[1:]} for base in bases)
    return [(song, {endings[0]: base, **rest}) for song, base, rest in zip(songs, bases, more, strict=True)]


@app.command()
def predict(
    songs: Annotated[list[str], typer.Argument(metavar="SONG", help="MP3, WAV, FLAC or OGG files, or folders of them.")],
    checkpoint: CheckpointOption = DEMO_MODEL,
    out: Annotated[
        Path | None, typer.Option(help="The file; of several songs, or a folder, the folder. By default SONG.curve.csv here.")
    ] = None,
    form: Annotated[
        Literal["csv", "json", "jams"],
        typer.Option("--format", help="csv: a line every 0.5 s; json: what is known beside it, too; jams: namespace mood_thayer."),
    ] = "csv",
    plot: Annotated[bool, typer.Option("--plot", help="Also a picture beside it (PNG).")] = False,
    html: Annotated[
        bool, typer.Option("--html", help="Also a page beside it in which the song plays and its curve moves (15 minutes at most).")
    ] = False,
    start: Annotated[float, typer.Option(help="First predicted second.")] = 0.0,
    imagebind: ImagebindOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Predict the arousal and valence of songs at 2 Hz, by default with the model that make book leaves.

    Arousal: -1 calm, +1 excited; valence: -1 unpleasant, +1 pleasant. With the standard deviation of each value where the model
    knows it, the quadrant in words, and on what the model was trained. M4A and AAC have to be converted first.
    """
    from dsaml.experiment.progress import counter
    from dsaml.listen.curves import LEGEND, in_words, warning
    from dsaml.listen.export import check_playable, write_page, write_plot, write_text
    from dsaml.listen.origin import origin
    from dsaml.listen.personal import load
    from dsaml.runtime.devices import choose_device

    endings = [form, *(("png",) if plot else ()), *(("html",) if html else ())]
    jobs = planned(songs, out, endings)
    for _, files in jobs:
        for ending, file in files.items():
            check_output(file, OWN[ending], (*(song for song, _ in jobs), checkpoint, imagebind), force=force)
    model = load(checkpoint, imagebind, choose_device(device))
    failed: list[DsamlError] = []
    with counter("predicting") as progress:
        for done, (song, files) in enumerate(jobs, 1):
            try:
                if html:
                    check_playable(song, "--html")
                curve = model.predict(song, start)
                write_text(files[form], curve, form)
                if plot:
                    write_plot(files["png"], curve)
                if html:
                    write_page(files["html"], curve, song)
            except DsamlError as error:
                failed.append(error)
                continue
            typer.echo(f"{', '.join(map(str, files.values()))}: {len(curve)} steps; on the whole {in_words(curve)}")
            if said := warning(curve):
                typer.echo(f"warning: {printable(said)}", err=True)
            progress(done, len(jobs))
    if len(failed) < len(jobs):
        typer.echo(LEGEND)
        typer.echo(origin(model.about))
    if failed and len(jobs) == 1:
        raise failed[0]
    if failed:
        for error in failed:
            typer.echo(f"not predicted: {printable(str(error))}", err=True)
        raise DsamlError(f"{len(failed)} of {len(jobs)} songs were not predicted; the others are written")


@app.command()
def annotate(
    song: Annotated[Path, typer.Argument(help="MP3, WAV, FLAC or OGG, up to 15 minutes.")],
    out: Annotated[Path | None, typer.Option(help="CSV: time_s (s), arousal, valence; SONG.mine.csv here by default.")] = None,
    checkpoint: CheckpointOption = DEMO_MODEL,
    browser: Annotated[bool, typer.Option(help="Open the page, or only print its address.")] = True,
    force: ForceOption = False,
) -> None:
    """Draw your curve of a song in the browser; ends when you have saved it. Then personalize makes the model yours.

    The page is served on 127.0.0.1 alone, under an address that nobody can guess; nothing leaves this machine.
    """
    from dsaml.listen.annotate import annotate as run_annotate

    out = out or Path(f"{song.stem}.mine.csv")
    check_output(out, inputs=(song, checkpoint), force=force)  # a curve that is there is somebody's work

    def opened(address: str) -> None:
        typer.echo(f"{address}\ndraw, then save; Ctrl-C ends it without a curve")
        if browser:
            import webbrowser

            webbrowser.open(address)

    steps = run_annotate(song, out, checkpoint, opened)
    typer.echo(f"{out}: {steps} points")


@app.command()
def personalize(
    songs: Annotated[list[Path], typer.Option("--song", help="A song that the person annotated; can be repeated.")],
    curves: Annotated[
        list[Path], typer.Option("--curve", help="CSV: time_s (s), arousal, valence in [-1, 1]; any rate. One for each --song.")
    ],
    out: Annotated[Path, typer.Option(help="The personal model (.safetensors); it names its base, which has to stay.")],
    checkpoint: CheckpointOption = DEMO_MODEL,
    largest_gap: Annotated[float, typer.Option(help="Between two points of the curve, s.", min=0.5)] = 2.0,
    imagebind: ImagebindOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Make a model one's own from one or several annotated songs; then use it with predict.

    By default the model that make book leaves, whose listener is found in closed form. A model of train --mode pdmer takes the
    gradient steps of MAML.
    """
    from dsaml.listen.origin import belief, origin
    from dsaml.listen.personal import load
    from dsaml.runtime.devices import choose_device

    check_output(out, holds_model, (*songs, *curves, checkpoint, imagebind), force=force)
    own = load(checkpoint, imagebind, choose_device(device)).personalize(songs, curves, largest_gap)
    own.save(out)
    done = own.about
    what = "this song" if len(songs) == 1 else f"these {len(songs)} songs"
    typer.echo(f"{out}: {done['steps']} steps; RMSE on {what} {done['before']:.3f} before, {done['after']:.3f} after")
    if left := done.get("left_out"):
        best = min(left, key=lambda name: left[name])
        typer.echo(
            f"on a song that was left out: RMSE {left['personal']:.3f} personal, {left['nobody']:.3f} for nobody in particular, "
            f"{left['shift']:.3f} for that one shifted by your mean; "
            + ("the personal model is the best of the three" if best == "personal" else f"'{best}' serves you better")
        )
    else:
        typer.echo("how well it does on other songs one song cannot tell; with two or more it is measured")
    if said := belief(done):
        typer.echo(said)
    typer.echo(origin(done))
