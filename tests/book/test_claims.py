"""One list of claims: its numbers, its marks, and every page and notebook that names one; the paper against itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest

from book.builder import claims_page, prose, tables_page
from dsaml.config import DEMO, DIMENSIONS, METRICS
from dsaml.experiment.claims import CLAIMS, judge_all
from dsaml.experiment.results import provenance, write_result

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("book/*.md"), *ROOT.glob("*.md"), *ROOT.glob("data/*.md")])
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXTS = {claim.id: claim.text for claim in CLAIMS}
NAMED = re.compile(r"(?<![\w/.#-])C\d+[a-z]?\b")
QUOTED = re.compile(r"(?<![\w/.#-])(C\d+)\b[\s(:,*]*[\"“*]([^\"”*]{12,})[\"”*]")
PUBLISHED = json.loads((ROOT / "data/paper_tables.json").read_text())


def wrong(text: str) -> list[str]:
    """Claims that a text names and the list has not, and wordings beside an id that are not the list's."""
    unknown = [name for name in NAMED.findall(text) if name not in TEXTS]
    quotes = [(name, " ".join(words.split())) for name, words in QUOTED.findall(text)]
    return unknown + [f"{name}: {words}" for name, words in quotes if words != TEXTS.get(name)]


def test_ids_are_consecutive_and_texts_differ() -> None:
    assert list(TEXTS) == [f"C{n}" for n in range(1, len(CLAIMS) + 1)] and len(set(TEXTS.values())) == len(CLAIMS)


@pytest.mark.parametrize("kind, last", [("Figure", 6), ("Table", 4)])
def test_every_figure_and_table_of_the_paper_has_its_claim(kind: str, last: int) -> None:
    evidence = " ".join(claim.paper for claim in CLAIMS if not claim.ours)
    named = {
        int(n) for part in re.findall(rf"{kind}s? (\d(?:(?:, | and )\d)*)", evidence) for n in re.findall(r"\d", part)
    }
    assert named == set(range(1, last + 1))


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
def test_no_page_names_a_claim_that_is_not_in_the_list(path: Path) -> None:
    if path.suffix == ".ipynb":
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    else:
        text = path.read_text(encoding="utf-8")
    assert wrong(text) == []


def test_wrong_claims_are_seen() -> None:
    first = TEXTS["C1"]
    assert wrong(f'C1 ("{first}"), C2 and\nC3: *{TEXTS["C3"]}*') == []
    assert wrong("as C4b says, and C99") == ["C4b", "C99"]
    assert wrong('C1 ("something else altogether")') == ["C1: something else altogether"]


def test_a_page_gets_the_list_and_the_words_of_a_claim(tmp_path: Path) -> None:
    (tmp_path / "paper.md").write_text("# P\n\n<!-- paper: claims -->\n\n<!-- paper: table4 -->\n")
    prose.fill(tmp_path, {}, prose.makers(ROOT, [tmp_path], tmp_path / "figures"))
    lines = [line for line in (tmp_path / "paper.md").read_text().splitlines() if line.startswith("| C")]
    assert [line.split(" | ")[0].strip("| ") for line in lines] == list(TEXTS)
    for claim, line in zip(CLAIMS, lines, strict=True):
        assert claim.text in line and ("*ours, not the paper's*" in line) == claim.ours
        assert "](tables.md)" in line or "](../notebooks/" in line
    assert wrong("\n".join(claims_page.words().values())) == []
    assert any(claim.ours for claim in CLAIMS)


def test_results_of_another_list_are_not_shown_as_ours(tmp_path: Path) -> None:
    judged = judge_all({})
    stamp = provenance(DEMO, None, seeds=[0, 1, 2], seconds=0, real=False)
    write_result(tmp_path / "claims-synthetic.json", {"claims": judged}, stamp)
    said = claims_page.text("synthetic", [tmp_path], tmp_path)
    assert said.splitlines()[0].endswith(", 3 training seeds.") and all(
        f"| {claim.id} | {claim.text} |" in said for claim in CLAIMS
    )
    judged[3]["text"] = "what it was"
    write_result(tmp_path / "claims-synthetic.json", {"claims": judged}, stamp)
    assert "judges another list of claims" in claims_page.text("synthetic", [tmp_path], tmp_path)


def test_every_run_and_every_data_set_has_its_place(tmp_path: Path) -> None:
    for run, dataset, real in (("demo", "synthetic", False), ("paper-deam", "deam", True), ("mine", "folder", True)):
        stamp = provenance(DEMO, None, seeds=[0], seconds=0, real=real) | {"dataset": dataset}
        write_result(tmp_path / run / f"claims-{dataset}.json", {"claims": judge_all({})}, stamp)
    runs = [tmp_path / run for run in ("demo", "mine", "paper-deam")]
    shown = {name: claims_page.text(name, runs, tmp_path) for name in ("synthetic", "deam", claims_page.OTHERS)}
    kinds = ("synthetic** (synthetic data)", "deam** (real data)", "folder** (real data)")
    for (name, said), kind in zip(shown.items(), kinds, strict=True):
        assert said.startswith(f"**{kind}") and said.count(" training seed.") == 1, name
    assert "None was run" in claims_page.text(claims_page.OTHERS, runs[:1], tmp_path)
    marks = re.findall(r"<!-- claims: ([a-z]+) -->", (ROOT / "book/claims.md").read_text())
    assert tuple(marks) == (*claims_page.OWN_SECTION, claims_page.OTHERS)


def _numbers(table: str) -> set[tuple[str, str, str]]:
    """Every number of one of the paper's tables: dimension, metric, three decimals."""
    rows = [row[dataset] for row in PUBLISHED[table]["rows"] for dataset in tables_page.DATASETS if dataset in row]
    return {(d, m.upper(), f"{row[d][m]:.3f}") for row in rows for d in DIMENSIONS for m in METRICS}


@pytest.mark.parametrize("table", [name for name in PUBLISHED if name != "source"])
def test_notes_on_the_papers_tables_quote_its_numbers(table: str) -> None:
    known = _numbers(table) | (_numbers("table3") if table == "table1" else set())  # where the same row has other numbers
    notes = tables_page.notes(PUBLISHED[table])
    quoted = re.findall(r"(arousal|valence) (CCC|PCC|RMSE) (\d\.\d{3}) against (\d\.\d{3})", notes)
    assert {(d, m, value) for d, m, *both in quoted for value in both} <= known
    assert bool(quoted) == (table != "table2") and notes.count("- ") == len(PUBLISHED[table]["notes"])


def test_the_note_on_maml_counts_the_cells_that_it_makes_worse() -> None:
    rows = {(row["model"], row.get("note", "")): row["deam"] for row in PUBLISHED["table2"]["rows"]}
    pairs = [(rows[model, ""], cells) for (model, note), cells in rows.items() if note == "trained with MAML"]

    def worse(d: str, m: str) -> int:
        sign = -1 if m == "rmse" else 1
        return sum(sign * alone[d][m] > sign * with_maml[d][m] for alone, with_maml in pairs)

    said = ", ".join(f"{m.upper()} {worse('arousal', m)} and {worse('valence', m)}" for m in METRICS)
    assert f"many of the {len(pairs)}: {said}." in tables_page.notes(PUBLISHED["table2"])
