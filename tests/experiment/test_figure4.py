"""Figure 4: distances of attention maps with known answers, and the separation of both scales on a tiny model."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import MODEL, STEPS, make_store

from dsaml.config import DEMO
from dsaml.experiment import claims, figure4
from dsaml.experiment.recipes import DMER_MODEL, NO_ATTENTION_LOSS
from dsaml.learn.loop import History
from dsaml.model.dsaml import DSAML

SECONDS = DEMO.audio.step_seconds


def test_distances_of_maps_with_a_known_answer() -> None:
    itself, even = torch.eye(4)[None], torch.full((1, 4, 4), 0.25)
    neighbour = torch.eye(4).roll(1, 1)[None]  # every step looks one step on, the last one at the first
    assert figure4.mean_distance(itself, 0.5).tolist() == [0]
    assert figure4.mean_distance(neighbour, 0.5).tolist() == [0.5 * (1 + 1 + 1 + 3) / 4]
    assert figure4.mean_distance(even, 0.5).tolist() == [0.5 * 5 / 4]
    assert figure4.separation({"local": itself, "global": even}, 0.5).tolist() == [0.5 * 5 / 4]


def _experiment(narrow: int, wide: int) -> SimpleNamespace:
    """Two untrained models: the scales of the first differ in reach, those of the second are the same."""
    store = make_store()

    def model(name: str, seed: int) -> tuple[DSAML, History]:
        torch.manual_seed(seed)
        local = narrow if name == DMER_MODEL else wide
        return DSAML(replace(MODEL, context_local=local, context_global=wide)).eval(), History(validation=[(1, 0.5)])

    return SimpleNamespace(store=store, profile=DEMO, model=model)


def test_separation_is_paired_by_song_and_seed() -> None:
    experiment = _experiment(1, STEPS)
    songs = experiment.store.dataset.split.songs["test"]
    apart = figure4.separations(experiment, DMER_MODEL, (0, 1))
    assert apart.shape == (2, len(songs)) and apart.min() > 0.5
    assert abs(figure4.separations(experiment, NO_ATTENTION_LOSS, (0, 1))).max() < 1e-6
    maps = figure4.last_maps(experiment.model(DMER_MODEL, 1)[0], experiment.store)
    assert maps["local"].shape == (len(songs), STEPS, STEPS)
    assert apart[1].tolist() == pytest.approx(figure4.separation(maps, SECONDS).tolist())

    block = figure4.separation_block(experiment, (0, 1))
    assert block["seeds"] == {DMER_MODEL: 2, NO_ATTENTION_LOSS: 2} and block["songs"] == len(songs)
    (cell,) = block["differences"][f"{DMER_MODEL} | {NO_ATTENTION_LOSS}"].values()
    assert cell["mean"] == pytest.approx(apart.mean(), abs=1e-6)
    assert cell["low"] < cell["mean"] < cell["high"]
    assert block["rows"][DMER_MODEL]["separation"]["mean"] == pytest.approx(apart.mean())


def test_the_claim_of_figure_4_is_judged_on_the_separation() -> None:
    (claim,) = [c for c in claims.CLAIMS if "Figure 4" in c.paper]
    for models, verdict in ((_experiment(1, STEPS), claims.HOLDS), (_swapped(), claims.FAILS)):
        assert claims.judge(claim, {figure4.BLOCK: figure4.separation_block(models, range(3))})["verdict"] == verdict
    assert claims.judge(claim, {})["verdict"] == claims.NOT_RUN


def _swapped() -> SimpleNamespace:
    """With Eq. 3 the scales are the same, without it they differ."""
    experiment = _experiment(1, STEPS)
    other = {DMER_MODEL: NO_ATTENTION_LOSS, NO_ATTENTION_LOSS: DMER_MODEL}
    return SimpleNamespace(
        store=experiment.store, profile=DEMO, model=lambda name, seed: experiment.model(other[name], seed)
    )


def test_the_maps_on_show_have_diagonals_beside_their_targets_and_the_same_separation() -> None:
    experiment = _experiment(1, STEPS)
    shown = figure4.attention_maps(experiment, 0)
    assert shown["targets"] == {"local": DEMO.model.alpha, "global": DEMO.model.beta}
    means = {name: figure4.separations(experiment, name, [0]).mean() for name in figure4.METHODS}
    for label, name in (("with", DMER_MODEL), ("without", NO_ATTENTION_LOSS)):
        assert shown[label]["separation_seconds"] == pytest.approx(means[name], abs=1e-6)
        apart = [shown[label][scale]["mean_distance_seconds"] for scale in ("global", "local")]
        assert apart[0] - apart[1] == pytest.approx(means[name], abs=1e-6)
    local = shown["with"]["local"]
    assert local["diagonal"] == pytest.approx(sum(local["mean_map"][k][k] for k in range(STEPS)) / STEPS, abs=1e-3)
    assert "apart" in figure4.finding(shown)


@pytest.mark.parametrize(
    "apart, words", [((1.0, 2.0), "together (−1.00 s)"), ((2.0, 1.0), "apart (+1.00 s)"), ((1.0, 1.0), "moves nothing")]
)
def test_the_finding_says_what_the_numbers_say(apart, words) -> None:
    both = {label: {"separation_seconds": value} for label, value in zip(("with", "without"), apart, strict=True)}
    said = figure4.finding(both)
    assert words in said and f"{apart[0]:.2f} s farther with it" in said
