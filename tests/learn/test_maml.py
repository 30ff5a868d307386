"""MAML: the stacked engine against learn2learn, finite differences and explicit copies."""

import copy
import gc

import pytest
import torch

from dsaml.config import MetaConfig, ModelConfig
from dsaml.errors import DsamlError
from dsaml.learn import maml, reference
from dsaml.learn.losses import total_loss
from dsaml.learn.maml import ADAPTED, Batch, inner_update, meta_loss, precompute, predict, stack
from dsaml.learn.reference import import_learn2learn
from dsaml.learn.training import engine
from dsaml.model.dsaml import DSAML

CONFIG = ModelConfig(dim=8, heads=2, layers=1, feed_forward=8, dropout=0.0, slice_shape=(5, 6))
META = MetaConfig(inner_steps=2, inner_lr=0.05, query_mode="eval", loss="mse")


def _batch(tasks: int, songs: int, seed: int, steps: int = 9, dtype: torch.dtype = torch.float32) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    x, embedding = draw(tasks, songs, steps, *CONFIG.slice_shape), draw(tasks, songs, 1, CONFIG.dim)
    return Batch(x, embedding, draw(tasks, songs, steps, 2))


def _model(dtype: torch.dtype = torch.float32) -> DSAML:
    torch.manual_seed(0)
    return DSAML(CONFIG).to(dtype).eval()


def _settings(**changes) -> MetaConfig:
    return MetaConfig(**{**vars(META), **changes})


@pytest.mark.parametrize("adapt", ["all", "no-adapter", "head"])
@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("loss", ["mse", "score"])
def test_both_engines_give_the_same_gradients(adapt, second_order, loss):
    config = _settings(second_order=second_order, adapt=adapt, loss=loss)
    support, query = _batch(3, 1, 1, dtype=torch.float64), _batch(3, 2, 2, dtype=torch.float64)
    gradients = {}
    for name in ("stacked", "learn2learn"):
        model = _model(torch.float64)
        meta_loss(model, support, query, config, engine(name)).sum().backward()
        gradients[name] = {n: p.grad for n, p in model.named_parameters()}
    for name, gradient in gradients["learn2learn"].items():
        torch.testing.assert_close(gradients["stacked"][name], gradient, atol=1e-6, rtol=1e-6)


def test_the_reference_engine_is_learn2learn_as_its_manual_says():
    """No code of ours but the model and the loss: clone, adapt, backward."""
    algorithms = import_learn2learn().algorithms
    config, support, query = _settings(adapt="all"), _batch(2, 1, 1), _batch(2, 2, 2)
    mine, theirs = _model(), _model()
    meta_loss(mine, support, query, config, reference.inner_update).sum().backward()
    maml = algorithms.MAML(theirs, lr=config.inner_lr, first_order=True)
    for task in range(2):
        learner = maml.clone()
        for _ in range(config.inner_steps):
            output = learner(support.x[task], support.global_embedding[task])
            learner.adapt(total_loss(output, support.target[task], config.loss, CONFIG))
        output = learner(query.x[task], query.global_embedding[task])
        total_loss(output, query.target[task], config.loss, CONFIG).backward()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("adapt", ["all", "no-adapter", "head"])
def test_both_engines_personalize_to_the_same_weights(adapt):
    config, support = _settings(adapt=adapt), _batch(3, 1, 1)
    mine, theirs = (maml.adapt(_model(), support, config, inner=engine(name)) for name in ("stacked", "learn2learn"))
    assert set(mine) == set(theirs)
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["stacked", "learn2learn"])
def test_adaptation_goes_on_where_it_stopped(name):
    config, support, inner = _settings(adapt="no-adapter"), _batch(3, 1, 1), engine(name)
    first = maml.adapt(_model(), support, config, 2, inner=inner)
    further = maml.adapt(_model(), support, config, 3, first, inner)
    for key, weight in maml.adapt(_model(), support, config, 5, inner=inner).items():
        torch.testing.assert_close(further[key], weight, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["stacked", "learn2learn"])
def test_memory_is_flat_over_200_adaptations(name):
    config, model, support = _settings(adapt="all", second_order=True), _model(), _batch(1, 1, 1)

    def tensors() -> int:
        gc.collect()
        return sum(isinstance(item, torch.Tensor) for item in gc.get_objects())

    maml.adapt(model, support, config, inner=engine(name))
    before = tensors()
    for _ in range(200):
        maml.adapt(model, support, config, inner=engine(name))
    assert tensors() <= before


def test_an_unknown_engine_is_one_sentence():
    with pytest.raises(DsamlError, match="choose one of: stacked, learn2learn"):
        engine("higher")


@pytest.mark.parametrize("adapt", ["all", "no-adapter", "head"])
def test_second_order_equals_finite_differences(adapt):
    config = _settings(second_order=True, adapt=adapt, inner_lr=0.2)
    model, support, query = (
        _model(torch.float64),
        _batch(2, 1, 3, dtype=torch.float64),
        _batch(2, 2, 4, dtype=torch.float64),
    )
    meta_loss(model, support, query, config).mean().backward()
    for name in ("predictor.output.weight", "attention.layers.0.query.weight", "adapter.block1.conv.weight"):
        parameter = dict(model.named_parameters())[name]
        index = (0,) * parameter.dim()
        values, step = [], 1e-5
        for sign in (1, -1):
            with torch.no_grad():
                parameter[index] += sign * step
            values.append(meta_loss(model, support, query, config).mean().item())
            with torch.no_grad():
                parameter[index] -= sign * step
        assert parameter.grad[index].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6, abs=1e-10)


def test_first_order_equals_an_explicit_copy():
    config = _settings(adapt="all")
    model, support, query = (
        _model(torch.float64),
        _batch(1, 1, 5, dtype=torch.float64),
        _batch(1, 2, 6, dtype=torch.float64),
    )
    meta_loss(model, support, query, config).sum().backward()
    adapted = copy.deepcopy(model)
    adapted.zero_grad()
    optimizer = torch.optim.SGD(adapted.parameters(), lr=config.inner_lr)
    for _ in range(config.inner_steps):
        optimizer.zero_grad()
        total_loss(
            adapted(support.x[0], support.global_embedding[0]), support.target[0], config.loss, CONFIG
        ).backward()
        optimizer.step()
    optimizer.zero_grad()
    total_loss(adapted(query.x[0], query.global_embedding[0]), query.target[0], config.loss, CONFIG).backward()
    for mine, theirs in zip(model.parameters(), adapted.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("adapt", ["all", "no-adapter", "head"])
def test_adaptation_changes_only_what_it_names_and_never_the_base(adapt):
    model, support = _model(), _batch(2, 1, 7)
    before = copy.deepcopy(model.state_dict())
    config = _settings(adapt=adapt)
    weights = maml.adapt(model, support, config)
    assert set(weights) == {name for name, _ in model.named_parameters() if name.startswith(ADAPTED[adapt])}
    assert any(not torch.equal(weights[name][0], weights[name][1]) for name in weights)  # tasks differ
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("adapt", ["all", "no-adapter", "head"])
def test_zero_steps_is_the_base_model(adapt):
    model, support, query = _model(), _batch(2, 1, 8), _batch(2, 3, 9)
    config = _settings(adapt=adapt)
    weights = maml.adapt(model, support, config, steps=0)
    with torch.no_grad():
        plain = model(query.x[1], query.global_embedding[1]).prediction
    torch.testing.assert_close(predict(model, weights, query, config)[1], plain, atol=1e-6, rtol=1e-5)


def test_tasks_do_not_touch_each_other():
    model, support, query = _model(), _batch(3, 1, 10), _batch(3, 2, 11)
    config = _settings(adapt="no-adapter")
    together = predict(model, maml.adapt(model, support, config), query, config)
    alone = predict(model, maml.adapt(model, support[1:2], config), query[1:2], config)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


def test_inner_steps_lower_the_support_loss():
    model, support = _model(), _batch(4, 1, 12)
    config = _settings(adapt="no-adapter", inner_steps=20, inner_lr=0.1)
    ready = precompute(model, support, config.adapt)

    def loss(steps: int) -> torch.Tensor:
        weights = inner_update(model, stack(model, config.adapt, 4), ready, config, steps)
        return (predict(model, weights, support, config) - support.target).square().mean((1, 2, 3))

    assert (loss(20) < loss(0)).all()


def test_dropout_is_off_at_test_whatever_the_model_was_in():
    torch.manual_seed(0)
    model = DSAML(ModelConfig(**{**vars(CONFIG), "dropout": 0.5})).train()
    support, query = _batch(1, 1, 13), _batch(1, 2, 14)
    first, second = (predict(model, maml.adapt(model, support, META), query, META) for _ in range(2))
    assert torch.equal(first, second)
    assert model.training
