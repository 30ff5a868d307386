"""What the book shows besides the tables: training histories, attention maps, cases, numbers, the sound of the opening figure.

Everything is computed here once and written as result files; notebooks and pages only read them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsaml.audio.playback import encode_playback
from dsaml.audio.recording import excerpt
from dsaml.config import DIMENSIONS
from dsaml.data.synthetic import corpus as synthetic
from dsaml.data.synthetic.population import STRESS
from dsaml.evaluate import oracles, structure
from dsaml.experiment import figure4, player
from dsaml.experiment.cases import errors, example_curves, predicted_cases, study_curves
from dsaml.experiment.claims import headline
from dsaml.experiment.recipes import MAML_ANNOTATOR, MAML_MEAN
from dsaml.experiment.results import stamp_of, write_result
from dsaml.experiment.rows import FINE_TUNED
from dsaml.experiment.run import Experiment
from dsaml.experiment.tables import JOBS


def write_all(experiment: Experiment, payload: Mapping[str, Any], seed: int, results: Path) -> None:
    """Write every exhibit of one training seed next to ``pdmer.json``.

    Parameters
    ----------
    payload : mapping
        What :func:`dsaml.experiment.reproduce.pdmer` returned.
    seed : int
        Whose models are shown.
    """
    started = time.perf_counter()
    training, maps = training_histories(experiment, seed), figure4.attention_maps(experiment, seed)
    cases = predicted_cases(experiment, payload["selection"], seed)
    curves, corpus = example_curves(experiment, cases), corpus_counts(experiment)
    documents = {
        "training": training,
        "attention": maps,
        "curves": curves,
        "errors": errors(cases),
        "player": player.write(experiment, cases, results / "player", curves["disagreement"]["pair"]),
        "study_curves": study_curves(experiment, cases),
        "corpus": corpus,
        "numbers": numbers(experiment, payload, corpus) | {"figure4_finding": figure4.finding(maps)},
    }
    every = [int(of_seed) for of_seed in payload["selection"]]  # what the numbers of the prose come from
    for name, document in documents.items():
        stamp = stamp_of(experiment, every if name == "numbers" else [seed], started)
        write_result(results / f"{name}.json", document, stamp)
    write_clip(experiment, curves["disagreement"]["song"], results / "index")


def training_histories(experiment: Experiment, seed: int) -> dict[str, Any]:
    """Loss of each step and validation CCC of every trained model."""
    return {name: vars(experiment.model(name, seed)[1]) for _, name in JOBS["book"]}


def corpus_counts(experiment: Experiment) -> dict[str, Any]:
    """Spread of the labels, and how many songs, listeners and tracks each part of the split has."""
    dataset, counts = experiment.dataset, {}
    for part, songs in dataset.split.songs.items():
        listeners = dataset.split.annotators[part]
        tracks = sum(s in dataset.tracks.get(who, {}) for who in listeners for s in songs)
        counts[part] = {"songs": len(songs), "listeners": len(listeners), "tracks": tracks}
    return {"spread": structure.calibration(dataset).to_dict("index"), "songs": counts}


def numbers(experiment: Experiment, payload: Mapping[str, Any], corpus: Mapping[str, Any]) -> dict[str, str]:
    """The numbers that prose uses, as text: ``{{ name }}`` on a page; ``corpus`` is what :func:`corpus_counts` gave."""
    rows = {
        "average_curve": oracles.AVERAGE_CURVE,
        "average_curve_spread": oracles.AVERAGE_CURVE_SPREAD,
        "finetuned": FINE_TUNED,
        "maml_mean": MAML_MEAN,
        "maml_annotator": MAML_ANNOTATOR,
        "own_curve": oracles.OWN_CURVE,
    }
    seeds, dataset = len(payload["selection"]), experiment.dataset
    out = {"headline": headline({**payload, "provenance": {"real": dataset.real}})}
    out["seeds"] = "one training seed" if seeds == 1 else f"{seeds} training seeds"
    for name, row in rows.items():
        if row not in payload["rows"]:
            continue  # nobody knows the true curves of real listeners
        out |= {f"{name}_{d}": f"{payload['rows'][row][d]['ccc']['mean']:.3f}" for d in DIMENSIONS}
    out |= {f"gap_closed_{d}": f"{100 * share:.0f} %" for d, share in (payload["gap_closed"] or {}).items()}
    for name, cells in zip(("disagreement", "within_train", "within_test"), corpus["spread"].values(), strict=True):
        out |= {f"{name}_{d}": f"{cells[d]:.3f}" for d in DIMENSIONS}
    for part, counts in corpus["songs"].items():
        out |= {f"{part}_{what}": str(count) for what, count in counts.items()}
    made_here = {} if dataset.real else {"default": synthetic.config(dataset.root), "stress": STRESS}
    for name, config in made_here.items():
        out |= {f"structure.{name}.{key}": value for key, value in structure.of_corpus(config).items()}
    return out


def write_clip(experiment: Experiment, song: str, folder: Path) -> None:
    """The part of the opening figure's song that the figure shows (``clip.mp3``)."""
    folder.mkdir(parents=True, exist_ok=True)
    audio, config = experiment.dataset.songs[song].audio, experiment.profile.audio
    seconds = experiment.store.steps * config.step_seconds
    encode_playback(folder / "clip.mp3", *excerpt(audio, config.label_start, seconds))
