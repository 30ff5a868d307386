"""The arena: every method keeps the four calls, sees no test part, and does what it is named after on a world that it can solve."""

import dataclasses

import numpy as np
import pytest
import torch

from dsaml.arena.base import ArenaConfig, Backbone, Prediction, atanh
from dsaml.arena.fit import ask, continued, draw_tasks, fit, mean_ccc
from dsaml.arena.low_rank import LowRank
from dsaml.arena.methods import METHODS
from dsaml.arena.uncertainty import calibrate, uncertainty
from dsaml.arena.world import Asked, World
from dsaml.config import DIMENSIONS
from dsaml.errors import DsamlError
from dsaml.learn.loop import TrainingOptions
from dsaml.learn.losses import sequence_scores
from dsaml.learn.tasks import Task

STEPS, INPUTS = 12, 6
CONFIG = ArenaConfig(width=8, songs_per_step=8, validate_every=20)
CONFIG = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, steps=2, query_songs=2))


def world(listeners: int = 6, songs: int = 10, seed: int = 0) -> World:
    """Songs are smooth noise; a listener hears the first input, and a second one with a sign of their own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(songs, STEPS, INPUTS)).cumsum(1) / 2
    signs = np.resize([[1, -1], [-1, 1]], (listeners, 2))  # (listeners, 2)
    y = np.tanh(x[None, ..., :2] * 0.3 + signs[:, None, None] * x[None, ..., 2:4] * 0.8)
    y[0, 0] = np.nan  # not rated
    x, y = (torch.tensor(values, dtype=torch.float32) for values in (x, y))
    names = (tuple(f"{kind}{n}" for n in range(count)) for kind, count in (("s", songs), ("w", listeners)))
    return World(*names, x, y, torch.zeros(INPUTS), torch.ones(INPUTS))


def make(name: str, config: ArenaConfig = CONFIG):
    torch.manual_seed(0)
    return METHODS[name](Backbone(INPUTS, config), config).eval()


def tensors(of: World, tasks: list[Task]):
    """Support songs and labels, query songs and labels."""
    part = of.asked(tasks)
    return of.x[part.support], part.y, of.x[part.query], part.target


def answer(method, x, y, query) -> Prediction:
    with torch.no_grad():
        return method.predict(method.adapt(method.encode(x), y), method.encode(query))


def some_tasks(of: World) -> list[Task]:
    return [Task(who, ("s1",), ("s2", "s3", "s4")) for who in of.listeners]


@pytest.mark.parametrize("name", METHODS)
def test_each_listener_is_adapted_to_alone(name):
    """A listener's prediction does not depend on who else is in the call, and less known labels are allowed."""
    here = world()
    x, y, query, _ = tensors(here, some_tasks(here))
    method = make(name)
    together = answer(method, x, y[..., :5, :], query)
    alone = answer(method, x[2:3], y[2:3, ..., :5, :], query[2:3])
    torch.testing.assert_close(together.mean[2:3], alone.mean, rtol=1e-4, atol=1e-5)
    assert together.mean.shape == (6, 3, STEPS, 2)
    state = method.adapt(method.encode(x), y)
    assert all(len(tensor) == 6 for tensor in state.values())
    assert method.size(state) >= 0 and (method.size(state) > 0) == (name != "no adaptation")


@pytest.mark.parametrize("name", METHODS)
def test_training_moves_the_weights_and_keeps_its_promises(name):
    method, here = make(name), world()
    before = {key: tensor.clone() for key, tensor in method.state_dict().items()}
    history = fit(method, here, here.batches(some_tasks(here)), TrainingOptions())
    changed = any(not torch.equal(before[key], tensor) for key, tensor in method.state_dict().items())
    if method.start:
        assert history is None
        assert changed == (name == "offset and gain, shrunken")  # the others have nothing of their own to learn
    else:
        assert len(history.loss) == 2 and np.isfinite(history.loss).all()
    assert method.settings in [dict(settings) for settings in method.grid]


@pytest.mark.parametrize(
    "name",
    [
        *("ridge head (R2D2)", "listener prototypes", "low-rank Bayesian listener", "CAVIA", "ANIL"),
        *("neural process", "transformer in context"),
    ],
)
def test_what_one_song_tells_is_learned(name):
    """On listeners who differ by a sign a method that adapts beats the same curve for everybody by far."""
    config = dataclasses.replace(CONFIG, noise=0.0, dropout=0.0, width=16)
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=150))
    train, held_out = world(8, 24, 1), world(4, 8, 2)
    scores = {}
    for each in ("no adaptation", name):
        method = make(each, config)
        asked = held_out.batches(some_tasks(held_out))
        fit(method, train, asked, TrainingOptions())
        scores[each] = mean_ccc(method, asked)
    assert scores[name] > scores["no adaptation"] + 0.2


def test_second_order_gradients_go_through_the_inner_steps():
    """The gradient of the loss after one inner step of a rate, against finite differences: the first-order one is another."""
    here = world()
    x, y, query, target = (t.double() for t in tensors(here, some_tasks(here)))
    found = {}
    for second in (False, True):
        config = CONFIG.tuned({"second_order": second, "inner_steps": 1, "inner_lr": 0.5, "dropout": 0.0})
        method = make("ANIL", config).double().train()
        support, asked = (method.encode(part).detach() for part in (x, query))
        method.loss(support, y, asked, target).backward()
        found[second] = method.base.bias.grad[0].item()
        step = 1e-5
        with torch.no_grad():
            ends = []
            for sign in (1, -1):
                method.base.bias[0] += sign * step
                ends.append(method.loss(support, y, asked, target).item())
                method.base.bias[0] -= sign * step
    assert found[True] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4)
    assert found[False] != pytest.approx(found[True], rel=1e-2)


def test_a_shift_takes_away_the_mean_error_on_the_support():
    here, method = world(), make("shift")
    x, y, _, _ = tensors(here, some_tasks(here))
    again = answer(method, x, y, x).mean  # asked about the support songs themselves
    torch.testing.assert_close(again.mean((1, 2)), y.mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_offset_and_gain_find_what_a_listener_does_to_the_curve():
    """Listeners whose labels are offset + gain * curve are told exactly, with a prior that they give."""
    here, method = world(), make("offset and gain, shrunken")
    h = method.encode(here.x)
    curves = method.average(h).tanh().detach()
    gains = torch.linspace(0.5, 1.5, 6)[:, None, None, None]
    y = 0.1 * (gains - 1) + gains * curves
    with torch.no_grad():
        method.prepare(h, y)
    who = tensors(here, some_tasks(here))
    own = answer(method, who[0], y[:, 1:2], who[2]).mean
    torch.testing.assert_close(own, y[:, 2:5], rtol=1e-2, atol=1e-3)


def test_the_low_rank_posterior_is_bayesian_linear_regression():
    """Against the textbook formula in double precision, one listener and dimension at a time."""
    here, method = world(), make(LowRank.name).double()
    x, y, query, _ = (t.double() for t in tensors(here, some_tasks(here)))
    h, asked = method.encode(x), method.encode(query)
    state = method.adapt(h, y)
    prediction = method.predict(state, asked)
    noise = torch.nn.functional.softplus(method.noise)
    for k, d in ((0, 0), (3, 1)):
        basis = method.basis(h[k, 0])[:, d]  # (T, RANK + 1)
        residual = atanh(y[k, 0])[:, d] - method.average(h[k, 0])[:, d]
        precision = basis.T @ basis / noise[d] ** 2 + torch.eye(basis.shape[-1], dtype=torch.double)
        mean = torch.linalg.solve(precision, basis.T @ residual / noise[d] ** 2)
        torch.testing.assert_close(state["w"][k, d], mean)
        rows = method.basis(asked[k, 1])[:, d]
        curve = (method.average(asked[k, 1])[:, d] + rows @ mean).tanh()
        spread = (rows @ torch.linalg.inv(precision) * rows).sum(-1)
        torch.testing.assert_close(prediction.mean[k, 1, :, d], curve)
        torch.testing.assert_close(prediction.variance[k, 1, :, d], (1 - curve**2) ** 2 * spread)
    assert method.size(state) == 160


@pytest.mark.parametrize("comes_back", [True, False])
def test_the_low_rank_listener_believes_what_comes_back(comes_back):
    """Listeners whose level is their own in each song anew, or the same in all; validation tasks tell which it is."""
    here, method, rng = world(60), make(LowRank.name), np.random.default_rng(0)
    level = torch.tensor(rng.normal(size=(60, 1 if comes_back else 10, 1, 2)), dtype=torch.float32)
    with torch.no_grad():
        there = dataclasses.replace(here, y=(method.average(method.encode(here.x)) + level).tanh())
        asked = there.batches(some_tasks(there))
        method.settle(asked)
    assert (method.belief >= 0.5).all() if comes_back else (method.belief <= 0.1).all()


def test_a_low_rank_listener_who_believes_nothing_adapts_nothing():
    here, method = world(), make(LowRank.name)
    x, y, query, _ = tensors(here, some_tasks(here))
    method.belief.zero_()
    assert torch.equal(answer(method, x, y, query).mean, method.average(method.encode(query)).tanh().detach())


def test_maml_takes_the_gradient_steps_of_learn2learn():
    """Two steps on one listener's support set, against the library that the field knows."""
    l2l = pytest.importorskip("learn2learn")
    from dsaml.arena.gradient import Maml, _Network
    from dsaml.learn.losses import score_loss

    here = world()
    x, y, query, _ = tensors(here, some_tasks(here)[:1])
    method = make(Maml.name)
    method.settings = {"steps": 2, "lr": 0.1}
    ours = answer(method, x, y, query).mean
    learner = l2l.algorithms.MAML(_Network(method), lr=0.1, first_order=True, allow_unused=True).clone()
    for _ in range(2):
        learner.adapt(score_loss(learner(x[0]), y[0]))
    torch.testing.assert_close(ours[0], learner(query[0]).detach(), rtol=1e-4, atol=1e-5)


class Told(METHODS[LowRank.name]):
    """A method that answers 0, and whose terms of the variance are told: with each support song, the labels of two frames."""

    def adapt(self, h, y):
        return {"terms": y[:, 0, :2]}  # (K, 2, 2): spread and taste, by dimension

    def predict(self, state, h):
        spread, taste = (term[:, None, None].expand(*h.shape[:3], 2) for term in state["terms"].unbind(1))
        factor, share, added = self.calibration
        return Prediction(torch.zeros_like(spread), spread * factor + taste * share + added)


def asked_of(listeners: int, constants: torch.Tensor, scale: float = 0.0, seed: int = 0) -> list[Asked]:
    """Twenty support songs of each listener; errors are normal, with the variance that ``constants`` (3, 2) tell.

    A listener's errors are wider or narrower as a whole by a factor whose logarithm has the standard deviation ``scale``.
    """
    torch.manual_seed(seed)
    names = [f"w{k}" for k in range(listeners) for _ in range(20)]
    terms = torch.rand(len(names), 1, STEPS, 2)
    spread, taste = terms[:, 0, 0, None, None], terms[:, 0, 1, None, None]  # (K, 1, 1, 2)
    own = (scale * torch.randn(listeners)).exp().repeat_interleave(20)[:, None, None, None]
    sd = (spread * constants[0] + taste * constants[1] + constants[2]).sqrt() * own
    tasks, place = [Task(name, ("s",), ("q",)) for name in names], torch.zeros(len(names), 8, dtype=int)
    target = sd * torch.randn(len(names), 8, STEPS, 2)
    return [Asked(tasks, torch.zeros(1, STEPS, INPUTS), place[:, :1], terms, place, target)]


def test_the_constants_of_the_variance_are_found():
    constants = torch.tensor([[2.0, 0.5], [0.3, 1.0], [0.1, 0.2]])
    method = Told(Backbone(INPUTS, CONFIG), CONFIG).eval()
    calibrate(method, asked_of(60, constants))
    torch.testing.assert_close(method.calibration, constants, rtol=0.15, atol=0.06)
    new = asked_of(60, constants, seed=1)
    told = uncertainty(ask(method, new), [part.target for part in new])
    for name in DIMENSIONS:
        assert told["coverage"][name]["0.9"] == pytest.approx(0.9, abs=0.02)
        assert told["rank"][name] > 0.4


def test_listeners_with_fewer_songs_count_as_they_are():
    constants = torch.tensor([[2.0, 0.5], [0.3, 1.0], [0.1, 0.2]])
    method, every = Told(Backbone(INPUTS, CONFIG), CONFIG).eval(), asked_of(60, constants)[0]
    some = slice(0, 400)
    of = (every.tasks[some], every.songs, every.support[some], every.y[some], every.query[some, :5], every.target[some, :5])
    rest = slice(400, None)
    others = (every.tasks[rest], every.songs, *(tensor[rest] for tensor in every[2:]))
    calibrate(method, [Asked(*of), Asked(*others)])
    torch.testing.assert_close(method.calibration, constants, rtol=0.15, atol=0.06)


def test_intervals_cover_new_listeners_where_few_were_seen_who_differ():
    """Eight listeners, as many as validation has: on average over draws of them 90 % of a new listener's labels are covered."""
    constants, covered = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.1, 0.1]]), []
    for seed in range(12):
        method = Told(Backbone(INPUTS, CONFIG), CONFIG).eval()
        calibrate(method, asked_of(8, constants, 0.5, 2 * seed))
        new = asked_of(40, constants, 0.5, 2 * seed + 1)
        told = uncertainty(ask(method, new), [part.target for part in new])["coverage"]
        covered += [told[name]["0.9"] for name in DIMENSIONS]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.025)


def test_errors_that_follow_the_variance_are_ranked():
    torch.manual_seed(0)
    variance = torch.linspace(0.01, 1, 40)[:, None, None, None].expand(40, 3, 60, 2)
    truth = torch.zeros(40, 3, 60, 2)
    told = uncertainty([Prediction(variance.sqrt() * torch.randn(40, 3, 60, 2), variance)], [truth])
    assert min(told["rank"].values()) > 0.9
    told = uncertainty([Prediction(torch.randn(40, 3, 60, 2), variance)], [truth])
    assert max(abs(rank) for rank in told["rank"].values()) < 0.5


def test_tasks_hold_only_what_a_listener_rated():
    here = world()
    for step in range(20):
        songs, listeners, chosen = draw_tasks(here, CONFIG, np.random.default_rng(step))
        assert here.rated[listeners[:, None], songs[chosen]].all()
        assert all(len(set(row)) == 3 for row in chosen.tolist())


def test_too_few_songs_are_said_before_the_first_step():
    here = world(3, 2)
    with pytest.raises(DsamlError, match="fewer query songs"):
        fit(make("ANIL"), here, world().batches(some_tasks(world())), TrainingOptions())


def test_a_method_continues_from_another_ones_weights():
    first, second = make("no adaptation"), make("fine-tuning")
    with torch.no_grad():
        first.base.weight.fill_(0.25)
    continued(second, first)
    assert (second.base.weight == 0.25).all()
    with torch.no_grad():
        first.base.weight.fill_(0.5)
    assert (second.base.weight == 0.25).all()


def test_tasks_of_any_size_are_asked():
    here = world()
    tasks = [Task("w1", ("s1",), ("s2", "s3")), Task("w2", ("s1", "s4"), ("s5",)), Task("w3", ("s2",), ("s1", "s3"))]
    asked = here.batches(tasks)
    assert [[task.annotator for task in part.tasks] for part in asked] == [["w1", "w3"], ["w2"]]
    method = make("ridge head (R2D2)")
    means = [answer(method, part.songs[part.support], part.y, part.songs[part.query]).mean for part in asked]
    parts = torch.cat([sequence_scores(m, part.target)[0].flatten() for m, part in zip(means, asked, strict=True)])
    assert mean_ccc(method, asked) == pytest.approx(parts.mean().item())
