"""Result files: stamps, atomic writing, refusals."""

import dataclasses
import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsaml.config import DEMO, ENCODERS, PAPER, PROFILES, adjusted, get_profile, released
from dsaml.errors import DsamlError
from dsaml.experiment.recipes import ANNOTATOR_LABELS_LONG, NON_META_LONG, recipes
from dsaml.experiment.reproduce import results_folder
from dsaml.experiment.results import provenance, read_result, stamp_line, write_result
from dsaml.io import write_bytes_atomically


def _stamp(real: bool) -> dict:
    return provenance(DEMO, None, seeds=[0, 1], seconds=1.23, real=real)


def test_a_result_carries_its_stamp_and_plain_json(tmp_path):
    payload = {"array": np.arange(3.0), "scalar": np.float32(0.5), "nan": float("nan"), "nested": {1: (np.int64(2),)}}
    document = read_result(write_result(tmp_path / "deep" / "r.json", payload, _stamp(False)))
    assert document["array"] == [0, 1, 2] and document["scalar"] == 0.5 and document["nan"] is None
    assert document["nested"] == {"1": [2]}
    stamp = document["provenance"]
    assert stamp["configuration"] == DEMO.digest() and stamp["seeds"] == [0, 1] and stamp["packages"]["torch"]


def test_synthetic_is_never_called_real():
    assert stamp_line({"provenance": _stamp(False)}).startswith("SYNTHETIC")
    assert stamp_line({"provenance": _stamp(True)}).startswith("REAL")


def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    write_bytes_atomically(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(DsamlError, match=r"r\.json: cannot be written \(disk full\); what was there before is kept"):
        write_bytes_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_the_mode_of_a_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_bytes_atomically(tmp_path / "new", b"text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode


def test_a_replaced_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path):
    path, link, dangling = tmp_path / "deep" / "r.json", tmp_path / "link", tmp_path / "dangling"
    write_bytes_atomically(path, b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    dangling.symlink_to(tmp_path / "later" / "file")
    write_bytes_atomically(link, b"new")
    write_bytes_atomically(dangling, b"first")
    assert path.read_bytes() == b"new" and link.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (tmp_path / "later" / "file").read_bytes() == b"first" and dangling.is_symlink()


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device", "loop"])
def test_what_is_no_file_is_never_replaced(kind, tmp_path):
    path = tmp_path / "out"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    else:
        path.symlink_to(os.devnull if kind == "device" else path)
    before = path.lstat()
    with pytest.raises(DsamlError, match=r"out: (is a (folder|device)|cannot be written \(.*\)).*choose another name"):
        write_bytes_atomically(path, b"text")
    assert path.lstat() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content, words",
    [(None, "no such result"), ("{", "not a result file"), ("{}", "no provenance"), ("[1]", "not a result file")],
)
def test_bad_result_files_get_one_sentence(tmp_path, content, words):
    if content is not None:
        (tmp_path / "r.json").write_text(content)
    with pytest.raises(DsamlError, match=words):
        read_result(tmp_path / "r.json")


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return 2 * value + (not value)
    return f"{value}x" if isinstance(value, str) else (*value, *value[:1])


def variants(settings: Any) -> Iterator[tuple[str, Any]]:
    """The settings with each single field changed, however deep, and the field's name."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        inside = variants(value) if dataclasses.is_dataclass(value) else [("", other(value))]
        for name, changed in inside:
            yield f"{field.name}.{name}", dataclasses.replace(settings, **{field.name: changed})
@pytest.mark.parametrize(
    "old, new",
    [(b"0.5", b"0.6"), (b'"real": false', b'"real": true'), (b'"sha256"', b'"sha255"'), (b'"scalar"', b'"scalaR"')],
)
def test_an_edited_result_is_refused(tmp_path, old, new):
    path = write_result(tmp_path / "r.json", {"scalar": 0.5}, _stamp(False))
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(DsamlError, match=r"r\.json: its checksum does not fit.*compute it again"):
        read_result(path)
    path.write_text(json.dumps(json.loads(content), sort_keys=True))  # spaces and order say nothing
    assert read_result(path)["scalar"] == 0.5


def test_the_digest_follows_every_setting():
    changed = {name: profile.digest() for name, profile in variants(DEMO)}
    assert {"model.dim.", "meta.inner_lr.", "audio.pool.", "seeds.", "warm_start.steps."} <= set(changed)
    assert len({DEMO.digest(), *changed.values()}) == 1 + len(changed)
    assert dataclasses.replace(DEMO).digest() == DEMO.digest()
    with pytest.raises(DsamlError, match="choose one of: demo, paper"):
        get_profile("big")


@pytest.mark.parametrize("base", PROFILES.values(), ids=lambda profile: profile.name)
def test_what_is_changed_stands_in_a_profiles_name_and_is_found_by_it(base):
    changes = [(e, v, n) for e in (None, *ENCODERS) for v in ("paper", "released") for n in (None, 3)]
    found = {change: adjusted(base, *change) for change in changes}
    for (encoder, variant, steps), profile in found.items():
        assert get_profile(profile.name) == profile
        assert profile.encoder == (encoder or base.encoder)
        assert profile.model == (released(base.model) if variant == "released" else base.model)
        long = (NON_META_LONG, ANNOTATOR_LABELS_LONG)  # as many passes as MAML, in larger steps
        trained = {recipe.training.steps for name, recipe in recipes(profile).items() if name not in long}
        assert steps is None or trained == {steps}
    assert adjusted(base) == base and adjusted(base, base.encoder) == base
    assert len({profile.digest() for profile in found.values()}) == len({profile.name for profile in found.values()}) == 12
    assert adjusted(base, "imagebind-44k", "released", 3).name == f"{base.name}-imagebind-44k-released-3-steps"
    wide = adjusted(base, "mel", "released", 3, (1, 2), "step")
    assert get_profile(wide.name) == wide and wide.embeddings == "step" and wide.digest() != base.digest()
    for name in ("-mel", "paper-", "paper-ear", "paper-0-steps", "paper-3-steps-mel", "paper-steps", "paper-by-length-embeddings"):
        with pytest.raises(DsamlError, match="does not exist"):
            get_profile(name)


def test_no_run_writes_into_the_folder_of_another():
    mel, mine = adjusted(PAPER, "mel"), Path("mine")
    places = [(DEMO, "synthetic"), (mel, "synthetic"), (PAPER, "deam", mine), (DEMO, "synthetic", mine), (DEMO, "stress")]
    folders = [results_folder(*place).as_posix() for place in places]
    assert folders == [f"results/{name}" for name in ("demo", "paper-mel", "paper-deam", "demo-synthetic", "demo-stress")]
