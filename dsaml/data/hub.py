"""MERP from the Hugging Face hub, through the hub's own client: resumable, no account."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dsaml.errors import DsamlError

REPOSITORY = "amaai-lab/MERP"
PAGE = f"https://huggingface.co/datasets/{REPOSITORY}"
WANTED = ("*.parquet", "*.json", "*.csv", "*.md", "audio/*")
"""Labels, profiles, the card with its licence, and the audio; which tables of profiles there are is not known here."""


def sha256(path: Path) -> str:
    """Checksum of a file, 64 hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch_merp(folder: Path, endpoint: str | None = None) -> list[tuple[Path, str, int]]:
    """Download MERP; files that are there and whole are not asked for again, broken ones are continued.

    Parameters
    ----------
    folder : Path
        ``annotations_raw.parquet``, ``annotations_filtered.parquet`` and ``audio/`` end up in it.
    endpoint : str, optional
        A mirror of the hub.

    Returns
    -------
    list of (table, SHA-256, 1)

    Raises
    ------
    DsamlError
        If the client is not installed, the hub cannot be reached or refuses, or the repository holds no table.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise DsamlError(
            "MERP comes from the Hugging Face hub, whose client is not installed: 'pip install huggingface_hub', or download "
            f"{PAGE} in a browser"
        ) from error
    try:
        snapshot_download(
            REPOSITORY,
            repo_type="dataset",
            local_dir=folder,
            allow_patterns=list(WANTED),
            endpoint=endpoint,
            token=False,  # public: nobody's token is sent
        )
    except Exception as error:  # the client and the libraries below it raise many kinds
        said = (str(error).strip().splitlines() or [""])[0]
        raise DsamlError(
            f"{endpoint or PAGE}: MERP cannot be downloaded ({type(error).__name__}: {said}); run this again to continue, or "
            f"download it in a browser into {folder}"
        ) from error
    tables = sorted(folder.glob("*.parquet"))
    if not tables:
        raise DsamlError(f"{PAGE}: holds no table of labels (.parquet) any more; look there for what has become of it")
    return [(table, sha256(table), 1) for table in tables]
