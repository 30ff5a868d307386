"""The models for real people on their page: every number is one of the committed files', and what is not met says so."""

import re
from pathlib import Path

import pytest

from book.builder import listeners_page, markdown
from dsaml.arena.methods import METHODS
from dsaml.config import DIMENSIONS
from dsaml.evaluate.floors import SUPPORT_LAST
from dsaml.experiment.arena_rows import SMALL, label
from dsaml.experiment.listeners import goals, harmless
from dsaml.experiment.results import read_result

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "data/reference"
PAGE = (ROOT / "book/listeners.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def documents():
    return {split: read_result(REFERENCE / f"listeners-{split}.json") for split in listeners_page.SPLITS}


def test_the_files_are_of_real_labels_and_say_how_the_audio_was_made(documents):
    for split, document in documents.items():
        stamp = document["provenance"]
        assert stamp["real"] and stamp["dataset"] == split and not stamp["dirty"]
        assert "FluidSynth" in document["audio"] and document["audio"] in listeners_page.people("stamps", REFERENCE)
        assert document["goals"] == goals(document["protocols"])
        for block in document["protocols"].values():
            assert all({"rmse", "level", "ccc", "shape"} <= set(cells[d]) for cells in block["rows"].values() for d in DIMENSIONS)


@pytest.mark.parametrize("name", [*listeners_page.ASKED, "arena", "goals", "stamps"])
def test_every_block_has_its_place(name):
    assert f"<!-- people: {name} -->" in PAGE and listeners_page.people(name, REFERENCE)


def test_a_table_has_the_files_numbers(documents):
    text = listeners_page.people("prefix", REFERENCE)
    line = next(line for line in text.splitlines() if SUPPORT_LAST in line and "above" not in line)
    cells = documents["vgmidi"]["protocols"]["prefix"]["rows"][SUPPORT_LAST]
    for d in DIMENSIONS:
        assert markdown.number(cells[d]["rmse"]["mean"]) in line


@pytest.fixture(scope="module")
def arenas():
    files = {split: REFERENCE / f"arena-{split}.json" for split in listeners_page.SPLITS}
    return {split: read_result(file) for split, file in files.items() if file.is_file()}


def test_the_arena_of_real_people_is_of_them_and_holds_every_method(arenas):
    assert listeners_page.SPLITS[0] in arenas
    for split, document in arenas.items():
        assert document["provenance"]["real"] and document["provenance"]["dataset"] == split
        assert {label((SMALL, name)) for name in METHODS} <= set(document["rows"])


def test_what_is_not_met_stays_on_the_page(documents, arenas):
    text = listeners_page.people("goals", REFERENCE)
    met = [flag for document in documents.values() for goal in document["goals"] for flag in goal["met"]]
    for document in arenas.values():
        met += harmless("shipped", document["rmse_above"][listeners_page.SHIPPED])["met"]
    assert len(re.findall(r"\byes\b", text)) == sum(met) and len(re.findall(r"\bno\b", text)) >= len(met) - sum(met)
