"""From trained models to result files: the tables, the claims, the book's own. Display reads these files and nothing else."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dsaml.audio.playback import encode_playback
from dsaml.audio.recording import excerpt
from dsaml.config import DIMENSIONS, Profile
from dsaml.data.synthetic import corpus as synthetic
from dsaml.data.synthetic.population import STRESS
from dsaml.errors import DsamlError
from dsaml.evaluate import bootstrap, protocols, structure
from dsaml.evaluate.floors import AVERAGE_CURVE, AVERAGE_CURVE_SPREAD, OWN_CURVE, best_spread
from dsaml.experiment import cases, figure4, player
from dsaml.experiment.claims import headline, judge_all
from dsaml.experiment.prepare import EMBEDDED, Source, check_data, prepare
from dsaml.experiment.recipes import MAML_ANNOTATOR, MAML_MEAN, NO_ATTENTION_LOSS, NON_META
from dsaml.experiment.results import read_result, stamp_of, write_result
from dsaml.experiment.rows import FINE_TUNED, order_rows
from dsaml.experiment.run import Experiment
from dsaml.experiment.scoring import Job, fixed_scores, score_all, train_for
from dsaml.experiment.tables import JOBS, jobs_of, mean_passes, payload_of

log = logging.getLogger(__name__)


def pdmer(experiment: Experiment, seeds: tuple[int, ...], results: Path) -> dict[str, Any]:
    """Score the book's trained models cross-song, write ``pdmer.json`` and ``scores.csv``; returns what was written."""
    started = time.perf_counter()
    jobs = [("pdmer", name, seed) for seed in seeds for name in (MAML_ANNOTATOR, MAML_MEAN, NON_META)]
    models, chosen = score_all(experiment, jobs)
    fixed = protocols.fixed_rows(experiment.store, "cross-song")
    scores = order_rows(pd.concat([*fixed, models[models.protocol == "cross-song"]], ignore_index=True))
    protocol = {"name": "cross-song", **protocols.PROTOCOLS["cross-song"]} | {
        "listeners": scores.annotator.nunique(),
        "songs": scores.song.nunique(),
        "intervals": "95 %, bootstrap of listeners, songs and training seeds as crossed units",
    }
    payload = {"protocol": protocol} | bootstrap.summarize_against(scores, MAML_ANNOTATOR)
    payload |= {
        "gap_closed": bootstrap.gap_closed(payload["rows"], MAML_ANNOTATOR),
        "selection": chosen,
        "spread": best_spread(experiment.dataset),
    }
    results.mkdir(parents=True, exist_ok=True)
    scores.to_csv(results / "scores.csv", index=False, float_format="%.6f")
    write_result(results / "pdmer.json", payload, stamp_of(experiment, seeds, started))
    return payload


def write_tables(experiment: Experiment, jobs: Sequence[Job], results: Path) -> dict[str, Any]:
    """Score trained models, write ``tables-<data set>.json`` and ``claims-<data set>.json``; scores on disk are not repeated."""
    started, name = time.perf_counter(), experiment.dataset.name
    scores, about = score_all(experiment, jobs)
    blocks = payload_of(pd.concat([fixed_scores(experiment), scores], ignore_index=True), long_range_songs(experiment))
    gap = bootstrap.gap_closed(blocks["table4"]["rows"], MAML_ANNOTATOR)
    if shown := sorted({seed for kind, model, seed in jobs if kind == "dmer" and model == NO_ATTENTION_LOSS}):
        blocks[figure4.BLOCK] = figure4.separation_block(experiment, shown)
    for block in blocks.values():
        block["song_passes"] = mean_passes(about, block["rows"])
    payload = {"blocks": blocks, "selection": about, "gap_closed": gap, "spread": best_spread(experiment.dataset)}
    stamp = stamp_of(experiment, sorted({seed for *_, seed in jobs}), started)
    write_result(results / f"tables-{name}.json", payload, stamp)
    write_result(results / f"claims-{name}.json", {"claims": judge_all(blocks)}, stamp)
    return payload


def long_range_songs(experiment: Experiment) -> frozenset[str]:
    """Songs with a bell, whose effect comes 8 to 15 s later; known for the embedded corpus only."""
    if experiment.dataset.name not in EMBEDDED:
        return frozenset()
    return frozenset(synthetic.describe(experiment.dataset.root)["bells"])


def write_exhibits(experiment: Experiment, payload: Mapping[str, Any], seed: int, results: Path) -> None:
    """Write what the book shows besides the tables, of one seed's models: histories, maps, cases, numbers, sounds.

    ``payload`` is what :func:`pdmer` gave.
    """
    started, maps = time.perf_counter(), figure4.attention_maps(experiment, seed)
    found = cases.predicted_cases(experiment, payload["selection"], seed)
    curves, corpus = cases.example_curves(experiment, found), corpus_counts(experiment)
    shown = curves["disagreement"]
    documents = {
        "training": {name: vars(experiment.model(name, seed)[1]) for _, name in JOBS["book"]},
        "attention": maps,
        "curves": curves,
        "errors": cases.errors(found),
        "player": player.write(experiment, found, results / "player", shown["pair"]),
        "study_curves": cases.study_curves(experiment, found),
        "corpus": corpus,
        "numbers": numbers(experiment, payload, corpus) | {"figure4_finding": figure4.finding(maps)},
    }
    every = [int(of_seed) for of_seed in payload["selection"]]  # what the numbers of the prose come from
    for name, document in documents.items():
        write_result(results / f"{name}.json", document, stamp_of(experiment, every if name == "numbers" else [seed], started))
    audio, config = experiment.dataset.songs[shown["song"]].audio, experiment.profile.audio
    (results / "index").mkdir(parents=True, exist_ok=True)
    sound = excerpt(audio, config.label_start, experiment.store.steps * config.step_seconds)
    encode_playback(results / "index" / "clip.mp3", *sound)


def corpus_counts(experiment: Experiment) -> dict[str, Any]:
    """Spread of the labels, and how many songs, listeners and tracks each part of the split has."""
    dataset, counts = experiment.dataset, {}
    for part, songs in dataset.split.songs.items():
        listeners = dataset.split.annotators[part]
        tracks = sum(s in dataset.tracks.get(who, {}) for who in listeners for s in songs)
        counts[part] = {"songs": len(songs), "listeners": len(listeners), "tracks": tracks}
    return {"spread": structure.calibration(dataset), "songs": counts}


def numbers(experiment: Experiment, payload: Mapping[str, Any], corpus: Mapping[str, Any]) -> dict[str, str]:
    """The numbers that prose uses, as text: ``{{ name }}`` on a page; ``corpus`` is what :func:`corpus_counts` gave."""
    rows = {
        "average_curve": AVERAGE_CURVE,
        "average_curve_spread": AVERAGE_CURVE_SPREAD,
        "finetuned": FINE_TUNED,
        "maml_mean": MAML_MEAN,
        "maml_annotator": MAML_ANNOTATOR,
        "own_curve": OWN_CURVE,
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


def book_results(experiment: Experiment, seeds: tuple[int, ...], results: Path, jobs: Sequence[Job] = ()) -> None:
    """Every result file that the book's pages and notebooks read, from a data set with labels of single annotators.

    ``jobs`` are what the tables are computed from; by default what needs no further model.
    """
    book = jobs_of(["book"], seeds)
    train_for(experiment, {*book, *jobs})  # all at once: no core waits
    payload = pdmer(experiment, seeds, results)
    write_tables(experiment, jobs or book, results)
    write_exhibits(experiment, payload, seeds[0], results)
    log.info("results in %s", results)


def reproduce(
    what: Sequence[str], profile: Profile, source: Source, seeds: Sequence[int], results: Path
) -> dict[str, dict[str, Any]]:
    """What the command ``reproduce`` does: from data to result files, for any profile, data set, encoder and device.

    Parameters
    ----------
    what : sequence of {"all", "book", "table1", "table2", "table3", "table4", "stress"}
        "all" is every table, and what notebooks show; of the embedded corpus ("synthetic") also the stress test. "book" and
        "stress" are about the embedded corpus. Tables that are asked for together come into one file.
    source : Source
        ``check`` judges a data set that is not made here.

    Returns
    -------
    dict
        What was computed and has rows to show, by its title: see :func:`dsaml.experiment.workflow.terminal_table`.

    Raises
    ------
    DsamlError
        If the folder is missing, ``check`` finds an error that is not accepted, or ``what`` cannot be computed on this data set.
    """
    seeds, dataset = tuple(seeds), source.dataset
    embedded = dataset == "synthetic"
    if dataset not in EMBEDDED and source.root is None:
        raise DsamlError(f"--root is missing: the folder of {dataset}")
    for name in what:
        if name in ("book", "stress") and not embedded:
            raise DsamlError(f"{name}: is about embedded corpora, not {dataset}; ask for all, or for tables")
    shown: dict[str, dict[str, Any]] = {}
    wanted = ["table1", "table2", "table3", "table4"] if "all" in what else [name for name in what if name != "stress"]
    if wanted:
        if dataset not in EMBEDDED:
            check_data(profile, source, "dmer" if {"table1", "table3"}.issuperset(wanted) else None)
        experiment = prepare(profile, source, (None, None))
        if not experiment.dataset.tracks:  # labels of single annotators are not in every data set
            wanted = [name for name in wanted if name in ("table1", "table3")]
        if not wanted:
            raise DsamlError(f"{dataset} has no labels of single annotators, so {' '.join(what)} cannot be computed on it")
        jobs = jobs_of(wanted, seeds)
        if {"all", "book"}.intersection(what) and experiment.dataset.tracks:
            book_results(experiment, seeds, results, jobs)
            shown["PDMER, one support song"] = read_result(results / "pdmer.json")
        else:
            train_for(experiment, jobs)
            write_tables(experiment, jobs, results)
        if wanted != ["book"]:
            shown |= tables_of_scores(results, experiment.dataset.name)
    if "stress" in what or ("all" in what and embedded):  # the same songs, heard by a harder population
        experiment = prepare(profile, dataclasses.replace(source, dataset="stress", root=None))
        jobs = jobs_of(["stress"], seeds)
        train_for(experiment, jobs)
        write_tables(experiment, jobs, results)
        shown |= tables_of_scores(results, "stress")
    return shown


def results_folder(profile: Profile, dataset: str, root: Path | None = None) -> Path:
    """Where results go by default: ``results/<profile>``; a folder of its own for any data set but the embedded corpus."""
    ours = dataset == "synthetic" and root is None
    return Path("results") / (profile.name if ours else f"{profile.name}-{dataset}")


def tables_of_scores(results: Path, name: str) -> dict[str, dict[str, Any]]:
    """The blocks of ``tables-<name>.json`` that have rows of scores, by a title: Figure 4 has distances instead."""
    blocks = read_result(results / f"tables-{name}.json")["blocks"]
    return {f"{key} ({name})": block for key, block in blocks.items() if block["rows"] and key != figure4.BLOCK}
