"""Hostile inputs through the command line: one sentence, the right exit code, inputs untouched, no process left.

Every case runs in this process, as ``python -m dsaml`` does but for starting Python; a few real processes stand at the end.
"""

from __future__ import annotations

import copy
import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from damage import AUDIO, FOLDER, TABLE, mean_table, one_wav, rater_table, write_deam
from hostile import HEADER, RATE, SPECIAL, WEIGHTS, Case, case, model_bytes, run, stamped, write_inputs
from safetensors.numpy import load_file

from dsaml.cli.main import ISSUES, main
from dsaml.config import DEMO, DIMENSIONS, LARGEST_SEED
from dsaml.data import Song, Split, deam
from dsaml.data.annotations import Annotation
from dsaml.data.checks import check, obstacles, stop_on_errors
from dsaml.data.folder import write_template
from dsaml.errors import DsamlError
from dsaml.runtime.distributed import processes

ROOT = Path(__file__).parents[2]
PREDICT = "predict in/song.wav --checkpoint in/model.safetensors --out out.csv"
PERSONALIZE = (
    "personalize --song in/song.wav --curve in/curve.csv --checkpoint in/model.safetensors --out out.safetensors"
)
EVALUATE = "evaluate --checkpoint in/model.safetensors --dataset folder --root in --out out.json"
DEAM = "--dataset deam --root in/DEAM"
MINE = "--dataset folder --root in/mine"
CORPUS = "--dataset synthetic --root in/corpus"
TRAIN = "train --out out.safetensors --cache cache"
REPRODUCE = "reproduce table1 --cache cache --results out"


def put(name: str, content: bytes | str):
    """A change that gives a file another content."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def at(name: str, change):
    """A change of one file."""
    return lambda folder: change(folder / name)


# Models ---------------------------------------------------------------------------------------------------------------


def header(edit) -> bytes:
    """A model whose profile is edited in place."""
    profile = json.loads(HEADER["profile"])
    edit(profile)
    return model_bytes(HEADER | {"profile": json.dumps(profile)})


def field(group: str | None, name: str, value: object) -> bytes:
    return header(lambda profile: (profile[group] if group else profile).__setitem__(name, value))


def without(group: str | None, name: str) -> bytes:
    return header(lambda profile: (profile[group] if group else profile).pop(name))


def out_of_range(value: object) -> object:
    """A value of the right kind that no model can have."""
    if isinstance(value, bool):
        return 2
    if isinstance(value, int):
        return 10**12
    return float("inf") if isinstance(value, float) else [0] * len(value) if isinstance(value, list) else "nonsense"


SETTINGS = json.loads(HEADER["profile"])
FIELDS = [(None, name) for name in SETTINGS] + [
    (group, name) for group in ("audio", "model", "meta", "supervised") for name in SETTINGS[group]
]
FREE = {(None, "name"), (None, "encoder")}  # any text is a name; an unknown encoder is told by its own sentence
MODELS = {
    "empty": (b"", "not a model"),
    "text": (b"this is no model" * 10, "not a model"),
    "cut off": (model_bytes()[:-40], "not a model"),
    "header of 2^63 bytes": (b"\xff" * 7 + b"\x7f" + b"{}", "not a model"),
    "no header": (model_bytes({}), "not a model"),
    "no profile": (model_bytes({"about": "{}"}), "not a model"),
    "no origin": (model_bytes({"profile": HEADER["profile"]}), "not a model"),
    "origin is a number": (model_bytes(HEADER | {"about": "7"}), "where it comes from"),
    "seeds are a text": (model_bytes(HEADER | {"about": '{"seeds": "0"}'}), "where it comes from"),
    "profile is no JSON": (model_bytes(HEADER | {"profile": "{"}), "not a model"),
    "profile is a list": (model_bytes(HEADER | {"profile": "[]"}), "no group of settings"),
    "profile is nested": (model_bytes(HEADER | {"profile": "[" * 100_000}), "not a model"),
    "no weights": (model_bytes(weights={}), "missing"),
    "one weight": (model_bytes(weights=dict(list(WEIGHTS.items())[:1])), "missing"),
    "other weights": (model_bytes(weights={f"x.{k}": v for k, v in WEIGHTS.items()}), "missing"),
    "wider weights": (
        model_bytes(weights={k: v.repeat(2, *[1] * (v.dim() - 1)) if v.dim() else v for k, v in WEIGHTS.items()}),
        "want",
    ),
    "a million wide": (field("model", "dim", 1 << 20), "does not fit"),
    "wider than it says": (field("model", "dim", 16), "does not fit"),
    "unknown encoder": (field(None, "encoder", "ear"), "encoder 'ear'"),
    "other slices": (field("audio", "n_mels", 64), "wants slices"),
    "negative start": (field("audio", "label_start", -5.0), "begin at"),
    "no hop": (field("audio", "hop_length", 0), "spectrogram settings"),
    "odd heads": (field("model", "heads", 3), "not divisible"),
}
CASES = [
    case(f"{command.split()[0]}: model {name}", command, says, put("model.safetensors", content))
    for command in (PREDICT, PERSONALIZE)
    for name, (content, says) in MODELS.items()
]
CASES += [
    case(f"evaluate: model {name}", EVALUATE, says, put("model.safetensors", MODELS[name][0]))
    for name, (_, says) in MODELS.items()
    if name != "unknown encoder"
]
CASES += [
    case(
        f"predict: model without {group}.{name}", PREDICT, "is missing", put("model.safetensors", without(group, name))
    )
    for group, name in FIELDS
    if name != "embeddings"  # which files from before there was a choice lack
]
CASES += [
    case(
        f"predict: model with {group}.{name} of another type",
        PREDICT,
        r"not a model",
        put("model.safetensors", field(group, name, {"a": 1})),
    )
    for group, name in FIELDS
    if group in (None, "model", "audio")
]
CASES += [
    case(
        f"predict: model with {group}.{name} out of range",
        PREDICT,
        "not a model|does not fit",
        put("model.safetensors", field(group, name, out_of_range((SETTINGS[group] if group else SETTINGS)[name]))),
    )
    for group, name in FIELDS
    if group in ("model", "audio")
]
CASES += [
    case(f"{command.split()[0]}: model is a {name}", command, "model.safetensors: ", at("model.safetensors", change))
    for command in (PREDICT, PERSONALIZE, EVALUATE)
    for name, change in SPECIAL.items()
]

# Songs ----------------------------------------------------------------------------------------------------------------


def sound(samples: np.ndarray, rate: int = RATE, subtype: str = "FLOAT"):
    return lambda folder: sf.write(folder / "song.wav", samples, rate, subtype=subtype)


def cut(name: str, share: float):
    def change(folder: Path) -> None:
        raw = (folder / name).read_bytes()
        (folder / name).write_bytes(raw[: int(len(raw) * share)])

    return change


NOISE = np.random.default_rng(0).normal(0, 0.1, RATE)
SONGS = {
    "empty": (put("song.wav", b""), "cannot be decoded"),
    "text": (put("song.wav", "404 Not Found" * 20), "cannot be decoded"),
    "zeros": (put("song.wav", b"\0" * 5000), "cannot be decoded"),
    "random bytes": (put("song.wav", np.random.default_rng(1).bytes(5000)), "cannot be decoded"),
    "header only": (cut("song.wav", 40 / 320_000), "cannot be decoded|no audio samples"),
    "no samples": (sound(np.zeros(0)), "no audio samples"),
    "NaN": (sound(np.full(RATE, np.nan)), "not numbers"),
    "infinite": (sound(np.full(RATE, np.inf)), "not numbers"),
    "1 Hz": (sound(NOISE, 1), "sample rate is 1 Hz"),
    "3,999 Hz": (sound(NOISE, 3_999), "sample rate is 3999 Hz; convert it to one of 4 to 384 kHz"),
    "384,001 Hz": (sound(NOISE, 384_001), "sample rate is 384001 Hz"),
    "2 GHz": (sound(NOISE, 2_000_000_000), "sample rate is"),
    "a quarter of a second": (sound(NOISE[: RATE // 4]), "lasts 0.2 s|lasts 0.3 s"),
}
CASES += [case(f"predict: song {name}", PREDICT, says, change) for name, (change, says) in SONGS.items()]
CASES += [case(f"personalize: song {name}", PERSONALIZE, says, change) for name, (change, says) in SONGS.items()]
CASES += [
    case(f"{command.split()[0]}: song is a {name}", command, "song.wav: ", at("song.wav", change))
    for command in (PREDICT, PERSONALIZE)
    for name, change in SPECIAL.items()
]
ODD_NAMES = {
    "markup": "[bold]song[/bold].wav",
    "closing markup": "[/].wav",
    "a bracket": "a[1].wav",
    "a new line": "two\nlines.wav",
    "a bell": "bell\a.wav",
    "no UTF-8": os.fsdecode(b"caf\xe9.wav"),
    "a minus": "./-song.wav",
    "a blank": "my song.wav",
    "an emoji code": ":smile:.wav",
    "300 letters": "s" * 300 + ".wav",
    "nothing": "",
}
CASES += [
    Case(
        f"predict: no song named with {name}",
        ("predict", odd, *PREDICT.split()[2:]),
        "no such|cannot be read|not a file|too long",
    )
    for name, odd in ODD_NAMES.items()
]
CASES += [
    Case(
        f"personalize: no curve named with {name}",
        tuple(odd if a == "in/curve.csv" else a for a in PERSONALIZE.split()),
        "no such|cannot be read|not a file|too long",
    )
    for name, odd in ODD_NAMES.items()
]
CASES += [
    Case(
        f"predict: no model named with {name}",
        tuple(odd if a == "in/model.safetensors" else a for a in PREDICT.split()),
        "no such|cannot be read|not a file|too long",
    )
    for name, odd in ODD_NAMES.items()
]
CASES += [
    Case(
        f"floors: no data set in a folder named with {name}",
        ("floors", "--dataset", "folder", "--root", f"in/{odd}/x"),
        "not a folder|too long",
    )
    for name, odd in ODD_NAMES.items()
]

# Curves ---------------------------------------------------------------------------------------------------------------

CURVES = {
    "empty": ("", "no column"),
    "header only": ("time_s,arousal,valence\n", "holds no points"),
    "no header": ("0,0.1,0.2\n1,0.1,0.2\n", "no column"),
    "other columns": ("t,a,v\n0,0,0\n", "no column time_s"),
    "no valence": ("time_s,arousal\n0,0\n", "no column valence"),
    "semicolons": ("time_s;arousal;valence\n0;0;0\n", "no column"),
    "text": ("time_s,arousal,valence\n0,loud,0\n", "line 2 holds something that is no number"),
    "NaN": ("time_s,arousal,valence\n0,nan,0\n", "no number"),
    "infinite": ("time_s,arousal,valence\n0,inf,0\n", "no number"),
    "empty cell": ("time_s,arousal,valence\n0,,0\n", "no number"),
    "times fall": ("time_s,arousal,valence\n1,0,0\n0,0,0\n", "not after the one before"),
    "a time twice": ("time_s,arousal,valence\n1,0,0\n1,0,0\n", "not after the one before"),
    "off the scale": ("time_s,arousal,valence\n" + "".join(f"{t},0,{t}\n" for t in range(10)), "beyond"),
    "too short": ("time_s,arousal,valence\n0,0,0\n1,0,0\n", "annotate at least"),
    "longer than the song": ("time_s,arousal,valence\n" + "".join(f"{t},0,0\n" for t in range(60)), "missing"),
    "after the song": ("time_s,arousal,valence\n" + "".join(f"{t},0,0\n" for t in range(60, 90)), "missing"),
    "1e308": ("time_s,arousal,valence\n" + "".join(f"{t},1e308,0\n" for t in range(10)), "beyond"),
    "UTF-16": ("time_s,arousal,valence\n0,0,0\n".encode("utf-16"), "not a CSV|no column"),
    "Latin-1": (b"time_s,arousal,valence\n0,0,0\n# caf\xe9,0,0\n", "not a CSV|no number"),
    "zero bytes": (b"\0" * 400, "not a CSV|no column"),
    "a quote": ('time_s,arousal,valence\n0,"0,0\n', "fields"),
    "ragged": ("time_s,arousal,valence\n0,0,0\n1,0,0,0,0\n", "fields"),
}
CASES += [case(f"personalize: curve {n}", PERSONALIZE, says, put("curve.csv", c)) for n, (c, says) in CURVES.items()]
CASES += [
    case(f"personalize: curve is a {name}", PERSONALIZE, "curve.csv: ", at("curve.csv", change))
    for name, change in SPECIAL.items()
]

# The study ------------------------------------------------------------------------------------------------------------

RANKS = "participant_id,song_id,dimension,method,rank\n"
RANKINGS = {
    "empty": ("", "not a CSV"),
    "header only": (RANKS, "no answers"),
    "other columns": ("a,b\n1,2\n", "no column"),
    "bad dimension": (RANKS + "p,s,tension,A,1\n", "neither arousal nor valence"),
    "rank is a text": (RANKS + "p,s,arousal,A,first\n", "no whole number"),
    "rank 1.5": (RANKS + "p,s,arousal,A,1.5\n", "no whole number"),
    "rank 1e308": (RANKS + "p,s,arousal,A,1e308\np,s,arousal,B,1\n", "not 1 to 2"),
    "infinite rank": (RANKS + "p,s,arousal,A,inf\np,s,arousal,B,1\n", "no whole number"),
    "ties": (RANKS + "p,s,arousal,A,1\np,s,arousal,B,1\n", "not 1 to 2"),
    "one method": (RANKS + "p,s,arousal,A,1\n", "two or more"),
    "one participant": (
        RANKS + "".join(f"p,s,{d},{m},{r}\n" for d in DIMENSIONS for r, m in enumerate("ABC", 1)),
        "at least 3",
    ),
    "one dimension": (
        RANKS + "".join(f"p{k},s,arousal,{m},{r}\n" for k in range(3) for r, m in enumerate("ABC", 1)),
        "0 participants ranked valence",
    ),
    "a participant with half": (
        RANKS
        + "".join(
            f"p{k},s,{d},{m},{r}\n"
            for k in range(3)
            for d in DIMENSIONS[: 1 + (k > 0)]
            for r, m in enumerate("ABC", 1)
        ),
        "2 participants ranked valence",
    ),
    "zero bytes": (b"\0" * 100, "not a CSV|no column"),
    "Latin-1": (RANKS.encode() + b"caf\xe9,s,arousal,A,1\n", "not a CSV"),
    "UTF-16": (RANKS.encode("utf-16"), "not a CSV|no column"),
    "binary": (bytes(range(256)), "not a CSV|no column"),
}
CASES += [
    case(f"study analyse: {name}", "study analyse in/rankings.csv", says, put("rankings.csv", content))
    for name, (content, says) in RANKINGS.items()
]
STUDY = {"participants": [{"id": "p", "songs": [{"song_id": "s", "truth": [[0, 0]], "methods": {"A": [[0, 0]]}}]}]}


def study(edit) -> str:
    document = copy.deepcopy(STUDY)
    edit(document)
    return stamped(document)


def of_song(**change: object) -> str:
    return study(lambda d: d["participants"][0]["songs"][0].update(change))


STUDIES = {
    "empty": "",
    "text": "curves",
    "a list": "[]",
    "a number": "7",
    "null": "null",
    "nested": "[" * 100_000,
    "nobody": stamped({"participants": []}),
    "no stamp": "{}",
    "no participants": stamped({}),
    "participants are numbers": stamped({"participants": [1]}),
    "no songs": study(lambda d: d["participants"][0].pop("songs")),
    "songs are a text": study(lambda d: d["participants"][0].update(songs="ab")),
    "no id": study(lambda d: d["participants"][0].pop("id")),
    "no truth": study(lambda d: d["participants"][0]["songs"][0].pop("truth")),
    "truth is a text": of_song(truth="high"),
    "truth of one dimension": of_song(truth=[[0], [1]]),
    "truth of another length": of_song(truth=[[0, 0], [1, 1]]),
    "truth is ragged": of_song(truth=[[0, 0], [1]]),
    "truth is empty": of_song(truth=[], methods={"A": []}),
    "methods are a list": of_song(methods=[[[0, 0]]]),
    "no methods": of_song(methods={}),
    "NaN": of_song(truth=[[float("nan"), 0]]),
    "another digest": of_song().replace("[[0, 0]]", "[[0, 1]]"),
}
CASES += [
    case(
        f"study simulate: curves {name}",
        "study simulate --curves in/curves.json --out out.csv",
        "curves.json: ",
        put("curves.json", c),
    )
    for name, c in STUDIES.items()
]
CASES += [
    case(f"study {command.split()[0]}: a {name}", f"study {command}", f"{file}: ", at(file, change))
    for command, file in (
        ("analyse in/rankings.csv", "rankings.csv"),
        ("simulate --curves in/curves.json --out out.csv", "curves.json"),
    )
    for name, change in SPECIAL.items()
]
SIMULATE = "study simulate --curves in/curves.json --out out.csv"
CASES += [
    case(f"study simulate: {o}", f"{SIMULATE} {o}", code=2)
    for o in ("--seed -1", f"--seed {2**64}", "--noise -1", "--noise x", "--noise nan")
]
CASES += [case("study simulate: --noise inf", f"{SIMULATE} --noise inf", "finite number")]
POWER = {
    "--difference nan --spread 1": 1,
    "--difference inf --spread 1": 1,
    "--difference 1 --spread inf": 1,
    "--difference 1 --spread nan": 2,
    "--difference 1 --spread 0": 2,
    "--difference 1 --spread 1 --participants 2": 2,
    "--difference 1 --spread 1 --participants 99999999999999999999": 2,
}
CASES += [case(f"study power: {options}", f"study power {options}", code=code) for options, code in POWER.items()]
DESIGNS = {"none": None, "empty": "", "text": "a study", "a list": "[]", "no stamp": "{}", "nested": "[" * 9999}
DESIGNS |= {"nothing in it": stamped({}), "songs are a number": stamped({"songs": 7}), "songs are texts": stamped({"songs": ["a"]})}
CASES += [
    case(
        f"study {command}: design {name}",
        f"study {command} in",
        "holds no study" if content is None else "design.json: ",
        (lambda folder: None) if content is None else put("design.json", content),
    )
    for command in ("serve", "export")
    for name, content in DESIGNS.items()
]
NEW = "study new out --dataset folder --root in"
CASES += [
    case("study new: folder holds something", "study new in --checkpoint in/model.safetensors", "not an empty folder"),
    case("study new: a model of another kind", f"{NEW} --checkpoint in/model.safetensors", "not a low-rank model"),
    case("study new: model is a song", f"{NEW} --checkpoint in/song.wav", "song.wav: "),
    case("study new: folder below a file", "study new in/song.wav/out", "song.wav"),
    case("study serve: port 99999", "study serve in --port 99999", code=2),
    *(case(f"study new: {o}", f"{NEW} {o}", code=2) for o in ("--participants 0", "--songs 0", "--seed -1", "--kind x")),
    case("study new: --seconds nan", f"{NEW} --seconds nan", code=2),
    case("study collect: one curve", "study collect in/curve.csv --out out.html", "one curve only"),
    case("study collect: the same twice", "study collect in/curve.csv in/curve.csv --out out.html", "second curve"),
    case("study collect: a song", "study collect in/curve.csv in/song.wav --out out.html", "song.wav: not a CSV"),
    case(
        "study collect: another model",
        "study collect in/curve.csv --song in/song.wav --checkpoint in/model.safetensors",
        "not a low-rank model",
    ),
]

# Grids ----------------------------------------------------------------------------------------------------------------

ONE = "datasets: [{name: folder, root: mine}]\n"
GRIDS = {
    "empty": "",
    "text": "train everything",
    "a list": "- 1\n- 2\n",
    "a number": "7",
    "a date": "2026-01-01",
    "no YAML": "a: [",
    "tabs": "a:\n\t- 1",
    "an object": "!!python/object/apply:os.system ['true']",
    "an anchor that holds itself": "datasets: &a [*a]\n",
    "nested": "datasets: " + "[" * 3000,
    "zero bytes": b"\0\0\0",
    "Latin-1": b"datasets: caf\xe9",
    "no data sets": "seeds: [0]\n",
    "data sets are a text": "datasets: folder\n",
    "data sets are a number": "datasets: 7\n",
    "data set is a text": "datasets: [folder]\n",
    "data set without root": "datasets: [{name: folder}]\n",
    "data set unknown": "datasets: [{name: nothing, root: mine}]\n",
    "data set is a list": "datasets: [{name: [folder], root: mine}]\n",
    "root is a number": "datasets: [{name: folder, root: 7}]\n",
    "root is null": "datasets: [{name: folder, root: null}]\n",
    "root is a list": "datasets: [{name: folder, root: [a, b]}]\n",
    "unknown key": ONE + "learning_rate: 1\n",
    "a key that is a list": ONE + "? [a]\n: 1\n",
    "seeds are a number": ONE + "seeds: 3\n",
    "seeds are null": ONE + "seeds: null\n",
    "no seeds": ONE + "seeds: []\n",
    "a seed below 0": ONE + "seeds: [-1]\n",
    "a huge seed": ONE + f"seeds: [{2**64}]\n",
    "a seed that is a text": ONE + "seeds: ['0']\n",
    "a seed that is true": ONE + "seeds: [true]\n",
    "a seed that is 0.5": ONE + "seeds: [0.5]\n",
    "a seed twice": ONE + "seeds: [0, 0]\n",
    "modes unknown": ONE + "modes: [both]\n",
    "modes of numbers": ONE + "modes: [1]\n",
    "modes of lists": ONE + "modes: [[pdmer]]\n",
    "profiles unknown": ONE + "profiles: [huge]\n",
    "profiles of lists": ONE + "profiles: [[demo]]\n",
    "profiles are a group": ONE + "profiles: {a: demo}\n",
    "weights are a number": ONE + "imagebind: 5\n",
    "accepts something unknown": ONE + "accept: [everything]\n",
}
CASES += [
    case(f"grid: {name}", "grid in/grid.yaml --out out --cache cache", "grid.yaml: ", put("grid.yaml", content))
    for name, content in GRIDS.items()
]
CASES += [
    case(f"grid: a {name}", "grid in/grid.yaml --out out --cache cache", "grid.yaml: ", at("grid.yaml", change))
    for name, change in SPECIAL.items()
]
RECORDS = {"no rows": {}, "rows are a list": {"rows": []}, "no score": {"rows": {"folder-mine-demo-pdmer-0": {}}}}
CASES += [
    case(
        f"grid: a damaged record, {name}",
        "grid in/grid.yaml --out in --cache cache",
        "not the record of a run",
        lambda folder, record=record: (
            put("grid.yaml", ONE + "seeds: [0]\n")(folder),
            put("folder-mine-demo-pdmer-0.json", stamped(record))(folder),
        ),
    )
    for name, record in RECORDS.items()
]

# Data sets ------------------------------------------------------------------------------------------------------------

ON_DEAM = [
    case(f"train: averaged table {n}", f"{TRAIN} {DEAM}", "'check' finds errors", lambda f, d=d: d(mean_table(f / "DEAM")))
    for n, (d, _) in TABLE.items()
]
ON_DEAM += [
    case(
        f"train: annotators' table {n}", f"{TRAIN} {DEAM}", "'check' finds errors", lambda f, d=d: d(rater_table(f / "DEAM"))
    )
    for n, (d, _) in TABLE.items()
]
ON_DEAM += [
    case(f"train: audio {n}", f"{TRAIN} {DEAM}", "'check' finds errors", lambda f, d=d: d(one_wav(f / "DEAM")))
    for n, (d, _) in AUDIO.items()
]
ON_DEAM += [
    case(
        f"reproduce: audio {n}", f"{REPRODUCE} {DEAM}", "'check' finds errors", lambda f, d=d: d(one_wav(f / "DEAM"))
    )
    for n, (d, _) in AUDIO.items()
]
ON_DEAM += [
    case(
        f"{command.split()[0]}: averaged table is a {name}",
        command,
        "arousal.csv",
        lambda f, change=change: change(mean_table(f / "DEAM")),
    )
    for command in (f"check {DEAM}", f"floors {DEAM}", f"features {DEAM} --cache cache", f"{TRAIN} {DEAM}")
    for name, change in SPECIAL.items()
]
ON_DEAM += [
    case(f"check: song is a {name}", f"check {DEAM}", "1003", lambda f, change=change: change(one_wav(f / "DEAM")))
    for name, change in SPECIAL.items()
]
ON_DEAM += [
    case("features: hop inf", f"features {DEAM} --cache cache --hop-seconds inf", "--hop-seconds"),
    case("structure: no such part", f"structure {DEAM} --split everything", "no such part"),
    case("structure: DEAM as VGMIDI", "structure --dataset vgmidi --root in/DEAM", "DEAM"),
    case("structure: no annotators", f"structure {DEAM} --split test", "DEAM|listeners|songs"),
    case(
        "structure: facts are a list",
        f"structure {DEAM} --save in/facts.json",
        "facts.json|DEAM|songs",
        put("facts.json", "[]"),
    ),
    case("floors: no such part", f"floors {DEAM} --split everything"),
    case(
        "floors: a damaged facts file",
        f"floors {DEAM} --save in/facts.json",
        "facts.json: ",
        put("facts.json", "[1, 2"),
    ),
    case("floors: facts are a list", f"floors {DEAM} --save in/facts.json", "facts.json: ", put("facts.json", "[]")),
    case("train: too few songs", f"{TRAIN} {DEAM}", "training would stop: .*validation"),
    case("train: nobody to learn from", f"{TRAIN} {DEAM} --mode pdmer", "training would stop"),
    case("train: an unknown kind", f"{TRAIN} {DEAM} --accept everything", "no such kind"),
    case("train: WORLD_SIZE=abc", f"{TRAIN} {DEAM}", "training would stop|WORLD_SIZE=abc", WORLD_SIZE="abc"),
    case(
        "evaluate: no test annotators",
        EVALUATE.replace("--dataset folder --root in", DEAM) + " --cache cache",
        "DEAM: ",
    ),
    case("check: DEAM as PMEmo", "check --dataset pmemo --root in/DEAM", "the file is missing"),
    case("check: DEAM as the corpus", "check --dataset synthetic --root in/DEAM", "corpus.json"),
    case("floors: DEAM as PMEmo", "floors --dataset pmemo --root in/DEAM", "metadata.csv"),
    case("floors: DEAM as a folder", "floors --dataset folder --root in/DEAM", "annotations.csv"),
    case("floors: DEAM as the corpus", "floors --dataset synthetic --root in/DEAM", "corpus.json"),
    case("features: the paper without its encoder", f"features {DEAM} --profile paper --cache cache", "ImageBind"),
    case("features: weights are missing", f"features {DEAM} --encoder imagebind --checkpoint in/no.pth --cache cache"),
    case("features: width does not fit", f"features {DEAM} --encoder imagebind --checkpoint in/song.wav --cache cache"),
    case("features: the cache is a file", f"features {DEAM} --cache in/song.wav"),
    case(
        "features: song of 1 Hz",
        f"features {DEAM} --cache cache",
        "sample rate is 1 Hz",
        lambda f: sf.write(one_wav(f / "DEAM"), NOISE, 1),
    ),
    case(
        "features: song too short",
        f"features {DEAM} --cache cache",
        "missing",
        lambda f: sf.write(one_wav(f / "DEAM"), NOISE, RATE),
    ),
]
ON_FOLDER = [
    case(f"train: folder, {n}", f"{TRAIN} {MINE}", "mine", lambda f, d=d: d(f / "mine")) for n, (d, _) in FOLDER.items()
]
ON_FOLDER += [
    case("train: songs below the clip length", f"{TRAIN} {MINE}", "training would stop", lambda f: None),
    case("train: songs below the clip length, averaged", f"{TRAIN} {MINE} --mode dmer", "training would stop"),
    case("train: scale 1-9", f"{TRAIN} {MINE}", "scale", lambda f: rescale(f / "mine", lambda v: 5 + 4 * v)),
    case(
        "train: one annotator times ten",
        f"{TRAIN} {MINE}",
        "scale",
        lambda f: rescale(f / "mine", lambda v: 10 * v, "anna"),
    ),
    case("reproduce: scale 1-9", f"{REPRODUCE} {MINE}", "scale", lambda f: rescale(f / "mine", lambda v: 5 + 4 * v)),
    case("reproduce: songs below the clip length", f"{REPRODUCE} {MINE}", "training would stop", lambda f: None),
    case("reproduce: an unknown kind", f"{REPRODUCE} {MINE} --accept everything", "no such kind", lambda f: None),
    case("train: 1e308", f"{TRAIN} {MINE}", "scale", lambda f: rescale(f / "mine", lambda v: 1e308, "anna")),
    case(
        "train: accepted, and still impossible",
        f"{TRAIN} {MINE} --accept scale",
        "training would stop",
        lambda f: rescale(f / "mine", lambda v: 5 + 4 * v),
    ),
    case(
        "train: constant labels",
        f"{TRAIN} {MINE} --mode dmer",
        "training would stop",
        lambda f: rescale(f / "mine", lambda v: 0.5),
    ),
    case(
        "floors: nothing usable",
        f"floors {MINE}",
        "no track can be used|annotations.csv",
        lambda f: put("mine/annotations.csv", "song_id,annotator_id,time_s,arousal,valence\na,b,1,0,0\n")(f),
    ),
    case("floors: parquet is text", f"floors {MINE}", "Parquet", put("mine/annotations.parquet", "x")),
]
for name, text in {
    "text": "x",
    "a list": "[]",
    "a number": "3",
    "nested": "[" * 100_000,
    "songs are a list": '{"songs": []}',
    "twice": '{"songs": {"train": ["a"], "test": ["a"]}}',
    "annotators are a number": '{"songs": {}, "annotators": 3}',
}.items():
    ON_FOLDER.append(
        case(f"floors: split file, {name}", f"floors {MINE}", "splits.json", put("mine/splits.json", text))
    )
MARKERS = {
    "empty": "",
    "text": "corpus",
    "a list": "[]",
    "null": "null",
    "nested": "[" * 100_000,
    "no songs": '{"synthetic": true, "config": {}, "complete": true, "files": []}',
    "songs are numbers": '{"synthetic": true, "config": {}, "complete": true, "files": [], "songs": {"train": 1}}',
    "ids are numbers": '{"synthetic": true, "config": {}, "complete": true, "files": [], '
    '"songs": {"train": [1], "validation": [], "test": []}, "annotators": {"train": [], "validation": [], "test": []}}',
    "files lead outside": '{"synthetic": true, "config": {}, "files": ["../../thesis.docx"]}',
    "files are a text": '{"synthetic": true, "config": {}, "files": "thesis.docx"}',
    "config only": '{"config": {}}',
}
ON_CORPUS = [
    case(
        f"{command.split()[0]}: corpus.json, {name}",
        command,
        "corpus",
        lambda f, text=text: put("corpus/corpus.json", text)(f),
    )
    for command in (f"floors {CORPUS}", f"check {CORPUS}", f"{TRAIN} {CORPUS}", "synthesize in/corpus")
    for name, text in MARKERS.items()
]

# Arguments ------------------------------------------------------------------------------------------------------------

ANY = "train --dataset folder --root in --out out.safetensors"
USAGE = {
    "no data set": "check --dataset nothing --root in",
    "no root": "check --dataset deam",
    "no such command": "sing",
    "no such option": "check --dataset deam --root in --louder",
    "train, seed -1": f"{ANY} --seed -1",
    "train, seed 2^63": f"{ANY} --seed {LARGEST_SEED + 1}",
    "train, seed 10^30": f"{ANY} --seed {10**30}",
    "train, seed abc": f"{ANY} --seed abc",
    "train, seed 0.5": f"{ANY} --seed 0.5",
    "train, mode": f"{ANY} --mode both",
    "train, save every 0": f"{ANY} --save-every 0",
    "synthesize, seed -1": "synthesize out --seed -1",
    "synthesize, seed 10^30": f"synthesize out --seed {10**30}",
    "features, encoder": "features --dataset folder --root in --encoder ear",
    "features, workers 0": "features --dataset folder --root in --workers 0",
    "features, hop 0": "features --dataset folder --root in --hop-seconds 0",
    "predict, start abc": f"{PREDICT} --start abc",
    "reproduce, no such table": "reproduce table9",
    "reproduce, seeds 0": "reproduce --seeds 0",
    "reproduce, seeds 10^12": f"reproduce --seeds {10**12}",
    "grid, jobs 0": "grid in/grid.yaml --jobs 0",
    "parameters, variant": "parameters --variant huge",
    "train, variant": f"{ANY} --variant huge",
    "train, steps 0": f"{ANY} --steps 0",
    "reproduce, encoder": "reproduce --encoder ear",
    "reproduce, steps abc": "reproduce --steps abc",
    "evaluate, protocol": f"{EVALUATE} --protocol mine",
    "synthesize, size": "synthesize out --size huge",
    "fetch, no data set": "fetch nothing out",
}
CASES += [case(f"usage: {name}", line, "Usage|Error", code=2) for name, line in USAGE.items()]
CASES += [
    case("train: no such profile", f"{ANY} --profile huge", "profile 'huge'"),
    case("train: no such root", ANY.replace("--root in", "--root no"), "not a folder"),
    case("train: root is a file", ANY.replace("--root in", "--root in/song.wav"), "not a folder"),
    case("train: out is no model", ANY.replace("out.safetensors", "out.txt"), "safetensors"),
    case("train: no such device", f"{ANY} --device abacus", "device|abacus"),
    case("train: an empty folder", ANY, "annotations.csv"),
    case("reproduce: no root", "reproduce table1 --dataset deam", "--root is missing"),
    case("reproduce: the book on DEAM", "reproduce book --dataset deam --root in", "embedded corp"),
    case("reproduce: no such profile", "reproduce --profile huge", "profile 'huge'"),
    case("reproduce: root is a file", "reproduce table1 --dataset deam --root in/song.wav", "not a folder"),
    case("parameters: no such profile", "parameters --profile huge", "profile 'huge'"),
    case("book: not in the repository", "book", "repository's own folder"),
    case("book: no such profile", "book --profile huge", "profile 'huge'"),
    case("contract: nothing here", "contract", "no notebook there"),
    case("contract: no such notebook", "contract in/no.ipynb", "no.ipynb"),
    case("contract: audio", "contract in/song.wav", "song.wav"),
    case("contract: a pipe", "contract in/curve.csv", "curve.csv", at("curve.csv", SPECIAL["pipe"])),
    case("contract: JSON of another kind", "contract in/curves.json", "curves.json"),
    case("fetch: PMEmo", "fetch pmemo out", "PMEmo has no direct address"),
    case("fetch: no address", "fetch deam out --base-url nowhere", "not an http or https address"),
    case("fetch: a file address", "fetch deam out --base-url file:///etc", "not an http or https address"),
    case("fetch: a broken address", "fetch deam out --base-url http://[::1", "address|reached"),
    case("fetch: an address with a blank", "fetch deam out --base-url http://127.0.0.1:1/%20", "reached"),
    case("fetch: nobody answers", "fetch deam out --base-url http://127.0.0.1:1/", "cannot be reached"),
    case("fetch: into a file", "fetch deam in/song.wav --base-url http://127.0.0.1:1/", "song.wav"),
    case("template: not empty", "template in", "not an empty folder"),
    case("template: a file", "template in/song.wav", "not an empty folder"),
    case("synthesize: a file", "synthesize in/song.wav", "not a folder"),
    case("synthesize: the user's folder", "synthesize in", "nothing was touched|not empty"),
    case(
        "synthesize: thesis.docx behind .unfinished",
        "synthesize in/work",
        "work: ",
        lambda f: ((f / "work").mkdir(), (f / "work/.unfinished").touch(), (f / "work/thesis.docx").write_text("x")),
    ),
    case(
        "synthesize: thesis.docx behind corpus.json",
        "synthesize in/work",
        "work: ",
        lambda f: (
            (f / "work").mkdir(),
            (f / "work/corpus.json").write_text('{"config": {}}'),
            (f / "work/thesis.docx").write_text("x"),
        ),
    ),
    case("bench: no songs", "bench --inputs in/nothing --out out"),
    case("imagebind-audio: no weights", "imagebind-audio in/no.pth out.safetensors", "no such ImageBind checkpoint"),
    case("imagebind-audio: audio", "imagebind-audio in/song.wav out.safetensors", "not a PyTorch checkpoint"),
    case("imagebind-audio: a model", "imagebind-audio in/model.safetensors out.safetensors", "no audio weights"),
    case("imagebind-audio: another ending", "imagebind-audio in/song.wav out.txt", "must end in"),
    case("evaluate: an empty folder", EVALUATE, "annotations.csv"),
    case("evaluate: windows of clips", f"{EVALUATE} --released-windows", "goes with prefix or dmer"),
    case("evaluate: no such device", f"{EVALUATE} --device abacus", "device 'abacus' is not known"),
    case("reproduce: no such device", "reproduce --device abacus", "device 'abacus' is not known"),
    case("reproduce: half a profile", "reproduce --profile paper-", "profile 'paper-'"),
    case("import-released: audio", "import-released in/song.wav out.safetensors", "song.wav: "),
    case("import-released: nothing", "import-released in/no.pt out.safetensors", "no such checkpoint"),
    case("import-released: another ending", "import-released in/song.wav out.txt", "ends in .safetensors"),
]


def rescale(root: Path, change, who: str = "") -> None:
    """Change every label of the folder data set, or those of one annotator."""
    lines = (root / "annotations.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    rows = [[*r[:3], *(f"{change(float(v))!r}" for v in r[3:])] if who in r[1] else r for r in rows]
    (root / "annotations.csv").write_text("\n".join([lines[0], *map(",".join, rows)]) + "\n")


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "in"
    write_inputs(folder)
    return folder


@pytest.fixture(scope="session")
def data_sets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    write_deam(folder / "DEAM")
    write_deam(folder / "corpus")
    shutil.rmtree(deam.audio_folder(folder / "corpus"))
    write_template(folder / "mine")
    return folder


def idle(cases: list[Case]):
    return pytest.mark.parametrize("hostile", cases, ids=[c.name for c in cases])


def check_case(hostile: Case, folder: Path, monkeypatch, capsys) -> None:
    said = run(hostile, folder, monkeypatch, capsys)
    assert re.search(hostile.says, said), said


@idle(CASES)
def test_hostile_files_and_arguments(hostile, inputs, tmp_path, monkeypatch, capsys):
    shutil.copytree(inputs, tmp_path / "in")
    check_case(hostile, tmp_path, monkeypatch, capsys)


@idle(ON_DEAM)
def test_hostile_deam(hostile, inputs, data_sets, tmp_path, monkeypatch, capsys):
    shutil.copytree(inputs, tmp_path / "in")
    shutil.copytree(data_sets / "DEAM", tmp_path / "in" / "DEAM")
    check_case(hostile, tmp_path, monkeypatch, capsys)


@idle(ON_FOLDER)
def test_hostile_folders(hostile, inputs, data_sets, tmp_path, monkeypatch, capsys):
    shutil.copytree(inputs, tmp_path / "in")
    shutil.copytree(data_sets / "mine", tmp_path / "in" / "mine")
    check_case(hostile, tmp_path, monkeypatch, capsys)


@idle(ON_CORPUS)
def test_hostile_corpora(hostile, data_sets, tmp_path, monkeypatch, capsys):
    shutil.copytree(data_sets / "corpus", tmp_path / "in" / "corpus")
    check_case(hostile, tmp_path, monkeypatch, capsys)


def test_there_are_at_least_300_cases_and_each_has_its_own_name():
    names = [c.name for c in CASES + ON_DEAM + ON_FOLDER + ON_CORPUS]
    assert len(names) == len(set(names)) >= 300


# Real processes, and what no command line can provoke -----------------------------------------------------------------


def python(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dsaml", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=120,
    )


@pytest.mark.parametrize(
    ("odd", "shown"),
    [
        (os.fsdecode(b"caf\xe9 [b].wav"), r"caf\\udce9 \[b\]\.wav: cannot be decoded"),
        ("a\nb.wav", r"a\\nb\.wav: cannot be decoded"),
    ],
)
def test_any_name_can_be_printed_by_a_real_process(odd, shown, inputs, tmp_path):
    shutil.copytree(inputs, tmp_path / "in")
    (tmp_path / odd).write_text("no audio")
    done = python("predict", odd, *PREDICT.split()[2:], folder=tmp_path, LC_ALL="C", PYTHONIOENCODING="ascii")
    assert done.returncode == 1 and re.search(shown, done.stderr), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_pipe_does_not_hang_a_real_process(inputs, tmp_path):
    shutil.copytree(inputs, tmp_path / "in")
    SPECIAL["pipe"](tmp_path / "in" / "curve.csv")
    done = python(*PERSONALIZE.split(), folder=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: in/curve.csv: a pipe")


@pytest.mark.parametrize("size", ["abc", "-1", "2.5", "", "2"])
def test_odd_sizes_of_the_world_are_one_sentence(size, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", size)
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DsamlError, match=r"WORLD_SIZE=.*torchrun"), processes():
        pass


def test_a_mistake_of_ours_says_where_to_report_it_and_keeps_the_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("dsaml.config.get_profile", lambda name: 1 / 0)
    with pytest.raises(SystemExit) as left:
        main(["parameters"])
    said = capsys.readouterr().err
    assert left.value.code == 1 and len(said.splitlines()) == 1
    assert f"please report it {ISSUES} with the file" in said and "ZeroDivisionError" in said
    file = Path(re.search(r"with the file (\S+)", said)[1])
    assert file.parent == tmp_path and "Traceback" in file.read_text() and "1 / 0" in file.read_text()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out.csv"), "out.csv: No space left on device; check"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied"),
        (MemoryError(), "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "the GPU has not enough memory"),
        (OSError(errno.EBADF, "Bad file descriptor"), "a mistake in dsaml"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(error, says, tmp_path, monkeypatch, capsys):
    def refuse(name):
        raise error

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("dsaml.config.get_profile", refuse)
    with pytest.raises(SystemExit) as left:
        main(["parameters"])
    said = capsys.readouterr().err
    assert left.value.code == 1 and says in said and len(said.splitlines()) == 1


def test_a_damaged_feature_file_is_computed_again(data_sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ["features", "--dataset", "deam", "--root", str(data_sets / "DEAM"), "--cache", "cache"]

    def features() -> dict[str, bytes]:
        main_exits(line)
        return {file.name: load_file(file)["log_mel"].tobytes() for file in sorted(Path("cache").glob("*.safetensors"))}

    first = features()
    file = Path("cache") / next(iter(first))
    for damaged in (file.read_bytes()[:100], b"", file.read_bytes()[:-4] + b"abcd"):
        file.write_bytes(damaged)
        assert features() == first


def main_exits(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0


# Annotators that contradict the averaged label, and what stops training -----------------------------------------------


def negate(root: Path) -> None:
    for dimension in DIMENSIONS:
        for file in deam.rater_folder(root, dimension).glob("*.csv"):
            lines = file.read_text().splitlines()
            rows = [line.split(",") for line in lines[1:]]
            file.write_text(
                "\n".join([lines[0], *(",".join([r[0], *(f"{-float(v):.4f}" for v in r[1:])]) for r in rows)])
            )


def test_negated_annotators_are_found_and_can_be_accepted(data_sets, tmp_path):
    shutil.copytree(data_sets / "DEAM", tmp_path / "DEAM")
    negate(tmp_path / "DEAM")
    report = check("deam", tmp_path / "DEAM")
    assert [p.kind for p in report.problems] == ["raters", "raters"]
    assert "r = -1.00 over 4 songs, 4 of which run against it" in report.problems[0].message
    with pytest.raises(DsamlError, match=r"errors \(2 raters\).*--accept raters"):
        stop_on_errors(tmp_path, report.problems, [], [])
    stop_on_errors(tmp_path, report.problems, [], ["raters"])
    with pytest.raises(DsamlError, match="training would stop: too few"):
        stop_on_errors(tmp_path, report.problems, ["too few"], ["raters"])


def test_what_was_found_in_audio_is_remembered_by_content(data_sets, tmp_path, monkeypatch):
    root, memory = tmp_path / "DEAM", tmp_path / "memory.json"
    shutil.copytree(data_sets / "DEAM", root)
    sf.write(one_wav(root), np.zeros(RATE * 45), RATE)
    first = check("deam", root, memory=memory)
    assert [p.kind for p in first.problems] == ["audio"]
    monkeypatch.setattr("dsaml.data.checks.audio_problem", lambda path, needed: (0.0, f"decoded {path.name}"))
    again = check("deam", root, memory=memory)
    assert again.problems == first.problems and again.summary == first.summary
    sf.write(one_wav(root), np.ones(RATE * 45), RATE)  # changed: it is decoded
    assert [p.message for p in check("deam", root, memory=memory).problems] == ["decoded 1003.wav"]
    memory.write_text('{"a": 3}')
    assert len(check("deam", root, memory=memory).problems) == 4


def test_check_tells_what_would_stop_training_and_stays_ok(data_sets):
    report = check("folder", data_sets / "mine", mode="dmer")
    assert report.ok and any("no song with audio and labels in the part" in text for text in report.obstacles)
    text = "\n".join(report.lines())
    assert "stops training (dmer)" in text and "OK: 0 errors, 3 notices; training (dmer) would stop" in text
    assert json.loads(report.to_json())["training"]["obstacles"] == report.obstacles
    assert not check("folder", data_sets / "mine", labels_only=True).obstacles


def test_obstacles_count_annotators_songs_and_constant_labels(store):
    dataset = dataclasses.replace(
        store.dataset,
        songs={s: Song(s, Path("a.wav")) for s in store.dataset.songs},
        mean={s: long(a) for s, a in store.dataset.mean.items()},
        tracks={w: {s: long(a) for s, a in own.items()} for w, own in store.dataset.tracks.items()},
    )
    assert obstacles(dataset, DEMO, "dmer") == obstacles(dataset, DEMO, "pdmer") == []
    need = dataclasses.replace(DEMO, meta=dataclasses.replace(DEMO.meta, support_songs=15))
    assert re.match("2 of 2 training annotators have fewer than the 16 songs", obstacles(dataset, need, "pdmer")[0])
    few = dataclasses.replace(
        dataset, split=Split(dataset.split.songs, {"train": (), "validation": (), "test": ("test-0",)})
    )
    assert [text[:31] for text in obstacles(few, DEMO, "pdmer")] == [
        "no annotator in the part train ",
        "no annotator in the part valida",
    ]
    flat = {s: Annotation(s, "all", a.times, 0 * a.values + 0.3) for s, a in dataset.mean.items()}
    assert (
        "are constant: the arousal of 12 songs varies by"
        in obstacles(dataclasses.replace(dataset, mean=flat), DEMO, "dmer")[0]
    )
    silent = dataclasses.replace(dataset, songs=store.dataset.songs)
    assert len(obstacles(silent, DEMO, "dmer")) == 3  # no part has a song with audio
    short = {s: Annotation(s, "all", a.times[:9], a.values[:9]) for s, a in dataset.mean.items()}
    assert len(obstacles(dataclasses.replace(dataset, mean=short), DEMO, "dmer")) == 3  # no part has a song of 10 labels


def long(track: Annotation) -> Annotation:
    """The same curve five times."""
    steps = 5 * len(track)
    return Annotation(track.song_id, track.annotator_id, 15 + 0.5 * np.arange(steps), np.tile(track.values, (5, 1)))
