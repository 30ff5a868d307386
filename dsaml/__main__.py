"""The command line: ``python -m dsaml COMMAND --help``. Thin: each command parses, calls the package, prints."""

from __future__ import annotations

import json
import logging
import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

# Before torch is imported: with two threads a spinning OpenMP pool can stall small recurrent steps for seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer
from rich.console import Console

from dsaml.errors import DsamlError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Personalized dynamic music emotion recognition (PDMER): valence and arousal at 2 Hz, for one listener.",
)
console = Console()


class DatasetName(str, Enum):
    """The data sets that a loader exists for."""

    deam = "deam"
    pmemo = "pmemo"
    folder = "folder"
    synthetic = "synthetic"


class EncoderName(str, Enum):
    """The frozen global encoders."""

    mel = "mel"
    imagebind = "imagebind"


DatasetOption = Annotated[DatasetName, typer.Option("--dataset", help="Which data set lies under --root.")]
RootOption = Annotated[Path, typer.Option("--root", help="The data set's own folder.")]
ProfileOption = Annotated[str, typer.Option("--profile", help="Sizes and settings: demo (minutes) or paper.")]


@app.command()
def book(
    profile: ProfileOption = "demo",
    only: Annotated[str | None, typer.Option("--only", help="Execute one notebook alone: 04.")] = None,
    compute: Annotated[bool, typer.Option(help="Off: draw again from the results that are already there.")] = True,
) -> None:
    """Compute the results, execute the notebooks, build the book into _build/html; skips what is unchanged."""
    from dsaml.book import build

    page = build(profile, only, compute=compute)
    if page:
        console.print(str(page), soft_wrap=True, highlight=False)


@app.command()
def fetch(
    dataset: Annotated[DatasetName, typer.Argument(help="deam; for the others it says where they come from.")],
    directory: Annotated[Path, typer.Argument(help="Folder for the archives and the data.")],
    base_url: Annotated[str | None, typer.Option("--base-url", help="Another address with the same files.")] = None,
) -> None:
    """Download and unpack a data set (DEAM: more than 1 GB); run it again to continue a broken download."""
    from tqdm import tqdm

    from dsaml.fetch import fetch as run_fetch

    with tqdm(leave=False, disable=None) as bar:

        def progress(name: str, done: int, total: int) -> None:
            bar.set_description(name, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        archives = run_fetch(dataset.value, directory, base_url, progress)
    for path, checksum, count in archives:
        typer.echo(f"{path}: {count} files, sha256 {checksum}")


@app.command()
def check(
    dataset: DatasetOption,
    root: RootOption,
    labels_only: Annotated[bool, typer.Option("--labels-only", help="Ask for no audio: enough for floors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List every problem of a data set with file and line, and a summary; exit code 1 if any of them matters."""
    from tqdm import tqdm

    from dsaml.checks import check as run_check

    with tqdm(unit="file", desc="decoding audio", leave=False, disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        report = run_check(dataset.value, root, labels_only=labels_only, progress=progress)
    typer.echo(report.to_json() if as_json else "\n".join(report.lines()))
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def features(
    dataset: DatasetOption,
    root: RootOption,
    encoder: Annotated[
        EncoderName | None, typer.Option("--encoder", help="mel needs no download; by default the profile's.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", help="ImageBind's weights (CC BY-NC-SA 4.0, non-commercial use only)."),
    ] = None,
    cache: Annotated[Path, typer.Option("--cache", help="Where the features go.")] = Path("cache/features"),
    profile: ProfileOption = "demo",
    hop_seconds: Annotated[
        float, typer.Option("--hop-seconds", min=0.5, help="Full songs: s between two windows of the global encoder.")
    ] = 2.0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Songs at a time, one core each.")] = 1,
    device: Annotated[str, typer.Option("--device", help="Where ImageBind runs: cpu, cuda, mps.")] = "cpu",
    released_rate: Annotated[
        bool, typer.Option("--released-rate", help="Feed ImageBind 44.1 kHz, as the released code, not 16 kHz.")
    ] = False,
) -> None:
    """Compute the features of every song with audio and labels, once; a stopped run goes on where it was.

    ImageBind, code and weights, is under CC BY-NC-SA 4.0: non-commercial use only. It is never downloaded for you.
    """
    import dataclasses
    import time

    from tqdm import tqdm

    from dsaml.config import get_profile
    from dsaml.datasets import load_dataset
    from dsaml.encoders import make_encoder
    from dsaml.features import FeatureCache, songs_with_steps, summary

    settings = get_profile(profile)
    if encoder:
        settings = dataclasses.replace(settings, encoder=encoder.value)
    songs = songs_with_steps(load_dataset(dataset.value, root))
    made = make_encoder(settings, checkpoint, device=device, released_rate=released_rate)
    folder = FeatureCache(cache, settings.audio, made, hop_seconds)
    started = time.perf_counter()
    with tqdm(total=len(songs), unit="song", desc="features", leave=False, disable=None) as bar:
        folder.fill(songs, workers, lambda done, total: bar.update(done - bar.n))
    text = summary(folder, len(songs), time.perf_counter() - started)
    console.print(text, soft_wrap=True, highlight=False, markup=False)


@app.command("imagebind-audio")
def imagebind_audio(
    full: Annotated[Path, typer.Argument(help="imagebind_huge.pth, 4.8 GB.")],
    out: Annotated[Path, typer.Argument(help="A new .safetensors or .pth file, 345 MB.")],
) -> None:
    """Keep the audio part of ImageBind's weights; it stays under CC BY-NC-SA 4.0, non-commercial use only."""
    from dsaml.imagebind import LICENCE, save_audio_only

    digest = save_audio_only(full, out)
    console.print(
        f"{out}: SHA-256 of the audio weights {digest}\n{LICENCE}", soft_wrap=True, highlight=False, markup=False
    )


@app.command()
def floors(
    dataset: DatasetOption,
    root: RootOption,
    split: Annotated[str, typer.Option("--split", help="Which songs to score: train, validation or test.")] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    save: Annotated[Path | None, typer.Option("--save", help="Also merge the numbers into this JSON file.")] = None,
) -> None:
    """Score the trivial predictors (RMSE in the labels' unit); needs labels only, no audio."""
    from dsaml import floors as trivial
    from dsaml.datasets import load_dataset

    document = trivial.compute(load_dataset(dataset.value, root), split)
    if save:
        trivial.save(document, save)
    if as_json:
        typer.echo(json.dumps(document, indent=1))
    else:
        for name, numbers in document.items():
            console.print(*trivial.tables(name, numbers))


@app.command()
def template(directory: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Write an example of your own data set (label table, two songs, README), ready for --dataset folder."""
    from dsaml.datasets.folder import write_template

    for path in write_template(directory):
        console.print(str(path), soft_wrap=True, highlight=False)


@app.command()
def bench(
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help="Measure features of the songs in this folder.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="With --inputs: ImageBind's weights, or the word random.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the result files (JSON).")] = Path("data/bench"),
) -> None:
    """Measure speed and memory on this machine; the book's pages show what lies in data/bench."""
    from dsaml.bench import inputs as bench_inputs
    from dsaml.results import write_bytes_atomically

    document = bench_inputs.measure(inputs, checkpoint, progress=logging.info)
    text = json.dumps(document, indent=1) + "\n"
    write_bytes_atomically(out / "inputs.json", text.encode())
    typer.echo(text)


@app.command()
def synthesize(
    directory: Annotated[Path, typer.Argument(help="A new or empty folder, or an embedded corpus.")],
    seed: Annotated[int, typer.Option("--seed", help="Everything follows from it.")] = 0,
    workers: Annotated[int, typer.Option("--workers", help="Processes.")] = 2,
) -> None:
    """Write the embedded corpus (synthetic songs and listeners) in DEAM's own layout; about a minute."""
    from tqdm import tqdm

    from dsaml.datasets.synthetic import CorpusConfig
    from dsaml.datasets.synthetic import synthesize as write

    with tqdm(unit="song", leave=False, disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        console.print(
            str(write(directory, CorpusConfig(seed=seed), workers, progress)), soft_wrap=True, highlight=False
        )


class Mode(str, Enum):
    """Averaged labels, or annotator tasks."""

    dmer = "dmer"
    pdmer = "pdmer"


CheckpointOption = Annotated[
    Path, typer.Option("--checkpoint", help="A model (.safetensors) that train or personalize wrote.")
]
ImagebindOption = Annotated[
    Path | None, typer.Option("--imagebind", help="ImageBind weights, where the model needs them.")
]


@app.command()
def train(
    dataset: DatasetOption,
    root: RootOption,
    out: Annotated[Path, typer.Option("--out", help="The trained model (.safetensors).")],
    profile: ProfileOption = "demo",
    mode: Annotated[
        Mode, typer.Option("--mode", help="dmer: averaged labels. pdmer: MAML on annotator tasks (Eq. 6).")
    ] = Mode.pdmer,
    seed: Annotated[int, typer.Option("--seed", help="Of weights, batches and dropout.")] = 0,
    cache: Annotated[Path, typer.Option("--cache", help="Features and checkpoints.")] = Path("cache"),
    imagebind: ImagebindOption = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on from the last checkpoint, or start anew.")
    ] = True,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps.")] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="Of matrix products: float32, tf32 (GPU), bf16 (autocast).")
    ] = "float32",
    save_every: Annotated[int, typer.Option("--save-every", help="Steps between checkpoints.", min=1)] = 50,
    logs: Annotated[Path | None, typer.Option("--logs", help="Folder of TensorBoard event files.")] = None,
) -> None:
    """Train DSAML and write one model file; stopped at any time, the same command goes on where it was.

    Several processes or machines: torchrun --nproc-per-node 2 -m dsaml train … (mode pdmer).
    """
    from dsaml.loop import Run
    from dsaml.workflow import train as run_train

    run = Run(resume=resume, save_every=save_every, logs=logs, device=device, precision=precision)
    best = run_train(dataset.value, root, out, profile, mode.value, seed, cache, imagebind, run)
    console.print(f"{out}: best validation CCC {best:.3f}", soft_wrap=True, highlight=False)


@app.command()
def evaluate(
    checkpoint: CheckpointOption,
    dataset: DatasetOption,
    root: RootOption,
    out: Annotated[Path, typer.Option("--out", help="The result file (JSON).")],
    cache: Annotated[Path, typer.Option("--cache", help="Features.")] = Path("cache"),
    imagebind: ImagebindOption = None,
) -> None:
    """Score a model on unseen annotators and songs (PDMER, cross-song), beside the floors, with intervals."""
    from dsaml.workflow import evaluate as run_evaluate
    from dsaml.workflow import table

    console.print(table(run_evaluate(checkpoint, dataset.value, root, out, cache, imagebind)))
    console.print(str(out), soft_wrap=True, highlight=False)


@app.command()
def predict(
    song: Annotated[Path, typer.Argument(help="MP3, WAV, FLAC or OGG.")],
    checkpoint: CheckpointOption,
    out: Annotated[Path, typer.Option("--out", help="CSV: time_s (s), arousal, valence, every 0.5 s.")],
    start: Annotated[float, typer.Option("--start", help="First predicted second.")] = 0.0,
    imagebind: ImagebindOption = None,
) -> None:
    """Predict the arousal and valence of a song at 2 Hz."""
    from dsaml.personal import predict_file, write_curve
    from dsaml.workflow import encoder_factory

    curve = predict_file(song, checkpoint, encoder_factory(imagebind), start)
    write_curve(out, curve)
    console.print(f"{out}: {len(curve)} steps", soft_wrap=True, highlight=False)


@app.command()
def personalize(
    song: Annotated[Path, typer.Option("--song", help="The song that the person annotated.")],
    curve: Annotated[Path, typer.Option("--curve", help="CSV: time_s (s), arousal, valence in [-1, 1]; any rate.")],
    checkpoint: CheckpointOption,
    out: Annotated[Path, typer.Option("--out", help="The personal model (.safetensors).")],
    imagebind: ImagebindOption = None,
) -> None:
    """Make a model one's own from one annotated song; then use it with predict."""
    from dsaml.personal import personalize_file
    from dsaml.workflow import encoder_factory

    done = personalize_file(song, curve, checkpoint, out, encoder_factory(imagebind))
    text = f"{out}: {done['steps']} steps; RMSE on this song {done['before']:.3f} before, {done['after']:.3f} after"
    console.print(text, soft_wrap=True, highlight=False)


@app.command()
def reproduce(
    profile: ProfileOption = "demo",
    seeds: Annotated[int, typer.Option("--seeds", help="Training seeds 0, 1, …; about 6 minutes each on 2 cores.")] = 3,
    results: Annotated[Path, typer.Option("--results", help="Folder of the result files.")] = Path("results/demo"),
    cache: Annotated[Path, typer.Option("--cache", help="Corpus, features, checkpoints.")] = Path("cache"),
) -> None:
    """Compute every result of the book on the embedded corpus, with several seeds; then: book --no-compute."""
    from dsaml.config import get_profile
    from dsaml.reproduce import demo_results
    from dsaml.results import read_result
    from dsaml.workflow import table

    demo_results(get_profile(profile), results, cache, tuple(range(seeds)))
    console.print(table(read_result(results / "pdmer.json")))


class Variant(str, Enum):
    """The paper's model, or that of the released code."""

    paper = "paper"
    released = "released"


@app.command()
def parameters(
    profile: ProfileOption = "paper",
    variant: Annotated[
        Variant, typer.Option("--variant", help="released: linear layer after fusion, relative positions.")
    ] = Variant.paper,
) -> None:
    """Count the model's trainable parameters by part of Figure 2."""
    from dsaml import config
    from dsaml.model import DSAML, parameter_table

    settings = config.get_profile(profile).model
    model = DSAML(config.released(settings) if variant is Variant.released else settings)
    for part, count in parameter_table(model).items():
        typer.echo(f"{part:12}{count:>14,}")


study_app = typer.Typer(
    no_args_is_help=True, help="The subjective study: answer sheets, statistics of rankings, rehearsal."
)
app.add_typer(study_app, name="study")
RankingsArgument = Annotated[
    Path, typer.Argument(help="CSV: participant_id, song_id, dimension, method, rank (1 = best).")
]


@study_app.command("template")
def study_template(out: Annotated[Path, typer.Argument(help="The CSV to write.")]) -> None:
    """Write an example answer sheet."""
    from dsaml.study import write_template

    console.print(str(write_template(out)), soft_wrap=True, highlight=False)


@study_app.command("simulate")
def study_simulate(
    curves: Annotated[Path, typer.Option("--curves", help="study_curves.json, as make book computes it.")],
    out: Annotated[Path, typer.Option("--out", help="CSV of SIMULATED answers.")],
    noise: Annotated[
        float, typer.Option("--noise", help="SD of the judged distance, on the labels' scale.", min=0.0)
    ] = 0.1,
    seed: Annotated[int, typer.Option("--seed", help="Of the noise.")] = 0,
) -> None:
    """Simulate answers: every simulated listener ranks the curves by the distance to their own true curve."""
    from dsaml import study

    table = study.simulate(study.read_curves(curves), noise, seed)
    study.write_rankings(out, table)
    console.print(
        f"{out}: SIMULATED answers of {table.participant_id.nunique()} participants", soft_wrap=True, highlight=False
    )


@study_app.command("analyse")
def study_analyse(
    rankings: RankingsArgument,
    out: Annotated[Path | None, typer.Option("--json", help="Also write every statistic to this file.")] = None,
) -> None:
    """Mean ranks with intervals, Friedman, paired t-tests with stars, Wilcoxon-Holm, effect sizes."""
    from dsaml import study

    analysis = study.analyse(study.read_rankings(rankings))
    if out:
        out.write_text(json.dumps(analysis, indent=1), encoding="utf-8")
    for table in study.tables(analysis):
        console.print(table)


@study_app.command("power")
def study_power(
    difference: Annotated[float, typer.Option("--difference", help="Mean-rank difference to find.")],
    spread: Annotated[float, typer.Option("--spread", help="SD of that difference over participants.", min=1e-6)],
    participants: Annotated[int, typer.Option("--participants", help="How many take part.", min=3)] = 22,
) -> None:
    """Power of the paired t-test, and the smallest difference found in four of five studies."""
    from dsaml import study

    power = study.power_curve(difference, spread, [participants])[participants]
    smallest = study.detectable_difference(spread, participants)
    typer.echo(
        f"{participants} participants: power {power:.2f}; smallest difference found with power 0.8: {smallest:.2f} ranks"
    )


def main() -> None:
    """Run the command line; a user's mistake becomes one sentence and exit code 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except DsamlError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("stopped; what was finished is kept, and the same command goes on from there", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
