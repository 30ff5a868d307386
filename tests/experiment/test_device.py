"""From audio to result files with the model on another device: nothing is left behind, and the numbers are those of the CPU."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from second_device import DEVICE, second_device

from dsaml.audio.features import Features
from dsaml.audio.recording import load_waveform
from dsaml.audio.slices import cut_slices
from dsaml.baselines import WAVEFORM_RATE
from dsaml.config import DEMO, DIMENSIONS, METRICS, AudioConfig
from dsaml.data import deam
from dsaml.data.synthetic import corpus as synthetic
from dsaml.errors import DsamlError
from dsaml.evaluate import protocols
from dsaml.experiment import reproduce, scoring, tables, workflow
from dsaml.experiment.prepare import Source, prepare
from dsaml.experiment.recipes import DMER_MODEL, MAML_ANNOTATOR, NO_ATTENTION_LOSS, NON_META
from dsaml.experiment.results import read_result
from dsaml.experiment.run import Experiment
from dsaml.model.layers import BiGRU, BiLSTM
from dsaml.runtime.devices import choose_device, describe

SMALL = synthetic.CorpusConfig(
    train_songs=4, validation_songs=2, test_songs=2, long_songs=1, train_listeners=3, validation_listeners=2,
    test_listeners=2, ratings_per_song=3,
)  # fmt: skip
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU that torch can use")
DEVICES = [DEVICE, pytest.param("cuda", marks=needs_gpu)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.synthesize(tmp_path_factory.mktemp("corpus") / "corpus", SMALL, workers=1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few songs for each listener, few models, two inner loops to choose from, everything in this process."""
    for part, count in {"train": 3, "test": 2}.items():
        monkeypatch.setitem(deam.MIN_SONGS, part, count)
    monkeypatch.setattr(protocols, "INNER_LRS", (0.05,))
    monkeypatch.setattr(protocols, "INNER_STEPS", (0, 2))
    monkeypatch.setattr(scoring, "SUPPORTS", (1, 2))
    jobs = [("dmer", DMER_MODEL), ("dmer", NO_ATTENTION_LOSS), ("pdmer", MAML_ANNOTATOR), ("pdmer", NON_META)]
    monkeypatch.setitem(tables.JOBS, "table4", jobs)
    monkeypatch.setitem(tables.JOBS, "table1", jobs[:1])
    monkeypatch.setattr(Experiment, "workers", 1)


def profile(adapt: str = "all"):
    model = dataclasses.replace(
        DEMO.model, dim=8, heads=2, layers=1, feed_forward=8, positions="relative-key", max_positions=60,
        dropout=0.0,  # every device draws its own
    )
    plain = dataclasses.replace(DEMO.supervised, steps=2, batch_size=2)
    meta = dataclasses.replace(
        DEMO.meta, steps=2, tasks_per_step=2, tasks_at_once=1, query_songs=2, inner_steps=2, adapt=adapt, train_adapter=True
    )
    return dataclasses.replace(DEMO, model=model, warm_start=plain, supervised=plain, meta=meta, validate_every=2)


@contextmanager
def on(device: str) -> Iterator[str]:
    with second_device() if device == DEVICE else nullcontext():
        yield device


def close(one: dict, other: dict, device: str) -> None:
    """Rows of scores that agree: a GPU's kernels round in other ways, and Adam's first steps follow a gradient's sign."""
    assert set(one) == set(other) and one
    tolerance = 2e-3 if device == DEVICE else 2e-2
    for name, row in one.items():
        for d in DIMENSIONS:
            for metric in METRICS:
                assert row[d][metric]["mean"] == pytest.approx(other[name][d][metric]["mean"], abs=tolerance), (name, d, metric)


@pytest.mark.parametrize("device", DEVICES)
def test_a_table_under_both_protocols(device: str, corpus: Path, small: None, tmp_path: Path) -> None:
    found = {}
    for where in ("cpu", device):
        with on(where):
            results = tmp_path / where
            source = Source("synthetic", corpus, tmp_path / "cache", device=where)
            reproduce.reproduce(["table4"], profile(), source, (0,), results)
        found[where] = read_result(results / "tables-synthetic.json")
        assert found[where]["provenance"]["device"] == describe(where)
    for block in ("table1", "table4", "table4-prefix"):
        close(*(found[where]["blocks"][block]["rows"] for where in ("cpu", device)), device)


@pytest.mark.parametrize("device", DEVICES)
def test_train_and_evaluate(device: str, corpus: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "check_data", lambda *_: None)  # it asks for a task of the profile, and is tested elsewhere
    rows: dict[tuple[str, str], dict] = {}
    for where in ("cpu", device):
        with on(where):
            model = tmp_path / where / "model.safetensors"
            source = Source("synthetic", corpus, tmp_path / "cache", device=where)
            workflow.train(profile("no-adapter"), source, model, "pdmer", 0)
            for protocol in ("cross-song", "prefix", "dmer"):
                out = tmp_path / where / f"{protocol}.json"
                workflow.evaluate(model, source, out, protocol, protocol != "cross-song")
                rows[where, protocol] = read_result(out)["rows"]
                assert read_result(out)["provenance"]["device"] == describe(where)
    for protocol in ("cross-song", "prefix", "dmer"):
        close(rows["cpu", protocol], rows[device, protocol], device)


def test_raw_audio_begins_where_the_labels_do(corpus: Path, tmp_path: Path) -> None:
    """Models that hear raw audio hear the slices of the labels, wherever a data set's labels begin."""
    heard = {}
    for start in (15.0, 0.0):
        plain = prepare(DEMO, Source("synthetic", corpus, tmp_path / "cache"))
        moved = dataclasses.replace(DEMO, audio=dataclasses.replace(DEMO.audio, label_start=start))
        experiment = dataclasses.replace(plain, profile=moved, checkpoints=tmp_path / str(start))
        song, features = next(iter(experiment.inputs("DNN").items()))
        heard[start] = features.log_mel
    waveform = load_waveform(plain.dataset.songs[song].audio, WAVEFORM_RATE)
    for start, slices in heard.items():
        audio = AudioConfig(sample_rate=WAVEFORM_RATE, label_start=start)
        assert torch.equal(slices, cut_slices(waveform, len(slices), audio).half())
    assert not torch.equal(*heard.values())


def test_what_is_left_behind_is_noticed(corpus: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: whole songs that stay on the CPU stop the protocols."""
    monkeypatch.setattr(Features, "to", lambda self, device: self)
    with second_device() as device, pytest.raises(RuntimeError, match="on the CPU"):
        source = Source("synthetic", corpus, tmp_path / "cache", device=device)
        reproduce.reproduce(["table1"], profile(), source, (0,), tmp_path / "results")


def test_the_second_device_computes_and_refuses_to_mix() -> None:
    with second_device() as device:
        there = torch.arange(6.0).view(2, 3).to(device).requires_grad_()
        loss = (there @ there.mT).square().sum()
        loss.backward()
        assert str(there.device).startswith(device) and str(there.grad.device).startswith(device)
        here = torch.arange(6.0).view(2, 3).requires_grad_()
        (here @ here.mT).square().sum().backward()
        assert torch.equal(there.grad.cpu(), here.grad) and isinstance(loss.item(), float)
        with pytest.raises(RuntimeError, match="on the CPU"):
            there + torch.ones(2, 3)


@pytest.mark.parametrize("layer", [BiLSTM, BiGRU])
def test_its_recurrent_layers_are_the_cpus_and_want_to_know_of_a_gradient(layer: type, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    here, x = layer(4, 3), torch.randn(2, 5, 4)
    (expected := here(x)).square().sum().backward()
    gradients = [p.grad for p in here.parameters()]
    with second_device() as device:
        there = copy.deepcopy(here).to(device)
        there.zero_grad()
        (out := there(x.to(device))).square().sum().backward()
        assert torch.equal(out.cpu(), expected)
        assert all(torch.equal(p.grad.cpu(), g) for p, g in zip(there.parameters(), gradients, strict=True))
        monkeypatch.setattr(torch, "is_grad_enabled", lambda: False)  # as if the layer asked for its mode instead
        with pytest.raises(RuntimeError, match="training mode"):
            there(x.to(device)).square().sum().backward()


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == describe("cpu") == "cpu"
    with pytest.raises(DsamlError, match="device 'cuda' is not there"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    assert choose_device("auto") == "cuda" and describe("cuda:1") == "cuda:1 (a GPU)"
