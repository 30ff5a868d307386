"""What errors depend on, where that is known."""

import numpy as np
import pandas as pd
import pytest

from dsaml.config import DIMENSIONS
from dsaml.experiment.arena_errors import BOTH, LISTENER, SONG, error_structure


def errors(listener: float, song: float, both: float, seed: int = 0) -> pd.DataFrame:
    """RMSE of 40 listeners after each of 30 support songs, with these standard deviations."""
    rng = np.random.default_rng(seed)
    values = 1 + listener * rng.normal(size=(40, 1, 2)) + song * rng.normal(size=(1, 30, 2)) + both * rng.normal(size=(40, 30, 2))
    rows = [(f"l{i}", f"s{j}", *values[i, j]) for i in range(40) for j in range(30)]
    return pd.DataFrame(rows, columns=["annotator", "song", *DIMENSIONS])


def test_shares_are_those_that_errors_were_made_of():
    shares = error_structure(errors(0.1, 0.2, 0.2))["shares"]
    for name, share in ((LISTENER, 1 / 9), (SONG, 4 / 9), (BOTH, 4 / 9)):
        for d in DIMENSIONS:
            assert shares[name][d] == pytest.approx(share, abs=0.12), (name, d)


def test_who_knows_what_errors_depend_on_ranks_them():
    known = error_structure(errors(0.1, 0.0, 0.01))["rank_if_known"]
    assert min(known[LISTENER].values()) > 0.95 and min(known[BOTH].values()) > 0.9 and max(known[SONG].values()) < 0.2
    known = error_structure(errors(0.0, 0.1, 0.01))["rank_if_known"]
    assert min(known[SONG].values()) > 0.95 and max(known[LISTENER].values()) < 0.2


def test_where_there_is_nothing_to_know_nothing_is_ranked_not_even_backwards():
    known = error_structure(errors(0.0, 0.0, 0.1))["rank_if_known"]
    assert max(abs(rank) for ranks in known.values() for rank in ranks.values()) < 0.1


def test_listeners_without_a_song_in_common_tell_nothing():
    apart = errors(0.1, 0.1, 0.1)
    apart = apart[apart.annotator.str[1:].astype(int) == apart.song.str[1:].astype(int)]
    assert error_structure(apart) == {}
