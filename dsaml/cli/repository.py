"""Commands of the companion's repository: book, contract, bench. What they run is not installed with the package."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from dsaml.cli.common import DeviceOption, ProfileOption
from dsaml.cli.outputs import check_folder, check_output, holds_json
from dsaml.errors import DsamlError

app = typer.Typer()


def in_repository(module: str) -> ModuleType:
    """A module of the repository that the package does not bring along: of ``book.builder``, or of ``benchmarks``.

    Raises
    ------
    DsamlError
        Outside of the repository's folder, or if something that the module imports is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise DsamlError(
            f"{error.name}: not found; this command belongs to the companion's repository, not to the installed package: "
            "run this in the repository's own folder, as 'python -m dsaml', with what its requirements.txt installs"
        ) from error


@app.command()
def book(
    profile: ProfileOption = "demo",
    only: Annotated[str | None, typer.Option("--only", help="Execute one notebook alone: 04.")] = None,
    compute: Annotated[bool, typer.Option(help="Off: draw again from the results that are already there.")] = True,
    device: DeviceOption = "cpu",
) -> None:
    """Compute the results, execute the notebooks, build the book into _build/html; skips what is unchanged."""
    from dsaml.devices import choose_device

    build = in_repository("book.builder.build").build
    for folder in ("_build", "cache", "results"):
        check_folder(Path(folder))
    page = build(profile, only, compute=compute, device=choose_device(device))
    if page:
        typer.echo(page)


@app.command()
def contract(
    notebooks: Annotated[
        list[Path] | None, typer.Argument(help="Notebooks; all in the folder notebooks by default.")
    ] = None,
) -> None:
    """Check that notebooks keep the book's contract: opening, set-up, cells, alt text, exercises, stamp, no outputs."""
    problems = in_repository("book.builder.contract").problems
    paths = notebooks or sorted(Path("notebooks").glob("*.ipynb"))
    if not paths:
        raise DsamlError("notebooks: no notebook there; run this in the repository's own folder, or name the files")
    if found := [text for path in paths for text in problems(path)]:
        typer.echo("\n".join(found))
        raise DsamlError(f"the contract is broken in {len(found)} places; see above")
    typer.echo(f"{len(paths)} notebooks keep the contract")


@app.command()
def bench(
    scale: Annotated[bool, typer.Option("--scale", help="How time and memory grow, instead.")] = False,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help="How fast the songs of this folder become features, instead.")
    ] = None,
    quality: Annotated[
        bool,
        typer.Option("--quality", help="What adapting the head alone loses at D = 1024, instead; about 11 minutes."),
    ] = False,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="With --inputs: ImageBind's weights, or the word random.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the measurements (JSON).")] = Path("data/bench"),
) -> None:
    """Measure this machine: meta-training and one listener's adaptation, at demo and paper size; about 5 minutes.

    The book shows what lies in data/bench.
    """
    from dsaml.io import write_json

    what = "inputs" if inputs else "quality" if quality else "scale" if scale else "engine"
    arguments = {"inputs": (inputs, checkpoint), "quality": (Path("cache"),)}.get(what, ())
    measure = in_repository(f"benchmarks.{what}").measure
    file = out / f"{what}.json"
    check_output(file, holds_json("machine"))
    write_json(file, measure(*arguments, progress=logging.info))
    typer.echo(file.read_text(encoding="utf-8"))
