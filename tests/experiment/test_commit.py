"""The stamp's commit where the package was installed by pip, which leaves the repository behind."""

import json
from pathlib import Path

import pytest

from dsaml.config import DEMO
from dsaml.experiment import results

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Installed:
    """What pip notes about a package; ``place`` is where its folder lies."""

    def __init__(self, place: Path, said: dict):
        self.place, self.said = place, said

    def read_text(self, name: str) -> str:
        assert name == "direct_url.json"
        return json.dumps(self.said)

    def locate_file(self, name: str) -> Path:
        return self.place / name


FROM_GIT = {"url": "https://example.org/x", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}


@pytest.mark.parametrize(
    "said, here, found",
    [
        (FROM_GIT, True, COMMIT[:12]),
        (FROM_GIT, False, "of git"),  # another copy of the package is the installed one
        ({"url": "file:///x", "dir_info": {"editable": True}}, True, "of git"),
    ],
)
def test_the_commit_is_what_pip_noted_or_else_the_repository_s(said, here, found, monkeypatch, tmp_path):
    place = Path(results.__file__).parents[2] if here else tmp_path
    monkeypatch.setattr(results, "distribution", lambda name: Installed(place, said))
    monkeypatch.setattr(results, "_git", lambda *arguments: "of git" if arguments[0] == "rev-parse" else " M file")
    stamp = results.provenance(DEMO, None, seeds=[0], seconds=1.0, real=False)
    assert stamp["commit"] == found and stamp["dirty"] is (found == "of git")
