"""What the fault drills run: the package's own commands, with a tiny corpus, profile and book. See drills.py.

    python tests/drills/drill_commands.py COMMAND FOLDER CORPUS
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

COMMANDS = ("synthesize", "features", "train", "reproduce", "book")
WITH_WORKERS = ("synthesize", "reproduce")
BEGUN = "begun"  # what a command says when Python itself has started
TABLE_OF_CONTENTS = "format: jb-book\nroot: book/index\nchapters:\n  - file: notebooks/01_a\n  - file: notebooks/02_b\n"
CONFIGURATION = "title: Small\nexecute:\n  execute_notebooks: 'off'\nonly_build_toc_files: true\n"


def work(name: str, folder: Path, corpus: Path) -> None:
    """Run one command through the command line's own entry, with a tiny corpus, profile or book."""
    from dsaml.cli import main as command

    signal.signal(signal.SIGTERM, command._terminate)  # as main does; what follows is imported late in a real command
    print(BEGUN, flush=True)
    from book.builder import build as book
    from book.builder import pages
    from dsaml import config
    from dsaml.data import deam
    from dsaml.data.synthetic import population

    small = config.ModelConfig(dim=16, heads=2, layers=1, feed_forward=16, slice_shape=(13, 64))
    plain = config.SupervisedConfig(steps=30, batch_size=4)
    meta = dataclasses.replace(
        config.DEMO.meta, steps=30, tasks_per_step=2, tasks_at_once=1, query_songs=2, inner_steps=1, adapt="all"
    )
    meta = dataclasses.replace(meta, train_adapter=True)
    config.PROFILES["tiny"] = dataclasses.replace(
        config.DEMO, name="tiny", model=small, warm_start=plain, supervised=plain, meta=meta, validate_every=10
    )
    tiny = population.CorpusConfig(
        train_songs=6,
        validation_songs=3,
        test_songs=4,  # two of them with a bell: the table of long-range songs needs two
        long_songs=1,
        train_listeners=4,
        validation_listeners=2,
        test_listeners=2,
        ratings_per_song=4,
    )
    deam.MIN_SONGS.update(train=3, test=2)
    population.CONFIGS["two-signs"] = tiny
    data = ["--dataset", "synthetic", "--root", str(corpus), "--profile", "tiny", "--cache", str(folder / "cache")]
    lines = {
        "synthesize": ["synthesize", str(folder / "corpus")],
        "features": ["features", *data],
        "train": ["train", *data, "--out", str(folder / "model.safetensors"), "--save-every", "3", "--device", "cpu"],
        "reproduce": ["reproduce", "table1", *data, "--seeds", "2", "--results", str(folder / "results")],
    }
    if name == "book":
        pages.from_npm = lambda package, member, cache: None
        command.app = lambda arguments: book.build(root=folder, steps=book.Steps(compute=_small_results))
    else:
        sys.argv = ["dsaml", *lines[name]]
    command.main()


def _small_results(profile: str, results: Path, cache: Path) -> None:
    from dsaml.config import DEMO
    from dsaml.experiment.results import provenance, write_result

    time.sleep(1)
    write_result(results / "numbers.json", {"ccc": "0.51"}, provenance(DEMO, None, seeds=[0], seconds=1.0, real=False))


def prepare(name: str, folder: Path) -> None:
    """What a command needs before it starts."""
    folder.mkdir()
    if name != "book":
        return
    import nbformat

    (folder / "dsaml").mkdir()
    (folder / "dsaml/model.py").write_text('"""The model."""\n')
    (folder / "book").mkdir()
    (folder / "book/index.md").write_text("# Hello\n\nThe CCC is {{ ccc }}.\n")
    (folder / "_config.yml").write_text(CONFIGURATION)
    (folder / "_toc.yml").write_text(TABLE_OF_CONTENTS)
    (folder / "notebooks").mkdir()
    for title, code in {"01_a": "print(sum(range(1000)))", "02_b": "import time; time.sleep(1); print(results)"}.items():
        first = nbformat.v4.new_code_cell('profile = "demo"\nresults = "results/demo"', metadata={"tags": ["parameters"]})
        cells = [nbformat.v4.new_markdown_cell(f"# {title}"), first, nbformat.v4.new_code_cell(code)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        for number, cell in enumerate(cells):
            cell.id = f"cell-{number}"
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, folder / "notebooks" / f"{title}.ipynb")


def numbers(name: str, folder: Path) -> str:
    """A digest of what a command computed, without when and where."""
    from dsaml.io import read_tensors, tensors_digest

    found: dict[str, Any] = {}
    if name == "synthesize":
        files = [p for p in (folder / "corpus").rglob("*") if p.is_file() and p.name != ".lock"]
        found = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    elif name == "features":
        found = {p.name: tensors_digest(*read_tensors(p)) for p in (folder / "cache").glob("*.safetensors")}
    elif name == "train":
        found = {p.name: tensors_digest(read_tensors(p)[0], {}) for p in folder.glob("model.safetensors")}
    elif name == "reproduce":
        for path in (folder / "results").glob("*.json"):
            found[path.name] = json.loads(path.read_text())
            del found[path.name]["provenance"]
    else:
        for path in (folder / "_build/executed").glob("*.ipynb"):
            found[path.name] = [cell.get("outputs") for cell in json.loads(path.read_text())["cells"]]
        for path in sorted((folder / "_build/html").rglob("0*.html")):
            found[path.name] = re.findall(r"<pre>.*?</pre>", path.read_text(), re.DOTALL)
    if not found:
        return "nothing"
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
