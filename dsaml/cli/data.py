"""Commands for data: fetch, render, check, features, imagebind-audio, floors, structure, template, synthesize."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import typer

from dsaml.cli import common
from dsaml.cli.outputs import check_folder, check_output
from dsaml.config import STEP_SECONDS, get_profile
from dsaml.errors import DsamlError

app = typer.Typer()


@app.command()
def fetch(
    dataset: Annotated[common.DatasetName, typer.Argument(help="deam, vgmidi, merp; for the others it says where they come from.")],
    directory: Annotated[Path, typer.Argument(help="Folder for the archives and the data.")],
    base_url: Annotated[str | None, typer.Option(help="Another address with the same files.")] = None,
) -> None:
    """Download and unpack a data set (DEAM: more than 1 GB); run it again to continue a broken download.

    Shows each archive's SHA-256, the licence and whom to cite. merp needs the package huggingface_hub.
    """
    from tqdm import tqdm

    from dsaml.data.fetch import SAME, TERMS
    from dsaml.data.fetch import fetch as run_fetch

    with tqdm(leave=False, disable=None) as bar:

        def progress(name: str, done: int, total: int) -> None:
            bar.set_description(name, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        archives = run_fetch(dataset, directory, base_url, progress)
    for path, checksum, count in archives:
        typer.echo(f"{path}: {count} {'file' if count == 1 else 'files'}, sha256 {checksum}")
    typer.echo(TERMS[SAME.get(dataset, dataset)])


@app.command()
def render(
    root: common.RootOption,
    sound_font: Annotated[
        Path | None, typer.Option(help="General MIDI sound font (.sf2) for FluidSynth; by default Debian's FluidR3.")
    ] = None,
) -> None:
    """Make audio of VGMIDI's MIDI files; goes on where it was stopped.

    FluidSynth plays them where it is installed, else the package's own synthesizer: right in pitch, time and loudness, no piano.
    """
    from dsaml.data.render import INSTALL, has_fluidsynth
    from dsaml.data.render import render as run_render
    from dsaml.experiment.progress import counter

    if sound_font is None and not has_fluidsynth():
        typer.echo(f"FluidSynth is not installed: the package's own synthesizer plays; for a piano, {INSTALL}")
    with counter("rendering", "piece") as progress:
        made = run_render(root, sound_font, progress)
    typer.echo(f"{made} pieces rendered")


@app.command()
def check(
    dataset: common.DatasetOption,
    root: common.RootOption,
    labels_only: Annotated[bool, typer.Option("--labels-only", help="Ask for no audio: enough for floors.")] = False,
    as_json: common.JsonOption = False,
    profile: common.ProfileOption = "demo",
    mode: Annotated[common.Mode | None, typer.Option(help="The training to judge; by default what the labels allow.")] = None,
) -> None:
    """List every problem of a data set with file and line, what would stop training, and a summary.

    Exit code 1 if there is an error. Its kind stands behind it in [ ]: train --accept KIND goes on in spite of it.
    """
    from dsaml.data.checks import check as run_check
    from dsaml.experiment.progress import counter

    settings = get_profile(profile)
    with counter("decoding audio", "file") as progress:
        found = run_check(dataset, root, labels_only=labels_only, profile=settings, mode=mode, progress=progress)
    typer.echo(found.to_json() if as_json else "\n".join(found.lines()))
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def features(
    dataset: common.DatasetOption,
    root: common.RootOption,
    encoder: common.EncoderOption = None,
    checkpoint: Annotated[Path | None, typer.Option(help="ImageBind's weights (CC BY-NC-SA 4.0, non-commercial use only).")] = None,
    cache: Annotated[Path, typer.Option(help="Where the features go.")] = Path("cache/features"),
    profile: common.ProfileOption = "demo",
    hop_seconds: Annotated[float, typer.Option(min=0.5, help="Full songs: s between two windows of the global encoder.")] = 2.0,
    workers: Annotated[int, typer.Option(min=1, help="Songs at a time, one core each.")] = 1,
    scheduler: common.SchedulerOption = None,
    device: common.DeviceOption = "auto",
) -> None:
    """Compute the features of every song with audio and labels, once; a stopped run goes on where it was.

    ImageBind, code and weights, is under CC BY-NC-SA 4.0: non-commercial use only. It is never downloaded for you.
    """
    from dsaml.audio.encoders import make_encoder
    from dsaml.audio.features import ONE_EMBEDDING, FeatureCache
    from dsaml.data.base import load_dataset, songs_with_steps
    from dsaml.experiment.cluster import compute_features
    from dsaml.experiment.prepare import with_label_start
    from dsaml.experiment.progress import counter
    from dsaml.runtime.devices import choose_device

    check_folder(cache)
    settings, device = common.chosen_profile(profile, encoder), choose_device(device)
    data = load_dataset(dataset, root)
    songs, settings = songs_with_steps(data), with_label_start(settings, data)
    one, maker = ONE_EMBEDDING[settings.embeddings], make_encoder(settings, checkpoint, device=device)
    folder = FeatureCache(cache, settings.audio, maker, hop_seconds, one)
    started = time.perf_counter()
    with counter("features") as progress:
        if scheduler:
            made = compute_features(folder, songs, scheduler, progress)
        else:
            made = folder.compute(songs, workers, progress)
    typer.echo(folder.account(len(songs), made, time.perf_counter() - started))


@app.command("imagebind-audio")
def imagebind_audio(
    full: Annotated[Path, typer.Argument(help="imagebind_huge.pth, 4.8 GB.")],
    out: Annotated[Path, typer.Argument(help="A new .safetensors or .pth file, 345 MB.")],
    force: common.ForceOption = False,
) -> None:
    """Keep the audio part of ImageBind's weights; it stays under CC BY-NC-SA 4.0, non-commercial use only."""
    from dsaml.audio.imagebind import LICENCE, save_audio_only
    from dsaml.io import read_header

    check_output(out, lambda path: read_header(path).get("licence") == LICENCE, (full,), force=force)
    digest = save_audio_only(full, out)
    typer.echo(f"{out}: SHA-256 of the audio weights {digest}\n{LICENCE}")


@app.command()
def floors(
    dataset: common.DatasetOption,
    root: common.RootOption,
    split: Annotated[str, typer.Option(help="Which songs to score: train, validation or test.")] = "test",
    as_json: common.JsonOption = False,
    save: common.SaveOption = None,
) -> None:
    """Score the trivial predictors (RMSE in the labels' unit); needs labels only, no audio."""
    from dsaml.data import load_dataset
    from dsaml.evaluate import floors as trivial

    if save:
        check_output(save, lambda path: trivial.holds_facts(path, "counts", "real"), (root,))
    document = trivial.score_floors(load_dataset(dataset, root), split)
    if save:
        trivial.merge_facts(document, save)
    if as_json:
        typer.echo(json.dumps(document, indent=1))
    else:
        for name, numbers in document.items():
            common.console.print(*trivial.terminal_tables(name, numbers))


@app.command()
def structure(
    dataset: common.DatasetOption,
    root: common.OwnRootOption = None,
    split: Annotated[str, typer.Option(help="Which songs: train, validation or test; of VGMIDI always all.")] = "test",
    save: common.SaveOption = None,
) -> None:
    """What one sample tells: how labels vary, what of a listener comes back, and what more songs would bring; needs no audio."""
    from dsaml.data import load_dataset, vgmidi
    from dsaml.data.base import with_flat
    from dsaml.evaluate import floors as trivial
    from dsaml.evaluate import structure as parts
    from dsaml.evaluate.listeners import describe, lines
    from dsaml.experiment.prepare import EMBEDDED

    if save:
        check_output(save, lambda path: trivial.holds_facts(path, "traits", "variance"), (root,))
    if root is None and dataset not in EMBEDDED:
        raise DsamlError(f"{dataset}: its folder is missing; give it with --root")
    real, source, place = True, dataset, " --root DIR"
    if root is None:
        curves, real, place = parts.simulate(EMBEDDED[dataset][1])[0], False, ""
        seconds = dict.fromkeys(curves, STEP_SECONDS)
    elif dataset in vgmidi.SEEDS:
        (curves, seconds), source = vgmidi.read(root), vgmidi.SOURCE
    else:
        data = load_dataset(dataset, root)
        if split not in data.split.songs:
            raise DsamlError(f"--split {split}: no such part; choose from: {', '.join(data.split.songs)}")
        curves, real = parts.by_song(with_flat(data).tracks, data.split.songs[split]), data.real
        seconds = dict.fromkeys(curves, STEP_SECONDS)
    found = describe(curves, seconds)
    if save:
        command = f"python -m dsaml structure --dataset {dataset}{place} --save data/listeners.json"
        stamp = {"real": real, "source": source, "command": command, "date": f"{date.today()}"}
        trivial.merge_facts({dataset: found | stamp}, save)
    typer.echo("\n".join(lines(found)))


@app.command()
def template(directory: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Write an example of your own data set (label table, two songs, README), ready for --dataset folder."""
    from dsaml.data.folder import write_template

    for path in write_template(directory):
        typer.echo(path)


@app.command()
def synthesize(
    directory: Annotated[Path, typer.Argument(help="A new or empty folder, or an embedded corpus.")],
    seed: Annotated[int, typer.Option(help="Everything follows from it.", **common.SEEDS)] = 0,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
    population: Annotated[
        Literal["two-signs", "continuous"],
        typer.Option(help="Who listens: two-signs (default), or continuous: the data set stress."),
    ] = "two-signs",
    size: Annotated[
        Literal["full", "small"], typer.Option(help="small: few songs and listeners, to try a long command out.")
    ] = "full",
) -> None:
    """Write the embedded corpus (synthetic songs and listeners) in DEAM's own layout; about a minute."""
    from dsaml.data.synthetic.corpus import synthesize as write
    from dsaml.data.synthetic.population import CONFIGS, SMALL
    from dsaml.experiment.progress import counter

    with counter("corpus") as progress:
        wanted = replace(CONFIGS[population], seed=seed, **(SMALL if size == "small" else {}))
        path = write(directory, wanted, workers, progress)
    typer.echo(path)
