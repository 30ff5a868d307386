"""The model: golden numbers of the released layers, Eq. 1, ablations, shapes."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from released_names import released_state
from torch.func import functional_call

from dsaml.config import MetaConfig, released
from dsaml.errors import DsamlError
from dsaml.experiment.model_files import load_released, read_released
from dsaml.learn.losses import diagonal_attention_loss, mse_loss, score_loss, sequence_scores, total_loss
from dsaml.learn.maml import Batch, adapt, predict
from dsaml.model import DSAML, ModelConfig
from dsaml.model.dsaml import ImagebindAdapter, band_mask
from dsaml.model.layers import BiGRU, BiLSTM, Dropout
from dsaml.model.weights import parameter_table
from dsaml.runtime import fast_adapter, fast_linear

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the golden numbers lie outside the project, in ../shared/golden"
)
SMALL = ModelConfig(dim=16, heads=2, layers=2, feed_forward=24, slice_shape=(7, 12))


def _inputs(config: ModelConfig, batch: int = 3, steps: int = 20, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    log_mel = torch.randn(batch, steps, *config.slice_shape, generator=generator)
    return log_mel, torch.randn(batch, 1, config.dim, generator=generator)


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / "released_model_d64.npz", allow_pickle=False) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored}


@needs_golden
def test_golden_released_layers(golden):
    model = load_released(
        {k.removeprefix("weights."): v for k, v in golden.items() if k.startswith("weights.")}
    )
    with torch.no_grad():
        torch.testing.assert_close(
            model.adapter.slice_features(golden["mel"]), golden["adapter_features"], atol=1e-5, rtol=0
        )
        fused = model.fuse(model.local_features(golden["mel"]), golden["global_embedding"])
        torch.testing.assert_close(fused, golden["fused"], atol=1e-5, rtol=0)
        output = model(golden["mel"], golden["global_embedding"])
    attention = torch.cat((output.attention_local, output.attention_global), 1)
    torch.testing.assert_close(attention, golden["attention"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.context, golden["context"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.prediction, golden["prediction"], atol=1e-5, rtol=0)


@needs_golden
def test_golden_scores_and_losses(golden):
    expected = json.loads((GOLDEN / "released_scores.json").read_text())
    model = load_released(
        {k.removeprefix("weights."): v for k, v in golden.items() if k.startswith("weights.")}
    )
    ccc, pcc, rmse = sequence_scores(golden["prediction"], golden["labels"])
    for d, dimension in enumerate(("arousal", "valence")):
        for name, values in (("ccc", ccc), ("pcc", pcc), ("rmse", rmse)):
            assert values[:, d].tolist() == pytest.approx(expected["scores"][f"{dimension}_{name}"], abs=1e-6)
    assert score_loss(golden["prediction"], golden["labels"]).item() == pytest.approx(expected["score_loss"], abs=1e-6)
    with torch.no_grad():
        output = model(golden["mel"], golden["global_embedding"])
    for (alpha, beta), key in (
        ((0.5, 0.05), "diagonal_loss_alpha05_beta005"),
        ((0.9, 0.1), "diagonal_loss_alpha09_beta01"),
    ):
        assert diagonal_attention_loss(output, alpha, beta).item() == pytest.approx(expected[key], abs=1e-6)


@needs_golden
def test_golden_first_steps_of_a_longer_batch(golden):
    """The mapping does not depend on batch size or length: a shorter sequence of one song has the released local maps' rows."""
    model = load_released(
        {k.removeprefix("weights."): v for k, v in golden.items() if k.startswith("weights.")}
    )
    with torch.no_grad():
        output = model(golden["mel"][:1, :40], golden["global_embedding"][:1])
    first_layer_rows = golden["attention"][:1, 0, :, :30, :40]  # rows whose band of 5 lies inside the first 40 steps
    torch.testing.assert_close(output.attention_local[:, 0, :, :30], first_layer_rows, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dim, heads, layers, limit", [(16, 2, 1, 30), (32, 8, 2, 64), (64, 4, 3, 512)])
def test_load_released_reads_every_size_off_the_shapes(dim, heads, layers, limit):
    config = released(ModelConfig(dim=dim, heads=heads, layers=layers, feed_forward=20, max_positions=limit))
    model = DSAML(config).eval()
    loaded = load_released(released_state(model))
    assert loaded.config == config
    log_mel, embedding = _inputs(config, batch=1, steps=min(limit, 25))
    with torch.no_grad():
        assert torch.equal(loaded(log_mel, embedding).prediction, model(log_mel, embedding).prediction)


def test_load_released_lists_everything_that_does_not_fit():
    state = released_state(DSAML(released(ModelConfig(dim=16, heads=2, layers=1, feed_forward=20, max_positions=30))))
    state["something.else"] = torch.zeros(1)
    del state["sequence_predict_model.layers.2.bias"]
    with pytest.raises(DsamlError, match=r"missing predictor\.output\.bias.*unknown something\.else"):
        load_released(state)
    key = next(name for name in state if name.endswith("distance_embedding.weight"))
    with pytest.raises(DsamlError, match="2 heads of 7 do not make D = 16"):
        load_released(state | {key: state[key][:, :7]})


def test_parameter_count_of_the_released_size():
    assert parameter_table(DSAML(released()))["total"] == 29_692_723


@given(steps=st.integers(1, 70), context=st.integers(0, 80))
def test_band_mask_is_equation_1(steps, context):
    mask = band_mask(steps, context)
    assert all(mask[i, j].item() == (abs(i - j) <= context) for i in range(steps) for j in range(steps))


@settings(max_examples=15, deadline=None)
@given(steps=st.integers(1, 65), n_local=st.integers(0, 8), n_global=st.integers(8, 40), seed=st.integers(0, 99))
def test_attention_rows_sum_to_one_inside_the_band(steps, n_local, n_global, seed):
    config = ModelConfig(
        dim=8, heads=2, layers=1, feed_forward=8, slice_shape=(3, 4), context_local=n_local, context_global=n_global
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        output = DSAML(config).eval()(*_inputs(config, 1, steps, seed))
    for maps, n in ((output.attention_local, n_local), (output.attention_global, n_global)):
        torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))
        assert not maps[..., ~band_mask(steps, n)].any()


@pytest.mark.parametrize("positions", ["sinusoidal", "relative-key", "none"])
def test_prediction_does_not_depend_on_the_batch(positions):
    config = ModelConfig(**{**vars(SMALL), "positions": positions})
    torch.manual_seed(1)
    model = DSAML(config).eval()
    log_mel, embedding = _inputs(config, batch=5, steps=60)
    with torch.no_grad():
        together = model(log_mel, embedding).prediction
        alone = model(log_mel[2:3], embedding[2:3]).prediction
    torch.testing.assert_close(together[2:3], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("change", [{"local_attention": False}, {"global_attention": False}, {"adapter": False}])
def test_ablations_are_one_field(change):
    config = ModelConfig(**{**vars(SMALL), **change})
    model = DSAML(config).eval()
    output = model(*_inputs(config))
    assert output.prediction.shape == (3, 20, 2)
    assert (output.attention_local is None) == (not config.local_attention)
    assert (output.attention_global is None) == (not config.global_attention)
    assert total_loss(output, torch.zeros(3, 20, 2), "score", config).isfinite()
    if not config.adapter:
        assert "adapter" not in parameter_table(model)


def test_without_the_attention_loss_the_total_is_the_regression_loss():
    config = ModelConfig(**{**vars(SMALL), "attention_loss_weight": 0.0})
    output = DSAML(config).eval()(*_inputs(config))
    target = torch.randn(3, 20, 2)
    assert torch.equal(total_loss(output, target, "mse", config), mse_loss(output.prediction, target))


def test_wrong_shapes_get_one_sentence():
    model = DSAML(SMALL)
    log_mel, embedding = _inputs(SMALL)
    with pytest.raises(DsamlError, match="log-mel slices are"):
        model(log_mel[..., :5], embedding)
    with pytest.raises(DsamlError, match="global embedding has width 7"):
        model(log_mel, embedding[..., :7])
    with pytest.raises(DsamlError, match="divisible by heads"):
        ModelConfig(dim=10, heads=4)


def test_gradient_of_the_score_loss_is_finite_on_constant_sequences():
    prediction = torch.zeros(2, 10, 2, requires_grad=True)
    score_loss(prediction, torch.full((2, 10, 2), 0.3)).backward()
    assert prediction.grad.isfinite().all()


def _adapters(
    training: bool, dtype: torch.dtype = torch.float64, shape: tuple[int, int] = (9, 12)
) -> dict[str, ImagebindAdapter]:
    """The same adapter twice, with scales of both signs: "plain" as Figure 3 says, and "fast"."""
    torch.manual_seed(0)
    plain = ImagebindAdapter(ModelConfig(dim=4, heads=1, slice_shape=shape)).to(dtype).train(training)
    with torch.no_grad():
        for norm in (plain.block1.norm, plain.block2.norm):
            norm.weight.normal_()
            norm.bias.normal_()
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    fast = copy.deepcopy(plain)
    plain.fast = False
    return {"plain": plain, "fast": fast}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("chunk", [1, 4, fast_adapter.CHUNK])
@pytest.mark.parametrize("tasks", [0, 3])
def test_the_fast_adapter_is_the_one_of_figure_3(tasks, chunk, training, monkeypatch):
    """Values, all gradients, batch statistics: slice by slice, in some chunks, in one; one set of weights, or one for each task."""
    monkeypatch.setattr(fast_adapter, "CHUNK", chunk)
    adapters, results = _adapters(training), []
    x = torch.randn(*([tasks] if tasks else []), 3, 5, 9, 12, dtype=torch.float64) * 3 - 5
    change = {n: torch.randn(tasks, *p.shape, dtype=x.dtype) for n, p in adapters["plain"].named_parameters()}
    for adapter in adapters.values():
        own = {name: p + change[name] for name, p in adapter.named_parameters()} if tasks else {}
        song = x.clone().requires_grad_()
        out = functional_call(adapter, own, song)
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)).sum().backward()
        results.append([out, song.grad, *(p.grad for p in adapter.parameters()), *adapter.buffers()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize("training", [True, False])
def test_the_fast_adapter_has_second_derivatives(training, monkeypatch):
    """The gradient of the squared gradient, which runs through the batch's statistics a second time."""
    monkeypatch.setattr(fast_adapter, "CHUNK", 1)
    results, x = [], torch.randn(1, 6, 9, 12, dtype=torch.float64)
    for adapter in _adapters(training).values():
        first = torch.autograd.grad(adapter(x).sin().sum(), tuple(adapter.parameters()), create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), tuple(adapter.parameters())))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize("shape", [(9, 12), (8, 13), (13, 64)])
@pytest.mark.parametrize("exact", [True, False])
def test_the_fast_adapter_breaks_ties_as_torch_does(shape, exact):
    """Silence, a held note and a hum make equal values in a window; the gradient goes to the first of them, as in pooling.

    In eighths, which do not round, to the same value of the input; else the last digit may choose among equal neighbours.
    """
    x, results = torch.full((1, 6, *shape), -4.0, dtype=torch.float64), []
    x[:, 2:4, :, 3:7] = 1.5
    x[:, 4:, 2:5] = 0.25
    for adapter in _adapters(not exact, shape=shape).values():
        if exact:
            with torch.no_grad():
                for parameter in adapter.parameters():
                    parameter.copy_(((parameter * 4).round() + 0.5) / 4)
                for norm in (adapter.block1.norm, adapter.block2.norm):
                    norm.running_mean.zero_()
                    norm.running_var.fill_(1 - norm.eps)
        song = x.clone().requires_grad_()
        out = adapter(song)
        (out.sum() if exact else out.sin().sum()).backward()
        results.append([out, song.grad if exact else song.grad.sum((2, 3)), *(p.grad for p in adapter.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9)


def test_the_fast_adapter_is_the_same_on_every_number_of_cores():
    """Bit for bit, its chunks do not depend on it; and torch has its threads back."""
    threads, x, results = torch.get_num_threads(), torch.randn(1, 90, 9, 12, dtype=torch.float64), []
    try:
        for cores in (1, 2, 3):
            torch.set_num_threads(cores)
            adapter = _adapters(True)["fast"]
            features = adapter.slice_features(x)
            features.sin().sum().backward()
            convolutions = [p.grad for name, p in adapter.named_parameters() if not name.startswith("linear.")]
            results.append([features, *convolutions])
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for some in results[1:] for one, other in zip(results[0], some, strict=True))


def test_the_fast_adapter_keeps_its_digits_far_from_zero():
    """In float32 and with a mean many deviations from zero its gradients stay as near to those of float64 as the plain ones."""
    x, found = torch.randn(2, 60, 9, 12) * 0.5 - 12, {}
    for dtype in (torch.float64, torch.float32):
        for name, adapter in _adapters(True, dtype).items():
            adapter(x.to(dtype)).sin().sum().backward()
            found[dtype, name] = torch.cat([p.grad.flatten().double() for p in adapter.parameters()])
    exact = found[torch.float64, "plain"]
    error = {name: (found[torch.float32, name] - exact).norm() / exact.norm() for name in ("plain", "fast")}
    assert error["fast"] < 1e-5 or error["fast"] < 2 * error["plain"]


def test_the_plain_blocks_serve_where_the_fast_ones_do_not(monkeypatch):
    adapter, x = _adapters(False, torch.float32)["fast"], torch.randn(1, 2, 9, 12)
    monkeypatch.setattr(fast_adapter, "slice_features", lambda *_: pytest.fail("this is no float32 on a CPU"))
    with torch.autocast("cpu", torch.bfloat16):
        assert adapter(x).isfinite().all()


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5), (7, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_fast_linear_layer_is_torchs(shape, bias):
    """Values, first and second derivatives, in float32; it runs only where it may."""
    inputs = [torch.randn(shape), torch.randn(4, 5), torch.randn(4) if bias else None]
    results = []
    for function in (torch.nn.functional.linear, fast_linear.linear):
        own = [None if t is None else t.clone().requires_grad_() for t in inputs]
        leaves = [t for t in own if t is not None]
        out = function(*own)
        first = torch.autograd.grad(out.sin().sum(), leaves, create_graph=True)
        results.append([out, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), leaves)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
    assert fast_linear.linear(*(None if t is None else t.double() for t in inputs)).dtype == torch.float64


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    dropout, ones = Dropout(p), torch.ones(400, 500)
    out = dropout.train()(ones)
    assert abs((out == 0).float().mean().item() - p) < 0.005
    assert torch.allclose(out[out != 0], torch.tensor(1 / (1 - p)))
    assert abs(out.mean().item() - 1) < 0.01
    assert dropout.eval()(ones) is ones


@pytest.mark.parametrize("layer, kernel", [(BiLSTM, "lstm"), (BiGRU, "gru")])
@pytest.mark.parametrize("training", [True, False])
def test_a_fused_layer_keeps_what_a_gradient_needs_in_either_mode(training, layer, kernel, monkeypatch):
    """With ``train=False`` cuDNN refuses to differentiate, and the inner loop runs in eval mode. Values are the same either way."""
    fused, asked = getattr(torch, kernel), []

    def spy(*arguments):
        asked.append(arguments[6])
        return fused(*arguments)

    monkeypatch.setattr(torch, kernel, spy)
    recurrent, x = layer(4, 3).train(training), torch.randn(2, 5, 4)
    with_gradient = recurrent(x)
    with torch.no_grad():
        alone = recurrent(x)
    assert asked == [True, False] and torch.equal(with_gradient, alone)


@pytest.mark.parametrize("tasks", [1, 3])
def test_the_inner_loop_asks_the_kernel_for_a_gradient_in_eval_mode(tasks, monkeypatch):
    """One task goes through the fused kernel, three through the recurrence that is written out; prediction needs no gradient."""
    fused, asked = torch.lstm, []
    monkeypatch.setattr(torch, "lstm", lambda *arguments: (asked.append(arguments[6]), fused(*arguments))[1])
    model, config = DSAML(SMALL), MetaConfig(inner_steps=2, inner_mode="eval", test_mode="eval")
    log_mel, embedding = _inputs(SMALL, batch=2 * tasks)
    batch = Batch(log_mel.unflatten(0, (tasks, 2)), embedding.unflatten(0, (tasks, 2)), torch.rand(tasks, 2, 20, 2))
    predict(model, adapt(model, batch, config), batch, config)
    assert asked == ([True, True, False] if tasks == 1 else [])


def test_a_released_checkpoint_is_read_and_nothing_else(tmp_path):
    config = released(ModelConfig(dim=16, heads=2, layers=1, feed_forward=20, max_positions=30))
    model, path = DSAML(config).eval(), tmp_path / "epoch_3.pt"
    for prefix in ("", "module."):  # as learn2learn's wrapper saves it
        torch.save({prefix + name: tensor for name, tensor in released_state(model).items()}, path)
        loaded = load_released(read_released(path))
        assert loaded.config == config
        assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    whole = path.read_bytes()
    for content, words in (
        (b"text", "not a PyTorch"),
        (whole[: len(whole) // 2], "damaged or cut off"),
    ):
        path.write_bytes(content)
        with pytest.raises(DsamlError, match=words):
            read_released(path)
    for stored, words in (
        (DSAML(SMALL), "refused"),
        ([1], "no table of weights"),
        ({"epoch": 3}, "no table"),
        ({}, "no table"),
    ):
        torch.save(stored, path)
        with pytest.raises(DsamlError, match=words):
            read_released(path)
    with pytest.raises(DsamlError, match="no such checkpoint"):
        read_released(tmp_path / "none.pt")
    odd = released_state(model) | {"fusion_model.spectrogram_feature_project.weight": torch.zeros(())}
    with pytest.raises(DsamlError, match="is this a checkpoint of DSAML"):
        load_released(odd)
