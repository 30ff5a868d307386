"""Commands for this machine: book, contract, bench."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from dsaml.cli.common import ProfileOption, console
from dsaml.errors import DsamlError

app = typer.Typer()


@app.command()
def book(
    profile: ProfileOption = "demo",
    only: Annotated[str | None, typer.Option("--only", help="Execute one notebook alone: 04.")] = None,
    compute: Annotated[bool, typer.Option(help="Off: draw again from the results that are already there.")] = True,
) -> None:
    """Compute the results, execute the notebooks, build the book into _build/html; skips what is unchanged."""
    from book.builder.build import build
    from dsaml.cli.outputs import check_folder

    for folder in ("_build", "cache", "results"):
        check_folder(Path(folder))
    page = build(profile, only, compute=compute)
    if page:
        console.print(str(page), soft_wrap=True, highlight=False)


@app.command()
def contract(
    notebooks: Annotated[
        list[Path] | None, typer.Argument(help="Notebooks; all in the folder notebooks by default.")
    ] = None,
) -> None:
    """Check that notebooks keep the book's contract: opening, set-up, cells, alt text, exercises, stamp, no outputs."""
    from book.builder.contract import problems

    paths = notebooks or sorted(Path("notebooks").glob("*.ipynb"))
    if not paths:
        raise DsamlError("notebooks: no notebook there; run this in the repository's own folder, or name the files")
    if found := [text for path in paths for text in problems(path)]:
        typer.echo("\n".join(found))
        raise DsamlError(f"the contract is broken in {len(found)} places; see above")
    console.print(f"{len(paths)} notebooks keep the contract")


@app.command()
def bench(
    scale: Annotated[bool, typer.Option("--scale", help="How time and memory grow, instead.")] = False,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help="How fast the songs of this folder become features, instead.")
    ] = None,
    quality: Annotated[
        bool, typer.Option("--quality", help="What adapting the head alone loses at D = 1024, instead; about 11 minutes.")
    ] = False,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="With --inputs: ImageBind's weights, or the word random.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the measurements (JSON).")] = Path("data/bench"),
) -> None:
    """Measure this machine: meta-training and one listener's adaptation, at demo and paper size; about 5 minutes.

    The book shows what lies in data/bench.
    """
    from benchmarks import engine as bench_engine
    from benchmarks import inputs as bench_inputs
    from benchmarks import quality as bench_quality
    from benchmarks import scale as bench_scale
    from dsaml.cli.outputs import check_output, holds_json
    from dsaml.io import write_bytes_atomically

    name = "inputs" if inputs else "quality" if quality else "scale" if scale else "engine"
    check_output(out / f"{name}.json", holds_json("machine"))
    if inputs:
        document = bench_inputs.measure(inputs, checkpoint, progress=logging.info)
    elif quality:
        document = bench_quality.measure(Path("cache"), progress=logging.info)
    elif scale:
        document = bench_scale.measure(progress=logging.info)
    else:
        document = bench_engine.measure(progress=logging.info)
    text = json.dumps(document, indent=1) + "\n"
    write_bytes_atomically(out / f"{name}.json", text.encode())
    if name == "scale":
        from benchmarks.growth import growth

        growth(document).savefig(out / "scale.svg", metadata={"Date": None})
    typer.echo(text)
