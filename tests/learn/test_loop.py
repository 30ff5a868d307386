"""Long runs: real kills, Ctrl-C, full disks, early stopping, logs, precision, several processes."""

import copy
import dataclasses
import errno
import multiprocessing
import os
import signal
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import META, MODEL, SUPERVISED, make_store

from dsaml.config import MetaConfig
from dsaml.errors import DsamlError
from dsaml.io import read_checkpoint
from dsaml.learn.batch_statistics import BatchStatistics
from dsaml.learn.loop import History, TrainingOptions
from dsaml.learn.maml import Batch
from dsaml.learn.training import train_maml, train_supervised
from dsaml.model.dsaml import DSAML
from dsaml.runtime.devices import arithmetic, choose_device
from dsaml.runtime.distributed import processes, share

PLAIN = dataclasses.replace(MODEL, dropout=0.0, positions="sinusoidal")
EVERYTHING = dataclasses.replace(META, adapt="all", train_adapter=True)  # as in the paper


def _model(config=MODEL) -> DSAML:
    torch.manual_seed(3)
    return DSAML(config)


def _same(a: DSAML, b: DSAML) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def _train_and_die(folder: str, step: int, number: int) -> None:
    """A process that gets a signal in the middle of its training."""
    torch.set_num_threads(1)

    def progress(done: int, total: int, history: History) -> None:
        if done == step:
            os.kill(os.getpid(), number)

    options = TrainingOptions(Path(folder) / "run.pt", resume=True, save_every=3, seed=5, validate_every=4)
    train_maml(_model(), make_store(), META, dataclasses.replace(options, progress=progress))


@pytest.fixture
def one_thread():
    """As many threads as the other process has: sums of more threads are rounded in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_kill_9_and_resume_give_the_same_parameters(tmp_path, one_thread):
    process = multiprocessing.get_context("spawn").Process(
        target=_train_and_die, args=(str(tmp_path), 8, signal.SIGKILL)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert read_checkpoint(tmp_path / "run.pt")["step"] == 6
    whole, resumed = _model(), _model()
    expected = train_maml(whole, make_store(), META, TrainingOptions(seed=5, validate_every=4))
    torch.manual_seed(999)
    history = train_maml(
        resumed, make_store(), META, TrainingOptions(tmp_path / "run.pt", resume=True, seed=5, validate_every=4)
    )
    assert history == expected and _same(whole, resumed)


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(store, tmp_path):
    def press(done: int, total: int, history: History) -> None:
        if done == 5:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    options = TrainingOptions(tmp_path / "run.pt", save_every=100, progress=press, seed=5, validate_every=4)
    with pytest.raises(DsamlError, match=r"stopped after step \d+ of 12: saved in .*run\.pt; the same command goes on"):
        train_maml(_model(), store, META, options)
    assert signal.getsignal(signal.SIGINT) is before
    assert read_checkpoint(tmp_path / "run.pt")["step"] == 6  # the step after the one that was shown when it came
    whole, resumed = _model(), _model()
    train_maml(whole, store, META, TrainingOptions(seed=5, validate_every=4))
    train_maml(resumed, store, META, TrainingOptions(tmp_path / "run.pt", resume=True, seed=5, validate_every=4))
    assert _same(whole, resumed)


def test_a_full_disk_keeps_the_last_good_checkpoint(store, tmp_path, monkeypatch):
    options = TrainingOptions(tmp_path / "run.pt", save_every=3, validate_every=4)
    sync, calls = os.fsync, []

    def second_time_full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", second_time_full)
    with pytest.raises(DsamlError, match=r"run\.pt: cannot be written \(No space left on device\); what was there before is kept"):
        train_maml(_model(), store, META, options)
    assert read_checkpoint(tmp_path / "run.pt")["step"] == 3


def test_a_gradient_that_is_not_finite_is_never_applied(store):
    model = _model()
    model.predictor.output.weight.register_hook(lambda gradient: gradient * float("nan"))
    start = {name: value.clone() for name, value in model.named_parameters()}
    with pytest.raises(DsamlError, match=r"step 1: the gradient's norm is nan"):
        train_supervised(model, store, SUPERVISED, TrainingOptions(validate_every=4))
    assert all(torch.equal(start[name], value) for name, value in model.named_parameters())


def test_training_stops_early_and_stays_stopped(store, tmp_path):
    config = dataclasses.replace(SUPERVISED, steps=200, learning_rate=0.05, patience=2)
    options = TrainingOptions(tmp_path / "run.pt", resume=True, validate_every=2)
    history = train_supervised(_model(), store, config, options)
    assert len(history.loss) == history.best_step + 4 < 200
    again = _model()
    assert train_supervised(again, store, config, options) == history


def test_tensorboard_reads_the_log(store, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    history = train_maml(_model(), store, META, TrainingOptions(logs=tmp_path, validate_every=4))
    log = events.EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in log.Scalars("loss")] == pytest.approx(history.loss)
    scores = log.Scalars("validation CCC")
    assert [event.step for event in scores] == [step for step, _ in history.validation[1:]]
    assert [event.value for event in scores] == pytest.approx([score for _, score in history.validation[1:]])


def test_bfloat16_learns_nearly_the_same(store):
    config = dataclasses.replace(SUPERVISED, loss="mse")  # correlations of an untrained model hang on the last digits
    exact = train_supervised(_model(PLAIN), store, config, TrainingOptions(validate_every=6))
    rough = train_supervised(_model(PLAIN), store, config, TrainingOptions(precision="bf16", validate_every=6))
    assert rough.loss[0] == pytest.approx(exact.loss[0], rel=0.01)
    assert rough.loss == pytest.approx(exact.loss, rel=0.15)
    assert rough.loss != exact.loss
    with pytest.raises(DsamlError, match="choose one of: float32, tf32, bf16"), arithmetic("cpu", "fp8"):
        pass


def test_a_device_that_is_not_there_is_one_sentence():
    assert choose_device("auto") in ("cpu", "cuda", "mps")
    with pytest.raises(DsamlError, match="device 'tpu' is not known"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(DsamlError, match="device 'cuda' is not there"):
            choose_device("cuda")


@pytest.mark.parametrize("config", [META, EVERYTHING])
def test_tasks_at_once_change_time_and_not_the_result(config):
    results = []
    for at_once in (1, 2, 3):
        model = _model(PLAIN).double()
        changed = dataclasses.replace(config, tasks_at_once=at_once)
        train_maml(model, _exact_store(), changed, TrainingOptions(validate_every=12))
        results.append(model)
    for other in results[1:]:
        for (name, a), b in zip(results[0].state_dict().items(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=name)


def test_batch_statistics_follow_the_songs_when_everything_adapts():
    model = _model()
    x = 3 + torch.randn(3, 4, 12, *MODEL.slice_shape)
    batch = Batch(x, torch.zeros(3, 4, 1, MODEL.dim), torch.zeros(3, 4, 12, 2))
    before = copy.deepcopy(model.state_dict())
    norm = model.adapter.block1.norm

    def one_step(config: MetaConfig) -> None:
        statistics = BatchStatistics(model, config)
        statistics.add(batch)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        statistics.update(3)

    one_step(MetaConfig(adapt="head"))
    assert torch.equal(before["adapter.block1.norm.running_mean"], norm.running_mean)
    one_step(MetaConfig(adapt="all"))
    with torch.no_grad():
        out = model.adapter.block1.conv(x.flatten(1, 2).unsqueeze(2).flatten(0, 1)).unflatten(0, (3, -1))
    mean, var = out.mean((1, 3, 4)).mean(0), out.transpose(1, 2).flatten(2).var(2).mean(0)  # over the tasks
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * var)
    assert norm.num_batches_tracked == 1 and norm.momentum == 0.1


def _exact_store():
    """In float64: in float32 Adam turns the rounding of a sum into a step where a gradient is zero but for rounding."""
    return make_store().to(torch.float64)


def _rank(rank: int, size: int, port: int, folder: str, config: MetaConfig) -> None:
    """What torchrun starts: one of several processes of the same training."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with processes("cpu", 60) as device:
        assert device == "cpu" and dist.get_world_size() == size
        model = _model(PLAIN).double()
        options = TrainingOptions(checkpoint=Path(folder) / "run.pt", save_every=4, seed=5, validate_every=4)
        train_supervised(model, _exact_store(), SUPERVISED, TrainingOptions(seed=5, validate_every=4))
        history = train_maml(model, _exact_store(), config, options)
        torch.save({"model": model.state_dict(), "history": vars(history)}, Path(folder) / f"{rank}.pt")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize("config", [META, EVERYTHING])
def test_two_processes_equal_one(tmp_path, one_thread, config):
    port = _free_port()
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=_rank, args=(rank, 2, port, str(tmp_path), config)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    alone = _model(PLAIN).double()
    train_supervised(alone, _exact_store(), SUPERVISED, TrainingOptions(seed=5, validate_every=4))
    history = train_maml(alone, _exact_store(), config, TrainingOptions(seed=5, validate_every=4))
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert state["history"]["loss"] == pytest.approx(history.loss, abs=1e-6)
        for (step, score), (expected_step, expected) in zip(state["history"]["validation"], history.validation, strict=True):
            assert step == expected_step and score == pytest.approx(expected, abs=1e-6)
        for name, tensor in alone.state_dict().items():
            torch.testing.assert_close(state["model"][name], tensor, atol=1e-6, rtol=1e-5)
    assert read_checkpoint(tmp_path / "run.pt")["step"] == META.steps


def test_more_processes_than_tasks_are_refused(monkeypatch):
    monkeypatch.setattr("dsaml.runtime.distributed.ranks", lambda: (0, 4))
    with pytest.raises(DsamlError, match="3 tasks per step cannot be shared by 4 processes"):
        share([1, 2, 3])
