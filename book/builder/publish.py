"""``make publish REPO=owner/name``: write the repository's address wherever it has to be written out.

:mod:`dsaml.address` decides it; the files here hold copies, because Colab and other programs read them as they are. This needs
nothing but Python, so that it can be the first thing that a new owner does.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from dsaml.address import REPOSITORY
from dsaml.errors import DsamlError

ADDRESS = Path("dsaml/address.py")
COPIES = ("README.md", "notebooks/*.ipynb", "pyproject.toml", "CITATION.cff")
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?/[\w.-]+")  # what a hosted repository can be called


def publish(repository: str, root: Path = Path(), before: str = REPOSITORY) -> list[Path]:
    """Replace the address ``before`` by that of ``repository`` ("owner/name"); gives the files that have changed.

    Raises
    ------
    DsamlError
        If no repository can be called so, or this is not the repository's folder; nothing is written then.
    """
    if not NAME.fullmatch(repository):
        raise DsamlError(f"'{repository}' is no name of a repository; write REPO=owner/name")
    if not (root / ADDRESS).is_file():
        raise DsamlError(f"{root / ADDRESS}: not there; run this in the repository's own folder")
    pages, new_pages = ("{}.github.io/{}".format(*name.split("/")) for name in (before, repository))
    code, book = (re.compile(rf"{re.escape(old)}(?![\w.-]*\w)") for old in (f"/{before}", pages))
    texts = {file: file.read_text(encoding="utf-8") for pattern in COPIES for file in sorted(root.glob(pattern))}
    new = {file: book.sub(new_pages, code.sub(f"/{repository}", text)) for file, text in texts.items()}
    texts[root / ADDRESS] = (root / ADDRESS).read_text(encoding="utf-8")
    new[root / ADDRESS] = re.sub(r'^REPOSITORY = ".*"$', f'REPOSITORY = "{repository}"', texts[root / ADDRESS], flags=re.M)
    changed = [file for file, text in new.items() if text != texts[file]]
    for file in changed:
        file.write_text(new[file], encoding="utf-8")
    return [file.relative_to(root) for file in changed]


if __name__ == "__main__":
    try:
        written = publish(*sys.argv[1:])
    except DsamlError as error:
        sys.exit(f"error: {error}")
    print(f"the address is in {', '.join(map(str, written))}: commit them" if written else "the address was there already")
