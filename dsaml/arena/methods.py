"""The methods of the arena, from the floors up. A new one is a file with a :class:`~dsaml.arena.base.Personalizer` and a line."""

from __future__ import annotations

from dsaml.arena.base import Personalizer
from dsaml.arena.conditioned import Cavia, NeuralProcess
from dsaml.arena.gradient import Anil, FineTuning, Maml, MetaSgd, Reptile
from dsaml.arena.in_context import InContext
from dsaml.arena.low_rank import LowRank
from dsaml.arena.nothing import Nothing, OffsetAndGain, Shift
from dsaml.arena.prototypes import Prototypes
from dsaml.arena.ridge import Ridge

METHODS: dict[str, type[Personalizer]] = {
    method.name: method
    for method in (
        *(Nothing, Shift, OffsetAndGain, FineTuning),
        *(Reptile, Maml, Anil, MetaSgd, Cavia),
        *(NeuralProcess, InContext, Ridge, Prototypes, LowRank),
    )
}
