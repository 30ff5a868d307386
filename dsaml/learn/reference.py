"""The inner loop of MAML through learn2learn, the library that the field knows: one task after the other, nothing shared.

The same result as :func:`dsaml.learn.maml.inner_update`; slower, and what that is tested and measured against. learn2learn is
optional (``requirements-nodeps.txt``).
"""

from __future__ import annotations

import contextlib
import io
import warnings
from types import ModuleType

import torch

from dsaml.config import MetaConfig
from dsaml.errors import DsamlError
from dsaml.learn.losses import total_loss
from dsaml.learn.maml import Batch, Weights, mode
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
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf", category=UserWarning)
    return learn2learn


def inner_update(
    model: DSAML, weights: Weights, support: Batch, config: MetaConfig, steps: int, second_order: bool = False
) -> Weights:
    """See :func:`dsaml.learn.maml.inner_update`: for each task ``MAML.clone``, and k times ``MAML.adapt``."""
    algorithms = import_learn2learn().algorithms
    maml = algorithms.MAML(model, lr=config.inner_lr, first_order=not second_order, allow_unused=True, allow_nograd=True)
    adapted = []
    for number in range(len(support)):
        learner, task = maml.clone(), support[number]
        for name, weight in weights.items():  # the task's own in place of the base model's
            part, _, parameter = name.rpartition(".")
            learner.module.get_submodule(part)._parameters[parameter] = weight[number]
        with mode(learner, config.inner_mode):
            for _ in range(steps):
                output = learner(*task.inputs)
                learner.adapt(total_loss(output, task.target, config.loss, model.config, task.there))
        own = dict(learner.module.named_parameters())
        adapted.append({name: own[name] for name in weights})
    return {name: torch.stack([own[name] for own in adapted]) for name in weights}
