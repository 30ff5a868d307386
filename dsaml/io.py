"""Files: written whole or not at all, each with the SHA-256 of what it holds, so that a damaged one is never used."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import secrets
import stat
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dsaml.errors import DsamlError, check_replaceable, require_file

KEY = "sha256"
_SEAL = b"dsaml sha256 "  # of a sealed file's first line
SHOWN = 20  # weights named in one message
DAMAGED = "its checksum does not fit: it is damaged, or was not written by this version"


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write through a temporary file in the same folder, then rename: a reader never sees half a file.

    A new file gets the mode that the umask asks for, a replaced one keeps its own.

    Raises
    ------
    DsamlError
        See :func:`dsaml.errors.check_replaceable`; or if the disk is full, or the folder cannot be written. What was there
        before is then still there.
    """
    target = check_replaceable(path)
    name = os.fsdecode(os.fsencode(target.name)[:200])  # a name has at most 255 bytes
    temporary = target.with_name(f".{name}.{secrets.token_hex(8)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(handle, "wb") as stream:
                if target.exists():
                    os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DsamlError(
            f"{path}: cannot be written ({error.strerror or error}); what was there before is kept; make room or choose "
            "another folder, and run the same command again"
        ) from error


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document, as :func:`write_bytes_atomically` does."""
    write_bytes_atomically(path, (json.dumps(document, indent=1) + "\n").encode())


def read_json(path: Path, what: str, advice: str) -> dict[str, Any]:
    """The object in a JSON file; ``what`` and ``advice`` as in :func:`dsaml.errors.require_file`.

    Raises
    ------
    DsamlError
        If it is missing, no plain file, or holds anything else.
    """
    require_file(path, what, advice)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError(f"a {type(document).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise DsamlError(f"{path}: not a {what}, for it is no JSON object ({error}); {advice}") from error
    return document


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


def read_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, its digest among them, unchecked; empty where there is no such file (a pipe is none)."""
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as stored:
            return dict(stored.metadata() or {})
    except (SafetensorError, OSError):
        return {}


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


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; what was there before stays until all is written."""
    buffer = BytesIO()
    torch.save(state, buffer)
    write_bytes_atomically(path, seal(buffer.getvalue()))


def read_weights(path: Path, advice: str) -> dict[str, Tensor]:
    """A table of weights that somebody's ``torch.save`` wrote; nothing in it is executed.

    Raises
    ------
    DsamlError
        If it is damaged, would run code, or holds anything else; ``advice`` says what to do.
    """
    with path.open("rb") as stream:
        start = stream.read(2)
    archive = start == b"PK"
    if not archive and start[:1] != pickle.PROTO:  # the two formats that torch.save has had
        raise DsamlError(f"{path}: not a PyTorch checkpoint; {advice}")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:  # it names a function or class that is no part of a tensor
        raise DsamlError(f"{path}: refused, because loading it would run code; do not use it, {advice}") from error
    except Exception as error:  # torch.load fails in many ways on damaged files
        raise DsamlError(f"{path}: damaged or cut off ({type(error).__name__}); {advice}") from error
    if not isinstance(stored, Mapping) or not stored or not all(isinstance(value, Tensor) for value in stored.values()):
        raise DsamlError(f"{path}: holds no table of weights; {advice}")
    return {str(name): value for name, value in stored.items()}


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """``load_state_dict`` with one sentence that counts missing, unknown and mis-shaped weights and lists the first.

    On the device "meta" they are only compared.

    Raises
    ------
    DsamlError
        If anything does not fit; the model is then unchanged.
    """
    own = model.state_dict()
    problems = [f"missing {name}" for name in own if name not in weights]
    problems += [f"unknown {name}" for name in weights if name not in own]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, want {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DsamlError(f"{source}: does not fit this model: {'; '.join(problems[:SHOWN])}{more}")
    if next(model.parameters()).device.type != "meta":
        model.load_state_dict(dict(weights))


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint.

    Raises
    ------
    DsamlError
        If the file is missing, damaged, or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise DsamlError(f"{path}: no such checkpoint; train first or correct the path")
    try:
        content = unseal(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DsamlError(f"{path}: cannot be used ({error}); delete this checkpoint to train again") from error
    try:
        state = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise DsamlError(
            f"{path}: not a checkpoint that can be read safely ({type(error).__name__}); delete it to train again"
        ) from error
    if not isinstance(state, dict) or "model" not in state:
        raise DsamlError(f"{path}: holds no model; was it written by 'python -m dsaml train'?")
    return state
