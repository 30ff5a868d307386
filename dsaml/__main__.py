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
    """Download and unpack a data set (DEAM: about 1.5 GB); run it again to continue a broken download."""
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


def main() -> None:
    """Run the command line; a user's mistake becomes one sentence and exit code 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except DsamlError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
