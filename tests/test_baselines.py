"""The baselines: DSAML's calls, both kinds of training, many tasks at once as one after the other."""

import copy
from dataclasses import replace

import conftest
import pytest
import torch
from torch.func import functional_call

from dsaml.audio.features import Features
from dsaml.baselines import BASELINES, Baseline, BaselineConfig, make_baseline
from dsaml.config import MetaConfig, SupervisedConfig
from dsaml.errors import DsamlError
from dsaml.learn.batches import SongStore
from dsaml.learn.loop import TrainingOptions
from dsaml.learn.maml import Batch, adapt, meta_loss, predict
from dsaml.learn.training import train_maml, train_supervised
from dsaml.model.layers import BiGRU, BiLSTM

META = MetaConfig(inner_steps=3, inner_lr=0.05, query_mode="eval", adapt="all", loss="mse")
TASKS = 3
LINE_UP = {"atol": 1e-6, "rtol": 1e-6}


def _model(name: str) -> Baseline:
    torch.manual_seed(0)
    config = BaselineConfig(name, width=0.25, slice_shape=(13, 32), samples=800, dropout=0.0)
    return make_baseline(config).double().eval()


def _batch(model: Baseline, songs: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    shape = (model.config.samples,) if model.config.raw else model.config.slice_shape

    def draw(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=generator, dtype=torch.float64)

    return Batch(draw(TASKS, songs, 6, *shape), draw(TASKS, songs, 1, 2), draw(TASKS, songs, 6, 2))


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", BASELINES)
def test_tasks_at_once_are_tasks_one_by_one(name, mode, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.ones(shape, dtype=torch.float64))  # MCRNN's gain
    monkeypatch.setattr(torch, "randint", lambda low, high, shape, **_: torch.zeros(shape, dtype=torch.long))
    config = replace(META, inner_mode=mode, query_mode=mode, test_mode=mode)
    model = _model(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    support, query = _batch(model, 1, 1), _batch(model, 2, 2)
    together = adapt(model, support, config)
    predictions = predict(model, together, query, config)
    for task in range(TASKS):
        one = slice(task, task + 1)
        alone = adapt(model, support[one], config)
        for key, weight in alone.items():
            torch.testing.assert_close(together[key][task], weight[0], **LINE_UP)
        torch.testing.assert_close(predictions[task], predict(model, alone, query[one], config)[0], **LINE_UP)
    assert all(not torch.equal(weight[0], before[key]) for key, weight in together.items() if "dense" in key)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())  # batch statistics too


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("name", BASELINES)
def test_gradients_of_a_meta_step_are_those_of_its_tasks(name, second_order):
    config = replace(META, second_order=second_order)
    gradients = []
    for sizes in ([slice(0, TASKS)], [slice(task, task + 1) for task in range(TASKS)]):
        model = _model(name)
        support, query = _batch(model, 1, 1), _batch(model, 2, 2)
        for part in sizes:
            meta_loss(model, support[part], query[part], config).sum().backward()
        gradients.append({key: parameter.grad for key, parameter in model.named_parameters()})
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][key], **LINE_UP)
        assert gradient.abs().sum() > 0, key


@pytest.mark.parametrize(("ours", "theirs"), [(BiGRU, torch.nn.GRU), (BiLSTM, torch.nn.LSTM)])
def test_recurrent_layers_are_torchs_own(ours, theirs):
    torch.manual_seed(0)
    layer = ours(3, 4).double()
    own = theirs(3, 4, batch_first=True, bidirectional=True).double()
    own.load_state_dict(layer.state_dict())
    x = torch.randn(2, 5, 7, 3, dtype=torch.float64)  # tasks, songs, steps
    other = {key: weight + 0.1 * torch.randn_like(weight) for key, weight in layer.named_parameters()}
    stacked = {key: torch.stack((weight, other[key])) for key, weight in layer.named_parameters()}
    out = functional_call(layer, stacked, x)
    torch.testing.assert_close(layer(x[0]), own(x[0])[0])
    torch.testing.assert_close(out[0], own(x[0])[0])
    own.load_state_dict(other)
    torch.testing.assert_close(out[1], own(x[1])[0])


SMALL = {"width": 0.25, "slice_shape": (13, 64), "samples": 1600}


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_take_dsamls_calls(name):
    config = BaselineConfig(name, **SMALL)
    torch.manual_seed(0)
    model = make_baseline(config).eval()
    x = torch.randn(2, 7, 1600) if config.raw else torch.randn(2, 7, 13, 64)
    output = model(x, torch.randn(2, 1, 5))
    assert output.prediction.shape == (2, 7, 2) and output.attention_local is None
    alone = model(x[1:]).prediction
    torch.testing.assert_close(output.prediction[1:], alone, atol=1e-5, rtol=1e-4)
    with pytest.raises(DsamlError, match=f"{name} wants slices of"):
        model(torch.randn(2, 7, 3))


@pytest.mark.parametrize("name", ["crnn", "damff"])
def test_baselines_train_plainly_and_with_maml(name, store):
    config = BaselineConfig(name, width=0.25, slice_shape=(16, 64))
    wide = {s: Features(torch.randn(12, 16, 64), torch.zeros(1, 0)) for s in store.dataset.songs}
    store = SongStore(store.dataset, wide).clips_of(12)
    model = make_baseline(config)
    plain = train_supervised(model, store, SupervisedConfig(steps=2, batch_size=3), TrainingOptions(validate_every=2))
    assert len(plain.loss) == 2
    meta = replace(conftest.META, adapt="all", train_adapter=True, tasks_at_once=1, steps=2)
    trained = []
    for engine in ("stacked", "learn2learn"):
        own = copy.deepcopy(model)
        history = train_maml(own, store, replace(meta, engine=engine, query_mode="eval"), TrainingOptions(validate_every=2))
        trained.append((history.loss, own.state_dict()))
    assert trained[0][0] == pytest.approx(trained[1][0], abs=1e-5)
    for name, tensor in trained[0][1].items():
        torch.testing.assert_close(tensor, trained[1][1][name], atol=1e-4, rtol=1e-3)


def test_mcrnn_augments_in_training_only():
    model = make_baseline(BaselineConfig("mcrnn", **SMALL))
    x = torch.randn(1, 3, 1600)
    for dropout in [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]:
        dropout.p = 0.0
    model.train()
    assert not torch.equal(model(x).prediction, model(x).prediction)
    model.eval()
    assert torch.equal(model(x).prediction, model(x).prediction)


def test_an_unknown_baseline_is_one_sentence():
    with pytest.raises(DsamlError, match="choose one of: crnn, dnn, mcrnn, damff"):
        make_baseline(BaselineConfig("rnn"))
