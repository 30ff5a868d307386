"""What the commands share: the console, the names of data sets, options that many of them take."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dsaml.config import LARGEST_SEED

console = Console(markup=False, highlight=False)  # names of files are no markup


class DatasetName(str, Enum):
    """The data sets that a loader exists for."""

    deam = "deam"
    pmemo = "pmemo"
    folder = "folder"
    synthetic = "synthetic"
    stress = "stress"


class EncoderName(str, Enum):
    """The frozen global encoders."""

    mel = "mel"
    imagebind = "imagebind"


class Mode(str, Enum):
    """Averaged labels, or annotator tasks."""

    dmer = "dmer"
    pdmer = "pdmer"


SEEDS: dict[str, Any] = {"min": 0, "max": LARGEST_SEED}
DatasetOption = Annotated[DatasetName, typer.Option("--dataset", help="Which data set lies under --root.")]
RootOption = Annotated[Path, typer.Option("--root", help="The data set's own folder.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace an existing file that is not what this command writes; never an input.")
]
ProfileOption = Annotated[str, typer.Option("--profile", help="Sizes and settings: demo (minutes) or paper.")]
