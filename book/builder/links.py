"""The links of a notebook: absolute in its source, so that they lead somewhere in Colab too; the book's own in the book.

A source is plain Markdown. What the book makes of it when it is staged:

- a link to one of the book's pages, under its published address, becomes a link within the book;
- a link to a work that ``references.bib`` lists under the same ``url`` becomes a citation;
- the link to Colab stays, unless the repository has no address yet: then the page says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dsaml import address

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
ROLE = re.compile(r"\{[\w:-]+\}`")  # MyST's own, which only the book understands
NO_ADDRESS = (
    "*This book was built without a public address, so no link to Colab is here: `make publish REPO=owner/name` gives it one.*"
)
SUFFIXES = (".md", ".ipynb")  # of a page's source


def works(bibliography: Path) -> dict[str, str]:
    """Key of each work that has a web address, by that address; nothing without a bibliography."""
    if not bibliography.is_file():
        return {}
    entries = re.findall(r"^@\w+\{([\w-]+),(.*?)^\}", bibliography.read_text(encoding="utf-8"), re.M | re.S)
    return {found[1]: key for key, body in entries if (found := re.search(r"^\s*url = \{(.*?)\}", body, re.M))}


def page_source(link: str, root: Path) -> Path | None:
    """The source of the book's page that a link leads to, relative to the repository; None for any other link.

    Raises
    ------
    FileNotFoundError
        If the link leads to a page that the book does not have.
    """
    if not link.startswith(address.BOOK):
        return None
    page = Path(link.removeprefix(address.BOOK).partition("#")[0]).with_suffix("")
    for suffix in SUFFIXES:
        if (root / page.with_suffix(suffix)).is_file():
            return page.with_suffix(suffix)
    raise FileNotFoundError(link)


def problems(text: str, root: Path) -> Iterator[str]:
    """What in a source's Markdown only the book understands, or leads nowhere."""
    known = works(root / "book/references.bib")
    for role in ROLE.findall(text):
        yield f"'{role}…' is understood by the book alone; write a link to the work's own address, which references.bib has too"
    for words, link in LINK.findall(text):
        try:
            ours = page_source(link, root) or link in known or link.startswith(address.NOTEBOOKS)
        except FileNotFoundError:
            yield f"[{words}] leads to a page that the book does not have: {link}"
            continue
        if not ours:
            yield f"[{words}] leads neither to a page under {address.BOOK} nor to a work of book/references.bib: {link}"


def for_the_book(text: str, root: Path, published: bool = address.PUBLISHED) -> str:
    """A source's Markdown as MyST; links within the book are relative to ``notebooks/``."""
    known: Mapping[str, str] = works(root / "book/references.bib")

    def turned(match: re.Match[str]) -> str:
        words, link = match.groups()
        if link in known:
            return f"{{cite}}`{known[link]}`"
        if link.startswith(address.NOTEBOOKS) and not published:
            return NO_ADDRESS
        page = page_source(link, root)
        if page is None:
            return match[0]
        mark = link.partition("#")[2]
        path = page.name if page.parent.name == "notebooks" else f"../{page.as_posix()}"
        return f"[{words}]({path}{'#' + mark if mark else ''})"

    return LINK.sub(turned, text)
