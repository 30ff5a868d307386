"""What the commands share: the console for tables, names that can be chosen, and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from dsaml.config import LARGEST_SEED

console = Console(markup=False, highlight=False)  # names of files are no markup

DatasetName = Literal["deam", "pmemo", "vgmidi", "vgmidi-2", "folder", "synthetic", "stress"]  # dsaml.data.base.LOADERS
EncoderName = Literal["mel", "imagebind"]
Mode = Literal["dmer", "pdmer"]  # averaged labels, or annotator tasks

SEEDS: dict[str, Any] = {"min": 0, "max": LARGEST_SEED}
DatasetOption = Annotated[DatasetName, typer.Option("--dataset", help="Which data set lies under --root.")]
RootOption = Annotated[Path, typer.Option("--root", help="The data set's own folder.")]
ProfileOption = Annotated[str, typer.Option("--profile", help="Sizes and settings: demo (minutes) or paper.")]
CacheOption = Annotated[Path, typer.Option("--cache", help="Features and checkpoints.")]
DEMO_MODEL = Path("models/demo.safetensors")  # dsaml.listen.personal.DEMO_MODEL, without waiting for torch
CheckpointOption = Annotated[
    Path, typer.Option("--checkpoint", help="A model (.safetensors) that train or personalize wrote.")
]
ImagebindOption = Annotated[
    Path | None, typer.Option("--imagebind", help="ImageBind weights, where the model needs them.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace an existing file that is not what this command writes; never an input.")
]
AcceptOption = Annotated[
    list[str] | None,
    typer.Option("--accept", help="Train in spite of one kind of error; check names it in [ ]. Can be repeated."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
SaveOption = Annotated[Path | None, typer.Option("--save", help="Also merge the numbers into this JSON file.")]
