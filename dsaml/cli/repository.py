"""Commands of the companion's repository: book, contract, bench. What they run is not installed with the package."""

from __future__ import annotations

import json
import logging
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import typer

from dsaml.cli.common import DeviceOption, JsonOption, ProfileOption
from dsaml.cli.outputs import check_folder, check_output, holds_json, holds_model
from dsaml.errors import DsamlError
from dsaml.listen import DEMO_MODEL

app = typer.Typer()


def in_repository(module: str) -> ModuleType:
    """A module of ``book.builder`` or ``benchmarks``, which the package does not bring along; says where it is to be found."""
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
    only: Annotated[str | None, typer.Option(help="Execute one notebook alone: 04.")] = None,
    compute: Annotated[bool, typer.Option(help="Off: draw again from the results that are already there.")] = True,
    device: DeviceOption = "cpu",
) -> None:
    """Compute the results, execute the notebooks, build the book into _build/html; skips what is unchanged.

    Leaves a model for your own music in models/demo.safetensors: see predict and personalize.
    """
    from dsaml.runtime.devices import choose_device

    build = in_repository("book.builder.build").build
    for folder in ("_build", "cache", "results"):
        check_folder(Path(folder))
    check_output(DEMO_MODEL, holds_model)
    page = build(profile, only, compute=compute, device=choose_device(device))
    if page:
        typer.echo(page)


@app.command()
def contract(
    notebooks: Annotated[list[Path] | None, typer.Argument(help="Notebooks; all in the folder notebooks by default.")] = None,
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
    recipe: Annotated[
        Literal["released"] | None, typer.Option(help="The released recipe alone, ours against the authors' layers; 5 minutes.")
    ] = None,
    scale: Annotated[bool, typer.Option("--scale", help="How time and memory grow, instead.")] = False,
    inputs: Annotated[Path | None, typer.Option(help="How fast the songs of this folder become features, instead.")] = None,
    quality: Annotated[
        bool, typer.Option("--quality", help="What adapting the head alone loses at D = 1024, instead; about 11 minutes.")
    ] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="The paper's size on a GPU, up to all of its 2000 steps, instead.")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="With --gpu: of each short training, and none of 2000.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="With --inputs: ImageBind's weights, or the word random.")] = None,
    as_json: JsonOption = False,
    out: Annotated[Path, typer.Option(help="Folder of the measurements (JSON).")] = Path("data/bench"),
) -> None:
    """Measure this machine: the released recipe against the authors' layers, then one listener, memory and every model.

    About 10 minutes. The book shows what lies in data/bench.
    """
    from dsaml.io import write_json

    instead = {"inputs": inputs, "quality": quality, "scale": scale, "gpu": gpu, "released": recipe}
    parts = next(([name] for name, wanted in instead.items() if wanted), ["released", "engine"])
    arguments = {"inputs": (inputs, checkpoint), "quality": (Path("cache"),), "gpu": (Path("cache"), steps)}
    for part in parts:
        check_output(out / f"{part}.json", holds_json("machine"))
    everything: dict[str, Any] = {}
    for part in parts:
        measured = in_repository(f"benchmarks.{part}").measure(*arguments.get(part, ()), progress=logging.info)
        write_json(out / f"{part}.json", measured)
        everything |= measured
        tables = in_repository("book.builder.speed_page").TABLES.values()
        shown = [make(measured) for source, make in tables if source == part]
        if shown and not as_json:
            typer.echo("\n\n".join(shown) + "\n")
    if as_json or not shown:
        typer.echo(json.dumps(everything, indent=1))
