"""Result files: stamps, atomic writing, refusals."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dsaml.config import DEMO, get_profile
from dsaml.errors import DsamlError
from dsaml.results import provenance, read_result, stamp_line, write_bytes_atomically, write_result


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
    with pytest.raises(OSError, match="disk full"):
        write_bytes_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content, words",
    [(None, "no such result"), ("{", "not a result file"), ("{}", "no provenance"), ("[1]", "no provenance")],
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


def test_the_digest_follows_every_setting():
    changed = {name: profile.digest() for name, profile in variants(DEMO)}
    assert {"model.dim.", "meta.inner_lr.", "audio.pool.", "seeds.", "warm_start.steps."} <= set(changed)
    assert len({DEMO.digest(), *changed.values()}) == 1 + len(changed)
    assert dataclasses.replace(DEMO).digest() == DEMO.digest()
    with pytest.raises(DsamlError, match="choose one of: demo, paper"):
        get_profile("big")
