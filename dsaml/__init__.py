"""DSAML: how pleasant and how intense a song feels from half second to half second, to one listener, after one annotated song.

The rooms of the package; each imports from those below it and from no other::

    cli         python -m dsaml COMMAND
    study       the listening study: designed, served, collected, analysed
    listen      one's own music: predict, annotate, personalize
    experiment  recipes, trained models, tables, claims
    evaluate    scores, protocols, floors, intervals
                (beside it: arena, MAML and other ways; plots, the figures)
    learn       tasks (Eq. 5, 6), losses (Eq. 3), MAML (Eq. 4)
                (beside it: baselines, four other models)
    model       DSAML as in Figures 2 and 3
                (beside it: data, songs and labels)
    audio       slices, log-mels, encoders, the feature cache
    runtime     devices, processes, the hash of the code
                (beside it: config, io)

``model`` and ``learn`` are the paper and can be read beside it. What to call first, at a small size and on random numbers:

>>> import dsaml, torch
>>> size = dsaml.ModelConfig(dim=64, heads=4, layers=1, feed_forward=64)
>>> model = dsaml.DSAML(size)
>>> settings = dsaml.MetaConfig(inner_steps=2, adapt="no-adapter")
>>> def songs(count):  # one listener's: log-mels of 30 s, global, labels
...     mel = torch.randn(1, count, 60, 51, 128)
...     embedding = torch.randn(1, count, 1, 64)
...     return dsaml.Batch(mel, embedding, torch.rand(1, count, 60, 2))
>>> # the inner loop of MAML on one annotated song
>>> weights = dsaml.adapt(model, songs(1), settings)
>>> # the listener's arousal and valence in three other songs
>>> dsaml.predict(model, weights, songs(3), settings).shape
torch.Size([1, 3, 60, 2])

Real songs come from ``dsaml.load_dataset("deam", "path/to/DEAM")``; a trained model and one's own music from
``dsaml.load("model.safetensors").predict("song.mp3")``; everything else from ``python -m dsaml --help``.
"""

import os
import sys
from importlib import import_module
from typing import Any

# A spinning OpenMP pool can stall small recurrent steps for seconds; its policy is read once, when torch is loaded.
if "torch" not in sys.modules:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
elif "OMP_WAIT_POLICY" not in os.environ:  # too late for that: one thread has nobody to wait for
    sys.modules["torch"].set_num_threads(1)

__version__ = "0.1.0"

_HOMES = {  # where each name lives; imported when it is asked for, so that a light command does not wait for torch
    "DSAML": "dsaml.model.dsaml",
    "ModelConfig": "dsaml.config",
    "MetaConfig": "dsaml.config",
    "Batch": "dsaml.learn.maml",
    "adapt": "dsaml.learn.maml",
    "predict": "dsaml.learn.maml",
    "load_dataset": "dsaml.data.base",
    "load": "dsaml.listen.personal",
    "score": "dsaml.evaluate.metrics",
    "DsamlError": "dsaml.errors",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dsaml' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
