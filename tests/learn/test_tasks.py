"""Task construction: Eq. 5 and Eq. 6."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsaml.data.annotations import MEAN, Annotation
from dsaml.errors import DsamlError
from dsaml.learn.tasks import TaskSampler


def _tracks(sizes: dict[str, int]) -> dict[str, dict[str, Annotation]]:
    times, values = np.arange(3.0), np.zeros((3, 2))
    return {who: {f"s{k}": Annotation(f"s{k}", who, times, values) for k in range(n)} for who, n in sizes.items()}


@given(
    sizes=st.lists(st.integers(6, 12), min_size=1, max_size=5),
    support=st.integers(1, 2),
    query=st.integers(1, 4),
    seed=st.integers(0, 999),
)
def test_annotator_tasks_keep_one_person_and_never_share_a_song(sizes, support, query, seed):
    tracks = _tracks({f"w{k}": n for k, n in enumerate(sizes)})
    for task in TaskSampler(tracks, "annotator", support, query, seed).batch(3, 8):
        assert len(task.support) == support and len(task.query) == query
        assert len(set(task.support + task.query)) == support + query
        assert all(song in tracks[task.annotator] for song in task.support + task.query)


def test_a_batch_depends_on_seed_and_number_alone():
    tracks = _tracks({"a": 9, "b": 9})
    first, second = (TaskSampler(tracks, "annotator", 1, 4, seed=5) for _ in range(2))
    second.batch(0, 3)  # drawing others before changes nothing
    assert first.batch(7, 4) == second.batch(7, 4)
    assert first.batch(7, 4) != first.batch(8, 4)
    assert first.batch(7, 4) != TaskSampler(tracks, "annotator", 1, 4, seed=6).batch(7, 4)


def test_random_tasks_use_the_averaged_labels_only():
    sampler = TaskSampler(_tracks({MEAN: 10, "a": 10}), "random", 1, 5, 0)
    assert {task.annotator for task in sampler.batch(0, 20)} == {MEAN}
    with pytest.raises(DsamlError, match="no labels for 'random'"):
        TaskSampler(_tracks({"a": 10}), "random", 1, 5, 0)


def test_every_annotator_and_every_song_is_drawn():
    sampler = TaskSampler(_tracks({"a": 6, "b": 7}), "annotator", 1, 2, 0)
    tasks = [task for number in range(60) for task in sampler.batch(number, 2)]
    assert {task.annotator for task in tasks} == {"a", "b"}
    assert {song for task in tasks for song in task.support if task.annotator == "b"} == {f"s{k}" for k in range(7)}


def test_too_few_songs_are_refused_with_counts():
    with pytest.raises(DsamlError, match=r"2 of 3 annotators have fewer than the 5 songs.*a has 3.*b has 4"):
        TaskSampler(_tracks({"a": 3, "b": 4, "c": 9}), "annotator", 1, 4, 0)
