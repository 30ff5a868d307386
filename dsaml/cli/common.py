"""What the commands share: the console for tables, names that can be chosen, and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from dsaml import config
from dsaml.cli.outputs import check_folder
from dsaml.config import LARGEST_SEED, Profile

if TYPE_CHECKING:  # torch is not loaded for options alone
    from dsaml.experiment.prepare import Source

console = Console(markup=False, highlight=False)  # names of files are no markup

DatasetName = Literal[
    "deam", "pmemo", "vgmidi", "vgmidi-2", "merp", "merp-filtered", "live-piano", "folder", "synthetic", "stress"
]  # dsaml.data.base.LOADERS
EncoderName = Literal["mel", "imagebind", "imagebind-44k"]  # dsaml.config.ENCODERS
Mode = Literal["dmer", "pdmer"]  # averaged labels, or annotator tasks

SEEDS: dict[str, Any] = {"min": 0, "max": LARGEST_SEED}
DatasetOption = Annotated[DatasetName, typer.Option(help="Which data set lies under --root.")]
RootOption = Annotated[Path, typer.Option(help="The data set's own folder.")]
OwnRootOption = Annotated[Path | None, typer.Option(help="The data set's own folder; an embedded corpus needs none.")]
ResultsOption = Annotated[Path | None, typer.Option(help="Folder of the result file; results/PROFILE by default.")]
ProfileOption = Annotated[
    str,
    typer.Option(
        "--profile",
        help="Sizes and settings: demo (minutes) or paper; -song-embeddings or -step-embeddings behind it: what has a global one.",
    ),
]
EncoderOption = Annotated[
    EncoderName | None, typer.Option(help="Not the profile's; mel needs no download, -44k feeds ImageBind as the released code.")
]
VariantOption = Annotated[
    Literal["paper", "released"],
    typer.Option(help="released: the authors' code; a linear layer after fusion, other attention targets."),
]
StepsOption = Annotated[int | None, typer.Option(help="Outer steps of every training, not the profile's; a few try it out.", min=1)]
SupportSongsOption = Annotated[int | None, typer.Option(help="Of a task in meta-training; by default the profile's.", min=1)]
QuerySongsOption = Annotated[
    int | None, typer.Option(help="Of a task; by default the profile's, or as many as every annotator has.", min=1)
]
DeviceOption = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, mps; auto: cuda where there is a GPU, else cpu.")]
SchedulerOption = Annotated[str | None, typer.Option(help="Dask scheduler instead of this machine alone: tcp://host:8786.")]
CacheOption = Annotated[Path, typer.Option(help="Features and checkpoints.")]
CheckpointOption = Annotated[Path, typer.Option(help="A model (.safetensors) that train or personalize wrote.")]
ImagebindOption = Annotated[Path | None, typer.Option(help="ImageBind weights, where the model needs them.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace an existing file that is not what this command writes; never an input.")
]
AcceptOption = Annotated[
    list[str] | None, typer.Option(help="Train in spite of one kind of error; check names it in [ ]. Can be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
SaveOption = Annotated[Path | None, typer.Option(help="Also merge the numbers into this JSON file.")]


def chosen_profile(name: str, encoder: str | None, variant: str = "paper", steps: int | None = None) -> Profile:
    """A profile by name, with what the other options change."""
    return config.adjusted(config.get_profile(name), encoder, variant, steps)


def source_of(
    dataset: str,
    root: Path | None,
    cache: Path,
    imagebind: Path | None = None,
    accept: list[str] | None = None,
    device: str = "cpu",
) -> Source:
    """Which data a command is about, and where it works; refuses a cache that cannot be written, or a device that is missing."""
    from dsaml.experiment.prepare import Source
    from dsaml.runtime.devices import choose_device

    check_folder(cache)
    return Source(dataset, root, cache, imagebind, tuple(accept or ()), choose_device(device))
