"""Which frozen global encoder a profile names: audio windows in, one vector per window out."""

from __future__ import annotations

from pathlib import Path

from dsaml.audio.encoder_windows import GlobalEncoder
from dsaml.audio.imagebind import DIM, ImageBindEncoder
from dsaml.audio.mel_encoder import MelEncoder
from dsaml.config import ENCODERS, Profile
from dsaml.errors import DsamlError


def make_encoder(profile: Profile, imagebind: Path | None = None, *, device: str = "cpu") -> GlobalEncoder:
    """The global encoder that a profile names: "mel", made as wide as the model, "imagebind", or "imagebind-44k".

    Parameters
    ----------
    imagebind : Path, optional
        ImageBind's weights, see :class:`dsaml.audio.imagebind.ImageBindEncoder`.
    device : str
        Where ImageBind runs.

    Raises
    ------
    DsamlError
        If the name is unknown, or ImageBind is wanted and is not installed, has no weights here or does not fit the model.
    """
    if profile.encoder == "mel":
        return MelEncoder(profile.model.dim, profile.audio)
    if profile.encoder not in ENCODERS:
        raise DsamlError(f"encoder '{profile.encoder}' does not exist; choose one of: {', '.join(ENCODERS)}")
    if profile.model.dim != DIM:
        raise DsamlError(
            f"ImageBind gives {DIM} numbers, profile '{profile.name}' has a model of width {profile.model.dim}; "
            "use --profile paper, or the mel encoder"
        )
    return ImageBindEncoder(imagebind, device, released_rate=profile.encoder == "imagebind-44k")
