"""Measurements: the baseline computes the same, the arithmetic around the clock is right."""

import dataclasses
import json
import os
from types import SimpleNamespace

import pytest
import torch
from conftest import MODEL, make_store

from benchmarks import engine, quality, scale
from benchmarks.common import peak_memory, seconds, take_turns
from book.builder import speed_page as page
from dsaml.config import MetaConfig, ModelConfig
from dsaml.model.dsaml import DSAML

SMALL = ModelConfig(dim=16, heads=2, layers=2, feed_forward=16, slice_shape=(13, 16))
META = MetaConfig(query_songs=2, inner_steps=2, inner_lr=0.01, tasks_at_once=2)


def test_the_straightforward_model_computes_the_same():
    model = engine.make_model(SMALL)
    plain, batch = engine.straightforward(model), engine.make_batch(SMALL, 1, 3, steps=20)
    mine, theirs = (m(batch.x[0], batch.global_embedding[0]) for m in (model, plain))
    for name in ("prediction", "attention_local", "attention_global", "context"):
        torch.testing.assert_close(getattr(mine, name), getattr(theirs, name), atol=1e-5, rtol=1e-4)


def test_both_sides_of_the_comparison_have_the_same_gradients():
    rows = engine.against_baseline(SMALL, META, 3, 1, lambda what: None)
    assert set(rows) == {"all", "no-adapter", "head"}
    for row in rows.values():
        assert row["gradient_difference"] < 1e-4
        assert row["ratio"] == pytest.approx(row["tasks_per_second"] / row["baseline_tasks_per_second"])


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
    with pytest.raises(RuntimeError, match="no"):
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
    assert "run `python -m dsaml bench`" in page.text("engine", tmp_path, tmp_path / "figures")
    assert "run `python -m dsaml bench --scale`" in page.text("growth", tmp_path, tmp_path / "figures")
    curve = {"sizes": [1, 2], "seconds": [1.0, 2.0], "slopes": {"seconds": 1.0}}
    (tmp_path / "scale.json").write_text(json.dumps({"curves": {"songs": curve}}))
    text = page.text("growth", tmp_path, tmp_path / "figures")
    assert "| songs | 1, 2 | 1, 2 | 1.00 |" in text and "figures/growth.svg\n:alt: " in text
    assert "<path" in (tmp_path / "figures/growth.svg").read_text(encoding="utf-8")


def test_long_songs_and_large_data_sets_can_be_measured():
    store = scale.tiny_data_set(20, 5, 12)
    assert len(store.dataset.tracks["a0"]) == 12
    assert isinstance(engine.make_model(SMALL), DSAML)


@pytest.mark.parametrize("adapt", quality.ADAPT)
def test_quality_of_every_choice_is_scored_on_test_listeners(adapt: str) -> None:
    store = make_store()
    model = DSAML(MODEL).eval()
    row = quality.adapted(SimpleNamespace(store=store), model, adapt)
    assert row["inner_lr"] in quality.RATES
    assert row["seconds_per_listener"] > 0
    assert all(cell["low"] <= cell["mean"] <= cell["high"] for cell in row["ccc"].values())
