"""MAML through learn2learn, the library that the field knows: one task after the other, nothing shared.

The same functions as in :mod:`dsaml.learn.maml`, with the same results; slower, and what that module is tested and measured
against. learn2learn is optional (``requirements-nodeps.txt``).
"""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from types import ModuleType

import torch
from torch import Tensor
from torch.func import functional_call

from dsaml.config import MetaConfig
from dsaml.errors import DsamlError
from dsaml.learn.losses import total_loss
from dsaml.learn.maml import Batch, adapted_names, enter, mode
from dsaml.model.dsaml import DSAML


def import_learn2learn() -> ModuleType:
    """learn2learn, without what the old ``gym`` says on import.

    Raises
    ------
    DsamlError
        If it is not installed.
    """
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            import learn2learn
    except ImportError as error:
        raise DsamlError(
            f"the engine 'learn2learn' is not installed ({error}); use engine 'stacked', or install "
            "requirements-nodeps.txt with 'pip install --no-deps --use-pep517 -r requirements-nodeps.txt'"
        ) from error
    # it reads .grad of the tensors that it clones
    warnings.filterwarnings(
        "ignore", message="The .grad attribute of a Tensor that is not a leaf", category=UserWarning
    )
    return learn2learn


def _adapted(model: DSAML, support: Batch, config: MetaConfig, steps: int | None = None) -> torch.nn.Module:
    """``MAML.clone`` and k times ``MAML.adapt`` on one task; parameters before the entered stage are left alone."""
    algorithms = import_learn2learn().algorithms
    learner = algorithms.MAML(
        model, lr=config.inner_lr, first_order=not config.second_order, allow_unused=True, allow_nograd=True
    ).clone()
    with mode(learner, config.inner_mode):
        for _ in range(config.inner_steps if steps is None else steps):
            output = learner(support.x, support.global_embedding, support.stage)
            learner.adapt(total_loss(output, support.target, config.loss, model.config))
    return learner


def _tasks(batch: Batch) -> list[Batch]:
    """The tasks of a batch one by one, without the leading dimension."""
    parts = zip(batch.x, batch.global_embedding, batch.target, strict=True)
    return [Batch(x, embedding, target, batch.stage) for x, embedding, target in parts]


def meta_loss(model: DSAML, support: Batch, query: Batch, config: MetaConfig) -> Tensor:
    """See :func:`dsaml.learn.maml.meta_loss`."""
    losses = []
    with mode(model, config.query_mode):
        for near, far in zip(_tasks(support), _tasks(query), strict=True):
            songs = near.x.shape[0]
            every = Batch(
                torch.cat((near.x, far.x))[None],
                torch.cat((near.global_embedding, far.global_embedding))[None],
                far.target[None],
                far.stage,
            )
            entered = enter(model, every, config.adapt)
            x = entered.x[0]
            first = x[:songs] if config.second_order else x[:songs].detach()
            learner = _adapted(model, Batch(first, near.global_embedding, near.target, entered.stage), config)
            with mode(learner, config.query_mode):
                output = learner(x[songs:], far.global_embedding, entered.stage)
            losses.append(total_loss(output, far.target, config.loss, model.config))
    return torch.stack(losses)


def personalize(
    model: torch.nn.Module,
    support: Batch,
    config: MetaConfig,
    steps: int | None = None,
    start: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """See :func:`dsaml.learn.maml.personalize`."""
    names = adapted_names(model, config.adapt)
    adapted: list[dict[str, Tensor]] = []
    with mode(model, config.test_mode):
        with torch.no_grad():
            entered = enter(model, support, config.adapt)
        for number, task in enumerate(_tasks(entered)):
            base = model
            if start is not None:
                base = copy.deepcopy(model)
                base.load_state_dict(base.state_dict() | {name: start[name][number] for name in names})
            clone = dict(_adapted(base, task, config, steps).module.named_parameters())
            adapted.append({name: clone[name].detach() for name in names})
    return {name: torch.stack([weights[name] for weights in adapted]) for name in names}


@torch.no_grad()
def predict(model: torch.nn.Module, weights: dict[str, Tensor], batch: Batch, config: MetaConfig) -> Tensor:
    """See :func:`dsaml.learn.maml.predict`; works for any model, also one whose layers know no stacked weights."""
    with mode(model, config.test_mode):
        entered = enter(model, batch, config.adapt)
        rows = []
        for number, task in enumerate(_tasks(entered)):
            own = {name: weight[number] for name, weight in weights.items()}
            rows.append(functional_call(model, own, (task.x, task.global_embedding, task.stage)).prediction)
    return torch.stack(rows)
