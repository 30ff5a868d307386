"""Measurements: the baseline computes the same, the arithmetic around the clock is right."""

import dataclasses
import json
import os
from types import SimpleNamespace

import pytest
import torch
from conftest import MODEL, make_store

from benchmarks import engine, gpu, quality, released, scale
from benchmarks.common import peak_memory, seconds, take_turns
from book.builder import speed_page as page
from dsaml.config import MetaConfig, ModelConfig
from dsaml.config import released as released_settings
from dsaml.errors import DsamlError
from dsaml.learn.training import cross_song_tasks
from dsaml.model.dsaml import DSAML

SMALL = ModelConfig(dim=16, heads=2, layers=2, feed_forward=16, slice_shape=(13, 16))
RELEASED = released_settings(SMALL)
META = MetaConfig(query_songs=2, inner_steps=2, inner_lr=0.01, tasks_at_once=2)


@pytest.mark.parametrize("training", [True, False])
def test_the_released_layers_compute_what_ours_do(training):
    ours, theirs = released.both_models(dataclasses.replace(RELEASED, dropout=0.0))
    batch = engine.make_batch(RELEASED, 1, 3, steps=20)
    mine, yours = (m.train(training)(batch.x[0], batch.global_embedding[0]) for m in (ours, theirs))
    for name in ("prediction", "attention_local", "attention_global", "context"):
        torch.testing.assert_close(getattr(mine, name), getattr(yours, name), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("inner_mode", ["train", "eval"])
def test_both_sides_of_the_comparison_do_the_same_work(inner_mode):
    assert released.gradient_difference(RELEASED, dataclasses.replace(META, inner_mode=inner_mode)) < 1e-9


def test_the_released_recipe_is_measured_on_both_sides(monkeypatch):
    monkeypatch.setattr(released, "MODELS", {"64": RELEASED})
    monkeypatch.setattr(released, "META", {"64": META})
    monkeypatch.setattr(released, "SONG_SECONDS", 60)
    row = released.one_size("64", 1, lambda what: None)
    assert row["ratio"] == pytest.approx(row["released_seconds"] / row["seconds"])
    assert row["gflop"] > 0 and 0.1 < row["peak_gb"] < 3 and row["released_peak_gb"] > 0.1
    assert all(row[part]["seconds"] > 0 for part in ("stacked", "adaptation"))


def test_every_shortcut_alone_does_less_than_the_recipe(monkeypatch):
    asked = []
    monkeypatch.setattr(engine, "shortcut_seconds", lambda model, meta, rounds: asked.append((model, meta)) or 2.0)
    rows = engine.shortcuts(1, lambda what: None)
    assert len(rows) == len(engine.SHORTCUTS) + 2 and {row["gain"] for row in rows.values()} == {1.0}
    base = asked[0]
    assert all(model != base[0] or meta != base[1] for model, meta in asked[1:])


@pytest.mark.parametrize("name", engine.SHORTCUTS)
def test_a_shortcut_can_be_measured(name):
    of_model, of_meta = engine.SHORTCUTS[name]
    model = dataclasses.replace(SMALL, **{key: value for key, value in of_model.items() if key == "positions"})
    assert engine.shortcut_seconds(model, dataclasses.replace(META, **{"query_songs": 1} | of_meta), 1) > 0


def test_turns_leave_the_first_round_out():
    calls = []
    times = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3 and set(times) == {"a", "b"}
    assert seconds(lambda: None, 1) < 1


def _allocate(megabytes: int) -> int:
    return torch.ones(megabytes * 250_000).numel()


def _environment(name: str) -> str | None:
    return os.environ.get(name)


def test_the_process_gets_its_environment_and_this_one_keeps_its_own():
    assert peak_memory(_environment, "DSAML_TEST", environment={"DSAML_TEST": "there"})[0] == "there"
    assert "DSAML_TEST" not in os.environ


def _fail() -> None:
    raise ValueError("no")


def test_peak_memory_sees_what_was_allocated():
    small, large = (peak_memory(_allocate, size) for size in (1, 400))
    assert (small[0], large[0]) == (250_000, 100_000_000)
    assert 0.3 < large[1] - small[1] < 0.6
    with pytest.raises(ValueError, match="no"):
        peak_memory(_fail)


def test_flops_of_a_known_product():
    model = dataclasses.replace(SMALL, adapter=True)
    twice = dataclasses.replace(META, inner_steps=4)
    one, two = engine.meta_step_flops(model, META), engine.meta_step_flops(model, twice)
    none = engine.meta_step_flops(model, dataclasses.replace(META, inner_steps=0))
    assert two - one == pytest.approx(one - none, rel=0.01)  # every inner step costs the same


def test_exponents():
    assert scale.slope([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    grown = scale.curve([1, 2, 4], lambda n: {"seconds": 5.0 * n})
    assert grown["slopes"]["seconds"] == pytest.approx(1) and grown["seconds"] == [5, 10, 20]


def test_a_service_is_the_measured_figures_times_its_listeners():
    row = {"adapt_seconds": 0.5, "predict_seconds": 0.01, "megabytes": 2.0}
    rows = page.service({size: {"one_listener": {"head": row}} for size in ("demo", "paper")}, 1_000_000)
    assert rows["demo, head"] == {
        "adapt_milliseconds": 500,
        "predict_milliseconds": 10,
        "kilobytes_each": 2000,
        "terabytes": 2,
        "machine_days": 5.8,
    }


def test_the_page_says_what_is_not_measured_and_draws_what_is(tmp_path):
    assert "run `python -m dsaml bench`" in page.text("limits", tmp_path, tmp_path / "figures")
    assert "run `python -m dsaml bench --recipe released`" in page.text("released", tmp_path, tmp_path / "figures")
    assert "run `python -m dsaml bench --scale`" in page.text("growth", tmp_path, tmp_path / "figures")
    curve = {"sizes": [1, 2], "seconds": [1.0, 2.0], "slopes": {"seconds": 1.0}}
    (tmp_path / "scale.json").write_text(json.dumps({"curves": {"songs": curve}}))
    text = page.text("growth", tmp_path, tmp_path / "figures")
    assert "| songs | 1, 2 | 1, 2 | 1.00 |" in text and "figures/growth.svg\n:alt: " in text
    assert "<path" in (tmp_path / "figures/growth.svg").read_text(encoding="utf-8")


def test_a_catalogue_makes_what_is_asked_for_and_keeps_nothing(tmp_path):
    store, sampler = scale.catalogue(5000, 5000, tmp_path)
    tasks = sampler.batch(3, 2)
    assert len({song for task in tasks for song in task.support + task.query}) > 5
    one, again = store.query(tasks), store.query(tasks)
    assert one.x.shape == (2, scale.META.query_songs, 60, *scale.DEMO.model.slice_shape)
    assert torch.equal(one.target, again.target) and one.target.std() > 0.1
    file = (tmp_path / "features").stat()
    assert file.st_size > 5e8 and file.st_blocks * 512 < 1e6  # what is read of it are zeros
    kept, _ = scale.catalogue(40, 5, tmp_path, keep=True)
    assert [task.annotator for task in cross_song_tasks(kept, "validation", 1)] == ["a5"]


@pytest.mark.parametrize("adapt", quality.ADAPT)
def test_quality_of_every_choice_is_scored_on_test_listeners(adapt: str) -> None:
    store = make_store()
    model = DSAML(MODEL).eval()
    row = quality.adapted(SimpleNamespace(store=store), model, adapt)
    assert row["inner_lr"] in quality.RATES
    assert row["seconds_per_listener"] > 0
    assert all(cell["low"] <= cell["mean"] <= cell["high"] for cell in row["ccc"].values())


def test_what_a_gpu_is_asked_for_runs_on_a_cpu(monkeypatch):
    """Everything but the device, at small sizes; the page shows what comes out."""
    monkeypatch.setattr(gpu, "AT_ONCE", (1, 2))
    monkeypatch.setattr(gpu, "COMPILED", ("no such mode",))
    short = dataclasses.replace(META, steps=4, tasks_per_step=2)
    measured = {
        "machine": {"gpu": "none"},
        "tasks": 2,
        "steps": 2000,
        "tasks_per_step": 16,
        "tasks_at_once": {"2": {"seconds_per_task": 1.0, "peak_gb": 2.0}},
        "precisions": gpu.precisions(SMALL, META, 2, "cpu", 1),
        "recorded": {"tf32": {"failed": "no GPU"}},
        "compiled": gpu.compiled(SMALL, META, 2, "cpu", 1),
        "trainings": gpu.trainings(make_store(), MODEL, {"float32": (short, "float32")}, "cpu"),
    }
    assert set(gpu.tasks_at_once(SMALL, META, "cpu", 1)) == {"1", "2"}
    assert measured["precisions"]["float32"]["gradient_difference"] == 0
    assert 1e-6 < measured["precisions"]["bf16"]["gradient_difference"] < 1
    assert "mode" in measured["compiled"]["no such mode"]["failed"]
    assert measured["trainings"]["float32"]["steps"] == 4
    table = page.TABLES["gpu"][1](measured)
    for name in ("bf16, 2 at once", "CUDA graph, tf32", "torch.compile, no such mode", "float32: 4 steps trained"):
        assert name in table


def test_without_a_gpu_one_sentence_says_so(tmp_path):
    if not torch.cuda.is_available():
        with pytest.raises(DsamlError, match="device 'cuda' is not there"):
            gpu.measure(tmp_path)
