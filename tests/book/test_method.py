"""The method's page: its listings alone are the model and its training; its table and its shapes are the package's own."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import make_store
from sphinx.config import Config
from sphinx.directives.code import LiteralIncludeReader

import dsaml.model
from book.builder import method_page
from dsaml.audio import slices
from dsaml.audio.features import Features
from dsaml.config import PAPER, MetaConfig, released
from dsaml.learn import maml
from dsaml.learn.batches import SongStore
from dsaml.learn.loop import TrainingOptions
from dsaml.learn.tasks import Task
from dsaml.learn.training import train_maml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "book/method.md"
LISTING = re.compile(r"^```(?:\{literalinclude\} (?P<file>\S+)\n(?P<options>.*?)|python\n(?P<typed>.*?))^```$", re.S | re.M)
SIZES = {"dim": 8, "heads": 2, "layers": 2, "feed_forward": 16, "dropout": 0.0, "slice_shape": (3, 4), "fusion_linear": True}
TRAINING = {"steps": 2, "tasks_per_step": 3, "query_songs": 3, "inner_steps": 3, "inner_lr": 0.05, "learning_rate": 1e-3}


def listings() -> Iterator[str]:
    """Every listing of the page, as Sphinx reads it."""
    for found in LISTING.finditer(PAGE.read_text(encoding="utf-8")):
        if found["typed"] is not None:
            yield found["typed"]
            continue
        options = dict(re.findall(r"^:([\w-]+): (.*)$", found["options"], re.M))
        yield LiteralIncludeReader(str(PAGE.parent / found["file"]), options, Config()).read()[0]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The page's listings, one after the other, as a module of their own."""
    file = tmp_path_factory.mktemp("method") / "listings_of_the_method.py"
    file.write_text("\n\n".join(listings()), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[file.stem]


@pytest.fixture
def store() -> SongStore:
    """The small data set of the tests in double precision, so that rounding decides nothing."""
    small = make_store()
    features = {song: Features(*(part.double() for part in small.inputs(song))) for song in small.dataset.songs}
    return SongStore(small.dataset, features).clips_of(small.steps)


@pytest.fixture
def task(store: SongStore) -> Task:
    """One training listener, one support song, three query songs."""
    who = store.dataset.split.annotators["train"][0]
    first, *others = sorted(store.dataset.tracks[who])
    return Task(who, (first,), tuple(others[:3]))


def _model(module: Any, **changes: Any) -> Any:
    torch.manual_seed(0)
    return module.DSAML(module.ModelConfig(**SIZES | changes)).double()


def test_the_listings_need_nothing_of_the_package() -> None:
    code = "\n".join(listings())
    assert not re.search(r"^\s*(import|from) (dsaml|book)", code, re.M)
    assert "class DSAML" in code and "def meta_step" in code


@pytest.mark.parametrize("positions", ["relative-key", "sinusoidal"])
def test_the_listings_build_the_model(page, store, task, positions) -> None:
    mine, theirs = (_model(module, positions=positions).eval() for module in (page, dsaml.model))
    assert type(mine) is not type(theirs)
    batch = store.query([task])[0]
    first, second = (model(batch.x, batch.global_embedding) for model in (mine, theirs))
    for part, value in vars(second).items():
        torch.testing.assert_close(getattr(first, part), value)


def test_two_meta_steps_of_the_listings_are_the_packages(page, store, task) -> None:
    """Model, tasks, losses, inner and outer loop, batch statistics: the same losses, the same weights, the same listener."""
    config, own, split = MetaConfig(**TRAINING), page.MetaConfig(**TRAINING), store.dataset.split
    tracks = {who: store.dataset.tracks[who] for who in split.annotators["train"]}
    sampler = page.TaskSampler(tracks, own.tasks, own.support_songs, own.query_songs, seed=0)
    mine, theirs, start = (_model(module) for module in (page, dsaml.model, dsaml.model))

    def songs(annotator, ids):
        return page.Batch(**vars(store.batch([annotator], [ids])))

    optimizer = torch.optim.Adam(mine.parameters(), own.learning_rate)
    batches = [sampler.batch(step, own.tasks_per_step) for step in range(own.steps)]
    losses = [page.meta_step(mine, optimizer, tasks, songs, own) for tasks in batches]

    after: dict[str, torch.Tensor] = {}  # the weights after the last step, not those that were validated best

    def keep(step, total, history):
        after.update({name: value.clone() for name, value in theirs.state_dict().items()})

    history = train_maml(theirs, store, config, TrainingOptions(progress=keep))
    theirs.load_state_dict(after)
    assert losses == pytest.approx(history.loss, rel=1e-6)  # summed in single precision
    still = {name for name, value in start.state_dict().items() if torch.equal(value, after[name])}
    assert still <= {f"adapter.block{k}.conv.bias" for k in (1, 2)}  # which normalisation by the batch takes away again
    torch.testing.assert_close(mine.state_dict(), after, rtol=1e-6, atol=1e-8)

    personal = page.adapt(mine, songs(task.annotator, task.support), own)
    known = maml.adapt(theirs, store.support([task]), config)
    prediction = page.predict(mine, personal, songs(task.annotator, task.query), own)
    torch.testing.assert_close(prediction, maml.predict(theirs, known, store.query([task]), config), rtol=1e-5, atol=1e-7)


def test_log_mels_of_the_listing(page) -> None:
    audio = torch.rand(3, 22050, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(page.log_mel(audio), slices.log_mel(audio))
    assert page.log_mel(audio).shape == (3, 51, 128)


def test_settings_are_what_the_paper_and_the_released_code_say() -> None:
    paper, code = method_page.facts(ROOT / "data")
    for name, value in paper.items():
        group, field = name.split(".")
        assert getattr(getattr(PAPER, group), field) == value, name
    model = {name.removeprefix("model."): value for name, value in code.items() if name.startswith("model.")}
    model["slice_shape"] = tuple(model["slice_shape"])
    assert model == dataclasses.asdict(released(PAPER.model))


def test_every_setting_is_in_the_table_with_its_comment() -> None:
    table = method_page.settings(ROOT / "data")
    assert "| `alpha` | target of the local diagonal, Eq. 3 | `0.5` | `0.9` | `0.5` | `0.5` |" in table
    assert "| `inner_steps` | k of Eq. 4 | – | 16 | 16 | 5 |" in table
    for group in method_page.GROUPS:
        cls = type(getattr(PAPER, group))
        explained = method_page.comments(cls)
        assert all(explained[field.name] for field in dataclasses.fields(cls))
    names = {f"{g}.{field.name}" for g in method_page.GROUPS for field in dataclasses.fields(getattr(PAPER, g))}
    assert set().union(*method_page.facts(ROOT / "data")) <= names


def test_every_line_of_shapes_has_its_place() -> None:
    shapes = method_page.shapes()
    assert set(re.findall(r"<!-- method: shapes-(\w+) -->", PAGE.read_text(encoding="utf-8"))) == set(shapes)
    assert "`block1` `(120, 8, 27, 66)` → `block2` `(120, 16, 14, 34)` → `conv1x1` `(120, 1, 14, 34)`" in shapes["adapter"]
    assert "maps `(2, 3, 16, 60, 60)`" in shapes["attention"]
