"""Training: resume to the same numbers, the best validated weights, refusals."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import META, MODEL, SUPERVISED

from dsaml.errors import DsamlError
from dsaml.io import read_checkpoint, seal
from dsaml.learn.loop import TrainingOptions
from dsaml.learn.training import (
    cross_song_tasks,
    mean_ccc,
    predict_tasks,
    query_labels,
    train_maml,
    train_supervised,
)
from dsaml.model.dsaml import DSAML


def _model() -> DSAML:
    torch.manual_seed(3)
    return DSAML(MODEL)


class Killed(Exception):
    """Stands for a process that dies between two steps."""


def _killed_at(step: int):
    def progress(done: int, total: int, history: object) -> None:
        if done == step:
            raise Killed

    return progress


@pytest.mark.parametrize("kind, config", [(train_supervised, SUPERVISED), (train_maml, META)])
@pytest.mark.parametrize("die_at", [1, 7, 8])
def test_a_killed_run_resumes_to_the_same_parameters(kind, config, die_at, store, tmp_path):
    whole = _model()
    expected = kind(whole, store, config, TrainingOptions(seed=5, validate_every=4))
    options = TrainingOptions(tmp_path / "run.pt", resume=True, save_every=3, seed=5, validate_every=4)
    with pytest.raises(Killed):
        kind(_model(), store, config, dataclasses.replace(options, progress=_killed_at(die_at)))
    torch.manual_seed(999)  # another process: its random state is its own
    resumed = DSAML(MODEL)
    if kind is train_maml and not (tmp_path / "run.pt").is_file():
        resumed = _model()  # killed before the first checkpoint: it starts again from the same weights
    elif not (tmp_path / "run.pt").is_file():
        resumed = _model()
    elif kind is train_maml:
        resumed.load_state_dict(_model().state_dict())  # the adapter is not trained, so it comes from the start
    history = kind(resumed, store, config, options)
    assert history == expected
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_training_stops_where_it_is_told_and_goes_on_to_the_same_parameters(store, tmp_path):
    whole = _model()
    expected = train_supervised(whole, store, SUPERVISED, TrainingOptions(seed=5, validate_every=4))
    options = TrainingOptions(tmp_path / "run.pt", resume=True, seed=5, validate_every=4)
    part = train_supervised(_model(), store, SUPERVISED, dataclasses.replace(options, until=4))
    assert (len(part.loss), part.loss) == (4, expected.loss[:4])
    rest = _model()
    assert train_supervised(rest, store, SUPERVISED, options) == expected
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), rest.parameters(), strict=True))


def test_a_finished_run_is_read_and_not_trained_again(store, tmp_path):
    options = TrainingOptions(checkpoint=tmp_path / "run.pt", resume=True, validate_every=4)
    first = _model()
    history = train_supervised(first, store, SUPERVISED, options)
    again = TrainingOptions(checkpoint=tmp_path / "run.pt", resume=True, progress=_killed_at(SUPERVISED.steps))
    second = _model()
    assert train_supervised(second, store, SUPERVISED, again) == history
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_best_validated_weights_are_kept(store):
    history = train_supervised(_model(), store, SUPERVISED, TrainingOptions(validate_every=3))
    assert history.best_step == max(history.validation, key=lambda pair: pair[1])[0]
    assert [step for step, _ in history.validation] == [0, 3, 6, 9, 12]
    assert len(history.loss) == SUPERVISED.steps


def test_training_learns(store):
    config = dataclasses.replace(SUPERVISED, steps=150, learning_rate=1e-2, loss="mse")
    history = train_supervised(_model(), store, config, TrainingOptions(validate_every=50))
    assert sum(history.loss[-10:]) < 0.6 * sum(history.loss[:10])


def test_maml_leaves_a_fixed_adapter_and_trains_the_rest(store):
    model, start = _model(), _model()
    train_maml(model, store, META, TrainingOptions(validate_every=6))
    for name, parameter in model.named_parameters():
        same = torch.equal(parameter, dict(start.named_parameters())[name])
        assert same == name.startswith("adapter."), name
        assert parameter.requires_grad


def test_a_diverging_loss_stops_with_a_sentence_and_keeps_the_checkpoint(store, tmp_path):
    config = dataclasses.replace(SUPERVISED, learning_rate=1e30, loss="mse")
    options = TrainingOptions(checkpoint=tmp_path / "run.pt", save_every=1, validate_every=100)
    with pytest.raises(DsamlError, match=r"the loss is .*lower the learning rate"):
        train_supervised(_model(), store, config, options)
    assert read_checkpoint(tmp_path / "run.pt")["step"] >= 1


class Attack:
    """Pickles to a call of ``open``."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("content", ["text", "truncated", "attack", "no model"])
def test_bad_checkpoints_get_one_sentence_and_execute_nothing(content, tmp_path):
    path, victim = tmp_path / "bad.pt", tmp_path / "executed"
    torch.save({"attack": Attack(victim), "text": "x", "no model": {"a": 1}}.get(content, {"model": {}}), path)
    if content in ("attack", "no model"):  # whoever makes one can compute a digest, too
        path.write_bytes(seal(path.read_bytes()))
    if content == "text":
        path.write_text("not a checkpoint")
    if content == "truncated":
        path.write_bytes(seal(path.read_bytes())[:-100])
    with pytest.raises(DsamlError, match=r"bad\.pt"):
        read_checkpoint(path)
    assert not victim.exists()


def test_every_flipped_byte_of_a_checkpoint_is_noticed(store, tmp_path):
    path = tmp_path / "run.pt"
    train_supervised(_model(), store, SUPERVISED, TrainingOptions(path, validate_every=4))
    good = path.read_bytes()
    for place in [0, 20, 70, *np.random.default_rng(0).integers(0, len(good), 40)]:
        bad = bytearray(good)
        bad[place] ^= 1 << int(place) % 8
        path.write_bytes(bad)
        with pytest.raises(DsamlError, match=r"run\.pt: cannot be used \(its checksum does not fit"):
            train_supervised(_model(), store, SUPERVISED, TrainingOptions(path, resume=True, validate_every=4))
        assert path.read_bytes() == bad


def test_cross_song_tasks_spread_the_support_songs(store):
    tasks = cross_song_tasks(store, "test", supports=3)
    assert len(tasks) == 6
    for task in tasks:
        assert not set(task.support) & set(task.query) and len(task.query) == 5
    assert len({task.support for task in tasks if task.annotator == "test-0"}) == 3


def test_step_0_is_a_candidate_and_wins_where_training_only_harms(store):
    model = _model()
    train_supervised(model, store, dataclasses.replace(SUPERVISED, learning_rate=0.02), TrainingOptions(validate_every=3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    harmful = dataclasses.replace(SUPERVISED, learning_rate=30.0)
    history = train_supervised(model, store, harmful, TrainingOptions(validate_every=4))
    assert history.best_step == 0 and [step for step, _ in history.validation] == [0, 4, 8, 12]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    harmless = dataclasses.replace(META, learning_rate=0.0)
    assert train_maml(_model(), store, harmless, TrainingOptions(validate_every=4)).best_step == 0


def test_a_model_is_chosen_by_what_it_is_scored_by(store, tmp_path):
    """As it is, or after adaptation to validation listeners: two checkpoints of one training."""
    config = dataclasses.replace(SUPERVISED, learning_rate=0.02, steps=24)
    inner = dataclasses.replace(META, inner_lr=0.2)
    options = TrainingOptions(checkpoint=tmp_path / "run.pt", resume=True, validate_every=3)
    chosen = {}
    for adapted in (False, True):
        model = _model()
        history = train_supervised(
            model, store, config, options, adaptation=inner, adapted=adapted
        )
        chosen[adapted] = model
    assert len(history.adapted) == len(history.validation) == 9
    assert history.best_adapted == max(history.adapted, key=lambda pair: pair[1])[0]
    tasks = cross_song_tasks(store, "validation", 2)
    for adapted, model in chosen.items():
        steps = META.inner_steps if adapted else 0
        asked = dataclasses.replace(inner, inner_steps=steps)
        score = mean_ccc(predict_tasks(model, store, tasks, asked), query_labels(store, tasks))
        assert not adapted or score == pytest.approx(max(s for _, s in history.adapted), abs=1e-6)
    assert history.best_adapted != history.best_step  # here the two differ, so the models do
    assert not torch.equal(chosen[False].predictor.output.weight, chosen[True].predictor.output.weight)
    alone = train_supervised(_model(), store, config, TrainingOptions(validate_every=3))
    assert alone.validation == history.validation and alone.adapted == []


def test_an_adapter_that_is_left_alone_stays_as_it_came(store):
    model = _model()
    before = {name: p.clone() for name, p in model.adapter.named_parameters()}
    head = model.predictor.output.weight.clone()
    config = dataclasses.replace(SUPERVISED, train_adapter=False, learning_rate=0.02, steps=24)
    train_supervised(model, store, config, TrainingOptions(validate_every=3), adaptation=META)
    assert not torch.equal(head, model.predictor.output.weight)
    assert all(torch.equal(before[name], p) for name, p in model.adapter.named_parameters())
    assert all(p.requires_grad for p in model.parameters())
