"""Grids: every run once, failures by themselves, the loss of a worker."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from dsaml.audio.encoders import MelEncoder
from dsaml.audio.features import FeatureCache
from dsaml.audio.song import Song
from dsaml.cli.main import app
from dsaml.config import DEMO, AudioConfig
from dsaml.errors import DsamlError
from dsaml.experiment.cluster import compute_features
from dsaml.experiment.grid import GridRun, as_rows, read_grid, record_of, run_grid
from dsaml.experiment.prepare import Source
from dsaml.experiment.results import provenance, write_result

GRID = """
datasets: [{name: synthetic, root: corpus}, {name: deam, root: other}]
modes: [dmer, pdmer]
seeds: [0, 1]
"""


def small_job(run: GridRun, out: Path) -> None:
    """Writes a record, and beside ``out`` a line for each time that it was started."""
    with open(out.parent / "starts", "a") as lines:
        lines.write(f"{run.name} {os.getpid()}\n")
    if run.seed == 13:
        raise ValueError("unlucky")
    time.sleep(0.3)
    rows = {run.name: {d: {"ccc": {"mean": run.seed / 10}} for d in ("arousal", "valence")}}
    write_result(
        out / f"{run.name}.json", {"rows": rows}, provenance(DEMO, None, seeds=[run.seed], seconds=0, real=False)
    )


def _runs(seeds) -> list[GridRun]:
    return [GridRun(Source("synthetic", Path("corpus")), "demo", "pdmer", seed) for seed in seeds]


def _starts(cache: Path) -> list[str]:
    return (cache / "starts").read_text().splitlines()


def test_a_grid_is_every_combination(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    runs = read_grid(tmp_path / "grid.yaml")
    assert len(runs) == len({run.name for run in runs}) == 8
    assert runs[0].name == "synthetic-corpus-demo-dmer-0"


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "has no 'datasets'"),
        ("a: [", "not a YAML file"),
        (GRID + "learning_rates: [1]", "'learning_rates' is not known"),
        (GRID.replace("[0, 1]", "0"), "'seeds' is not a list"),
        (GRID.replace("dmer, pdmer", "both"), "modes: 'both' does not exist"),
        (GRID.replace("root: other", "path: other"), "has a name and a root"),
        (GRID.replace("[0, 1]", "[a]"), "seed 'a' is not a whole number"),
        (GRID + "profiles: [huge]", "profiles: 'huge' does not exist"),
    ],
)
def test_a_bad_grid_is_one_sentence(text, said, tmp_path):
    (tmp_path / "grid.yaml").write_text(text)
    done = CliRunner().invoke(app, ["grid", str(tmp_path / "grid.yaml")])
    assert done.exit_code == 1 and isinstance(done.exception, DsamlError) and said in str(done.exception)


def test_runs_are_done_once_and_failures_stay_by_themselves(tmp_path):
    runs = _runs([1, 13, 2])
    failed = run_grid(runs, tmp_path / "out", jobs=2, job=small_job)
    assert failed == {runs[1].name: "ValueError: unlucky"}
    assert [row["arousal"] for row in as_rows(runs, tmp_path / "out")] == [0.1, 0.2]
    (tmp_path / "out" / f"{runs[0].name}.json").write_text("half a fi")  # a record that cannot be read is made again
    assert run_grid(runs, tmp_path / "out", jobs=1, job=small_job)
    started = [line.split()[0] for line in _starts(tmp_path)]
    assert [started.count(run.name) for run in runs] == [2, 2, 1]


def test_a_dask_cluster_survives_the_loss_of_a_worker(tmp_path):
    distributed = pytest.importorskip("distributed")
    runs = _runs(range(12))
    with distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        victim = next(iter(cluster.workers.values())).pid
        killed: list[int] = []

        def kill() -> None:
            while not (tmp_path / "starts").is_file() or str(victim) not in (tmp_path / "starts").read_text():
                time.sleep(0.02)
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

        import threading

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        failed = run_grid(runs, tmp_path / "out", scheduler=cluster.scheduler_address, job=small_job)
        thread.join(10)
    assert killed == [victim] and failed == {}
    assert all(record_of(run, tmp_path / "out") for run in runs)


def test_features_on_a_cluster_are_computed_once_and_an_error_names_the_file(tmp_path):
    """Workers put them into the common folder; what is there already, from here or from a stopped call, is left."""
    distributed = pytest.importorskip("distributed")
    rng, songs = np.random.default_rng(0), {}
    for name in "abcdef":
        soundfile.write(tmp_path / f"{name}.wav", rng.normal(0, 0.1, 17 * 8000), 8000)
        songs[name] = Song(name, tmp_path / f"{name}.wav"), 4
    cache = FeatureCache(tmp_path / "features", AudioConfig(sample_rate=8000), MelEncoder(8, AudioConfig(sample_rate=8000)))
    assert cache.make(*songs["c"])
    calls: list[tuple[int, int]] = []
    with distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        assert compute_features(cache, songs, address, lambda done, total: calls.append((done, total))) == 5
        assert compute_features(cache, songs, address) == 0 and cache.compute(songs) == 0
        with pytest.raises(DsamlError, match=r"nowhere\.wav"):
            compute_features(cache, {"x": (Song("x", tmp_path / "nowhere.wav"), 4)}, address)
    assert calls == [(k, 6) for k in range(1, 7)]


def test_a_scheduler_that_is_not_there_is_one_sentence(tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(DsamlError, match="no Dask scheduler answers there"):
        run_grid(_runs([0]), tmp_path, scheduler="tcp://127.0.0.1:9", job=small_job)
