"""The embedded corpus: layout, determinism, structure of the listeners."""

import dataclasses
import hashlib
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import soundfile as sf
from filelock import FileLock

from dsaml.config import PAPER
from dsaml.data import load_dataset
from dsaml.data.annotations import MEAN
from dsaml.data.checks import check, obstacles
from dsaml.data.deam import AUDIO
from dsaml.data.synthetic import corpus as synthetic
from dsaml.data.synthetic.population import (
    CONFIGS,
    SMALL,
    CorpusConfig,
    Listener,
    make_controls,
    make_listeners,
    make_plans,
    true_curve,
)
from dsaml.data.synthetic.sound import CONTROLS, SAMPLE_RATE, render
from dsaml.errors import DsamlError
from dsaml.evaluate.protocols import prefix_questions
from dsaml.learn.batches import SongStore
from dsaml.learn.training import cross_song_tasks

TINY = CorpusConfig(**SMALL)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = synthetic.synthesize(tmp_path_factory.mktemp("corpus") / "tiny", TINY)
    return load_dataset("synthetic", root)


def test_it_loads_through_the_deam_loader_with_every_track(corpus):
    assert not corpus.real and corpus.name == "synthetic"
    assert len(corpus.songs) == 37 and len(corpus.mean) == 37
    assert {part: len(ids) for part, ids in corpus.split.annotators.items()} == {"train": 4, "validation": 1, "test": 2}
    for part, songs in corpus.split.songs.items():
        for who in corpus.split.annotators[part]:
            assert set(songs) <= set(corpus.tracks[who]), (part, who)
    long_song = corpus.songs[corpus.split.songs["test"][-1]]
    assert not long_song.clip and len(corpus.mean[long_song.id]) >= 150
    assert sum(song.clip for song in corpus.songs.values()) == 36


def test_deam_loader_on_the_same_folder_never_calls_it_real(corpus):
    assert not load_dataset("deam", corpus.root).real


def test_a_small_corpus_is_enough_for_the_papers_tasks_and_for_both_protocols(corpus):
    dataset = load_dataset("deam", corpus.root)
    assert obstacles(dataset, PAPER, "pdmer") == [] == obstacles(dataset, PAPER, "dmer")
    store = SongStore(dataset, {})
    assert len(prefix_questions(store)) == 2  # of each listener about the long song
    assert all(cross_song_tasks(store, part, 1) for part in ("validation", "test"))


def test_the_default_corpus_is_the_one_that_results_were_computed_on(tmp_path):
    """SHA-256 of the label files of three songs, from before there was a second population."""
    config = CorpusConfig(
        train_songs=1, validation_songs=1, test_songs=1, long_songs=0, train_listeners=4, ratings_per_song=2
    )
    root = synthetic.synthesize(tmp_path, config, workers=1)
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.csv")):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    assert total.hexdigest() == "2c44a5d7d05704f772e83e60281ad46e25a20e7349a9dd9eac1ef996adc22b57"


def test_the_stress_test_has_the_same_songs_and_is_no_default_corpus(tmp_path):
    roots = {}
    for population, config in CONFIGS.items():
        small = dataclasses.replace(
            config, train_songs=1, validation_songs=1, test_songs=1, long_songs=0, train_listeners=16
        )
        roots[population] = synthetic.synthesize(tmp_path / population, small, workers=1)
    one, other = (
        {p.name: p.read_bytes() for p in (root / AUDIO).iterdir()} for root in roots.values()
    )
    assert one == other and len(one) == 3
    root = roots["continuous"]
    assert check("stress", root).ok
    assert synthetic.config(root).population == "continuous"
    dataset = load_dataset("stress", root)
    assert dataset.name == "stress" and not dataset.real
    assert load_dataset("deam", root).name == "stress"  # whatever it is loaded as
    with pytest.raises(DsamlError, match="holds the data set stress, not synthetic"):
        load_dataset("synthetic", root)
    with pytest.raises(DsamlError, match="holds the data set synthetic, not stress"):
        load_dataset("stress", roots["two-signs"])


def test_listeners_of_the_stress_test_make_no_two_camps():
    """Two listeners' tastes agree by any amount: the default's are near +1 or -1, the others' spread around 0."""
    shares = {}
    for population, config in CONFIGS.items():
        config = dataclasses.replace(config, test_listeners=60, gain_spread=0.0, offset_spread=0.0)
        plans = [p for p in make_plans(config) if p.part == "test" and p.steps == 90]
        average = {p.song_id: true_curve(config, *_world(config, p), None) for p in plans}
        tastes = np.stack(
            [
                np.concatenate([true_curve(config, *_world(config, p), person) - average[p.song_id] for p in plans])
                for person in make_listeners(config, "test")
            ]
        )
        for d in (0, 1):
            alike = np.corrcoef(tastes[..., d])[np.triu_indices(60, 1)]
            shares[population, d] = np.mean(np.abs(alike) > 0.8)
    assert all(share > 0.95 for (population, _), share in shares.items() if population == "two-signs")
    assert all(share < 0.15 for (population, _), share in shares.items() if population == "continuous")


def _world(config, plan):
    return make_controls(config, plan.song_id, plan.steps, plan.flat)


def test_averaged_label_is_the_mean_of_the_tracks(corpus):
    song = corpus.split.songs["test"][0]
    tracks = [corpus.tracks[who][song].values for who in corpus.split.annotators["test"]]
    np.testing.assert_allclose(corpus.mean[song].values, np.mean(tracks, 0), atol=1e-5)


def test_oracle_is_close_to_the_ratings_and_split_parts_are_disjoint(corpus):
    for who in corpus.split.annotators["test"]:
        for song in corpus.split.songs["test"]:
            gap = corpus.oracle[who][song].values - corpus.tracks[who][song].values
            assert np.sqrt(np.mean(gap**2)) < 3 * TINY.noise
    assert MEAN in corpus.oracle
    everyone = [who for part in corpus.split.annotators.values() for who in part]
    assert len(everyone) == len(set(everyone))


def test_audio_is_as_long_as_its_labels_and_the_same_each_time(corpus, tmp_path):
    song = corpus.songs["1001"]
    samples, rate = sf.read(song.audio)
    assert rate == SAMPLE_RATE and abs(len(samples) / rate - 45.0) < 0.2 and np.abs(samples).max() < 1
    again = synthetic.synthesize(
        tmp_path / "again", dataclasses.replace(TINY, train_songs=1, validation_songs=0, test_songs=1, long_songs=0), workers=1
    )
    first = (again / "DEAM_audio" / "MEMD_audio" / "1001.mp3").read_bytes()
    assert first == song.audio.read_bytes()


def test_opposite_listeners_disagree_in_shape_not_only_in_offset():
    config = CorpusConfig()
    correlations = []
    for song in range(2001, 2021):
        controls, bells = make_controls(config, song, 90, flat=False)
        curves = [true_curve(config, controls, bells, Listener("x", (z, z), (1, 1), (0, 0), 1.5)) for z in (-1.0, 1.0)]
        correlations.append([np.corrcoef(curves[0][:, d], curves[1][:, d])[0, 1] for d in (0, 1)])
    assert (np.mean(correlations, 0) < 0.2).all()


def test_sign_combinations_are_balanced():
    signs = np.sign([person.z for person in make_listeners(CorpusConfig(), "train")])
    assert abs(signs.mean(0)).max() == 0 and (signs.prod(1)).mean() == 0


def test_the_bell_lifts_the_mood_8_to_15_seconds_later_and_nothing_before():
    config = dataclasses.replace(CorpusConfig(), noise=0.0)
    controls = np.zeros((90, len(CONTROLS)))
    without, with_bell = (true_curve(config, controls, bells, None) for bells in ((), (20.0,)))
    lift = with_bell - without
    times = 15 + 0.5 * np.arange(60)
    assert np.abs(lift[times < 28]).max() == 0
    assert (lift[(times > 30) & (times < 35)] > 0.2).all()


def test_every_control_changes_the_sound():
    base = np.zeros((20, len(CONTROLS)))
    reference = render(base, (), np.random.default_rng(0))
    for k in range(len(CONTROLS)):
        changed = base.copy()
        changed[:, k] = 0.9
        assert not np.allclose(render(changed, (), np.random.default_rng(0)), reference), CONTROLS[k]


SMALLEST = dataclasses.replace(
    TINY, train_songs=1, validation_songs=1, test_songs=1, long_songs=0, train_listeners=4, ratings_per_song=2
)


def _content(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "marker",
    [
        {},
        {".unfinished": b""},
        {"corpus.json": b'{"config": {}}'},
        {"corpus.json": b'{"synthetic": true, "config": {}, "files": ["thesis.docx"]}'},
        {"corpus.json": b'{"synthetic": true, "config": {}, "files": ["oracle/../thesis.csv"]}'},
        {"corpus.json": b'{"synthetic": true, "config": {}, "files": "thesis.docx"}'},
        {"corpus.json": b'{"synthetic": true, "config": {}, "files": []}'},
        {"corpus.json": b"[1]"},
        {"corpus.json": b"\xff"},
        {".lock": b""},
    ],
)
def test_a_folder_with_something_else_is_left_alone_whatever_lies_beside_it(tmp_path, marker):
    for name, content in {"thesis.docx": b"precious", "thesis.csv": b"1,2", **marker}.items():
        (tmp_path / name).write_bytes(content)
    before = _content(tmp_path)
    with pytest.raises(DsamlError, match=r"another folder|empty or new"):
        synthetic.synthesize(tmp_path, SMALLEST)
    assert _content(tmp_path) == before
    with pytest.raises(DsamlError, match=r"corpus\.json.*missing"):
        load_dataset("synthetic", tmp_path)


def test_another_configuration_replaces_only_the_files_that_the_first_one_listed(tmp_path):
    root = synthetic.synthesize(tmp_path / "corpus", dataclasses.replace(SMALLEST, test_songs=2), workers=1)
    (root / "mine").mkdir()  # an empty folder of the user's
    synthetic.synthesize(root, SMALLEST, workers=1)
    files = set(_content(root)) - {".lock", "corpus.json"}
    assert files == set(synthetic.describe(root)["files"]) and (root / "mine").is_dir()
    (root / "oracle" / "notes.txt").write_text("precious")
    before = _content(root)
    with pytest.raises(DsamlError, match=r"holds oracle/notes\.txt.*nothing was touched"):
        synthetic.synthesize(root, dataclasses.replace(SMALLEST, seed=1), workers=1)
    assert _content(root) == before


def test_a_file_that_became_a_link_is_never_followed(tmp_path):
    root = synthetic.synthesize(tmp_path / "corpus", SMALLEST, workers=1)
    precious = tmp_path / "thesis.docx"
    precious.write_text("precious")
    song = root / "DEAM_audio/MEMD_audio/1001.mp3"
    song.unlink()
    song.symlink_to(precious)
    with pytest.raises(DsamlError, match="nothing was touched"):
        synthetic.synthesize(root, dataclasses.replace(SMALLEST, seed=1), workers=1)
    assert precious.read_text() == "precious" and song.is_symlink()


def test_a_killed_run_is_finished_by_the_next_one_and_two_runs_wait_for_each_other(tmp_path):
    root = tmp_path / "corpus"

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthetic.synthesize(root, SMALLEST, workers=1, progress=stop)
    with pytest.raises(DsamlError, match="incomplete"):
        synthetic.describe(root)
    with ProcessPoolExecutor(2) as pool:
        done = [pool.submit(synthetic.synthesize, root, SMALLEST, 1) for _ in range(2)]
        assert [job.result() for job in done] == [root, root]
    alone = synthetic.synthesize(tmp_path / "alone", SMALLEST, workers=1)
    assert _content(root) == _content(alone)


def test_what_another_run_is_just_doing_is_looked_at_again_when_it_has_ended(tmp_path):
    """Between the old files and the new marker there are files that nobody lists: no reason to refuse the folder."""
    root = tmp_path / "corpus"
    half = root / "DEAM_Annotations/half.csv"
    half.parent.mkdir(parents=True)
    half.touch()
    with ThreadPoolExecutor(1) as pool:
        with FileLock(root / ".lock"):
            waiting = pool.submit(synthetic.synthesize, root, SMALLEST, 1)
            time.sleep(1)
            assert not waiting.done()
            half.unlink()
        assert waiting.result() == root
    assert synthetic.describe(root)["complete"]


def test_calibration_has_the_spread_of_real_disagreement():
    """On the full-size generator, from labels alone: disagreement near emoMusic's .337 / .312, test songs near DEAM's .151."""
    config, spread = CorpusConfig(), []
    listeners = make_listeners(config, "test")
    for song in range(2001, 2021):
        controls, bells = make_controls(config, song, 90, flat=False)
        curves = np.stack([true_curve(config, controls, bells, person) for person in listeners])
        spread.append([curves.std(0).mean(0), curves.mean(0).std(0)])
    disagreement, within = np.mean(spread, 0)
    assert (np.abs(disagreement - 0.325) < 0.05).all()
    assert (np.abs(within - 0.15) < 0.04).all()
