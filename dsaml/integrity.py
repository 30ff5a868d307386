"""Digests: a file that the package wrote carries the SHA-256 of what it holds, and a damaged one is never used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

KEY = "sha256"
_SEAL = b"dsaml sha256 "  # of a sealed file's first line
DAMAGED = "its checksum does not fit: it is damaged, or was not written by this version"


def document_digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON document, whatever its spacing and the order of its keys."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def tensors_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of names, types, shapes and bytes of tensors, and of the metadata."""
    total = hashlib.sha256(document_digest(metadata).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def pack_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with its digest in the header."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(tensors, {**metadata, KEY: tensors_digest(tensors, metadata)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file from :func:`pack_tensors`.

    Raises
    ------
    FileNotFoundError
        If it is missing.
    ValueError
        If it is damaged, or is no such file.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = dict(stored.metadata() or {})
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError) as error:
        raise ValueError(str(error)) from error
    if metadata.pop(KEY, None) != tensors_digest(tensors, metadata):
        raise ValueError(DAMAGED)
    return tensors, metadata


def seal(content: bytes) -> bytes:
    """Content of any kind under a first line with its digest."""
    return _SEAL + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def unseal(sealed: bytes) -> bytes:
    """The content of :func:`seal`.

    Raises
    ------
    ValueError
        If it is damaged, or was never sealed.
    """
    line, _, content = sealed.partition(b"\n")
    if line != _SEAL + hashlib.sha256(content).hexdigest().encode():
        raise ValueError(DAMAGED)
    return content
