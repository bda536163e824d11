"""A report as one HTML page that needs nothing else: its pictures, tables and decodings are in it."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1040px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em; margin-bottom: .2em } h2 { font-size: 1.15em; margin-top: 2.2em }
p { max-width: 760px } .about { color: #666 } figure { margin: 1em 0 } img { max-width: 100%; height: auto }
figcaption { color: #555; max-width: 760px; font-size: .92em }
table { border-collapse: collapse; margin: 1em 0; font-size: .92em; display: block; overflow-x: auto }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { font-weight: 600 }
pre { background: #fafafa; border: 1px solid #e4e4e4; padding: .7em; overflow-x: auto }
pre { line-height: 1.7; font-size: 13px }
pre span { border-radius: 2px } .ramp span { display: inline-block; width: 28px; text-align: center; font-size: 12px }
"""
# light to dark enough for black text: yellow first, blue last (a part of viridis, lightened)
RAMP = ("#fdf0a6", "#dcea9a", "#b5dfa0", "#94d2ad", "#83c3bb", "#86b3c9", "#94a4d3", "#a99ad8")


def picture(path: Path, title: str, caption: str) -> str:
    """A figure with its caption; the picture itself is in the text."""
    data = base64.b64encode(path.read_bytes()).decode()
    alt = html.escape(title)
    return (
        f'<h2>{alt}</h2><figure><img alt="{alt}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is to the left."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def decoding(trace: Mapping[str, Any], prefix: str, suffix: str) -> str:
    """A decoding as text, each token coloured by when it was revealed; some lines around it for orientation."""
    count, last = int(trace["shown"]), max([*trace["steps"], 1])
    spans = []
    for piece, step in list(zip(trace["pieces"], trace["steps"], strict=True))[:count]:
        colour = RAMP[min(len(RAMP) - 1, (step - 1) * len(RAMP) // last)]
        shown = html.escape(piece).replace("\n", "⏎\n")
        spans.append(f'<span style="background:{colour}" title="step {step}">{shown}</span>')
    before, after = "\n".join(prefix.split("\n")[-4:]), "\n".join(suffix.split("\n")[:3])
    return f"<pre>{html.escape(before)}{''.join(spans)}{html.escape(trace['behind'] + after)}</pre>"


def ramp() -> str:
    """The legend of `decoding`."""
    cells = "".join(f'<span style="background:{colour}">&nbsp;</span>' for colour in RAMP)
    return f'<p class="ramp">first {cells} last</p>'


def page(title: str, about: str, parts: Sequence[str]) -> str:
    """The whole page."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f'<h1>{html.escape(title)}</h1><p class="about">{html.escape(about)}</p>{"".join(parts)}</html>\n'
    )
