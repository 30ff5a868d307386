"""The pages' scripts and style, which the book, ``predict --html`` and ``annotate`` share."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "player"
_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 60rem; margin: 0 auto; padding: 0 1rem 3rem; font: 1rem/1.5 system-ui, sans-serif; }
body { background: #fff; color: #1a1a1a; }
@media (prefers-color-scheme: dark) { body { background: #15181c; color: #e8e8e8; } }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
"""


def read(name: str) -> str:
    """One of the files."""
    return (FOLDER / name).read_text(encoding="utf-8")


def script_data(data: Mapping[str, Any]) -> str:
    """What the scripts read, as a script; no name of a song can end it."""
    return f"window.dsamlPlayer = {json.dumps(data).replace('<', chr(92) + 'u003c')};"


def data_url(content: bytes, kind: str) -> str:
    """An address that holds what it leads to; ``kind`` as browsers call it, "audio/mpeg"."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def inline(title: str, body: str, data: Mapping[str, Any], scripts: Sequence[str], generator: str = "dsaml") -> str:
    """A page with everything inside: HTML, what the scripts read, the scripts by the names of their files, what made it."""
    parts = [script_data(data), *map(read, scripts)]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta name="generator" content="{escape(generator)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_STYLE}{read('player.css')}</style></head><body>",
            body,
            *(f"<script>{part}</script>" for part in parts),
            "</body></html>\n",
        ]
    )
