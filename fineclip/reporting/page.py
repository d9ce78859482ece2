"""A page of HTML that asks nobody for anything: pieces of it, every text escaped."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --good: #2e7d3240; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1rem; }
h1, h2, h3, h4 { line-height: 1.2; overflow-wrap: anywhere; }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem; padding-bottom: .2rem; }
nav ul, .key { display: flex; flex-wrap: wrap; gap: .3rem 1rem; list-style: none; padding: 0; }
.scroll { margin: 1rem 0; overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { font-weight: 600; padding-bottom: .3rem; text-align: left; }
th, td { border: 1px solid var(--line); max-width: 24rem; min-width: 3rem; overflow-wrap: anywhere;
  padding: .25rem .5rem; text-align: left; vertical-align: top; }
td.words { min-width: 9rem; }
thead th { background: var(--soft); overflow-wrap: break-word; vertical-align: bottom; }
tbody th { background: Canvas; left: 0; min-width: 9rem; position: sticky; z-index: 1; }
td.number { text-align: right; }
td.best { background: var(--good); font-weight: 700; }
.grid { align-items: start; display: grid; gap: 1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }
figure { margin: 0; }
figure img { background: #fff; border-radius: .3rem; display: block; height: auto; width: 100%; }
figcaption, .note { font-size: .9rem; overflow-wrap: anywhere; }
.marked { position: relative; }
.marked svg { inset: 0; overflow: hidden; position: absolute; }
.marked rect { fill: #0000; stroke-width: 2px; vector-effect: non-scaling-stroke; }
.marked text { fill: #000; font-weight: 700; paint-order: stroke; stroke: #fff;
  stroke-width: .25em; }
.extra text { text-anchor: end; }
.right rect { stroke: #00a03c; }
.wrong rect { stroke: #e00000; }
.extra rect { stroke: #666; stroke-dasharray: 4 3; }
figcaption ol { margin: .3rem 0; padding-left: 2rem; }
.swatch { border-top: .25rem solid; display: inline-block; margin-right: .4rem; width: 1.6rem;
  vertical-align: middle; }
summary { cursor: pointer; }
.warning { border-left: .3rem solid #c62828; overflow-wrap: anywhere; padding-left: .6rem; }
@media (max-width: 40rem) { th, td { max-width: 12rem; } tbody th { min-width: 7rem; } }
@media print {
  :root { color-scheme: light; print-color-adjust: exact; }
  html { font-size: 10px; }
  body { font-size: 1rem; max-width: none; padding: 0; }
  nav { display: none; }
  .scroll { overflow: visible; }
  .grid { grid-template-columns: repeat(3, 1fr); }
  th, td { max-width: none; min-width: 0; padding: .1rem .25rem; }
  tbody th { min-width: 0; position: static; }
  h2, h3, h4 { break-after: avoid; }
  figure, tr { break-inside: avoid; }
}
"""
_LONGEST = 2_000
"""Characters of a text that are shown: a name of a megabyte must not become a page of one."""

_MANY = 6  # columns that fit a screen


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it shows.
        number: It is a number, and stands on the right.
        best: It is the best of its kind.
        shade: How dark its ground is, 0 to 1.
    """

    text: str
    number: bool = True
    best: bool = False
    shade: float = 0.0

    @property
    def markup(self) -> str:
        """The cell as HTML."""
        kinds = ["number"] if self.number else ["words"] if len(self.text) > 40 else []
        kinds += ["best"] if self.best else []
        more = f' class="{" ".join(kinds)}"' if kinds else ""
        if self.shade:
            more += f' style="background: rgba(198, 40, 40, {min(self.shade, 1) * 0.7:.2f})"'
        return f"<td{more}>{escaped(self.text)}</td>"


def escaped(text: object) -> str:
    """Any text as part of a page, in an element or an attribute.

    What UTF-8 cannot say (halves of surrogate pairs) becomes a question mark.
    """
    said = str(text)
    if len(said) > _LONGEST:
        said = f"{said[:_LONGEST]} ... ({len(said)} characters)"
    return html.escape(said.encode("utf-8", "replace").decode("utf-8"), quote=True)


def paragraph(text: str, kind: str = "note") -> str:
    """A paragraph of plain text; ``kind`` is a class of the page's style."""
    return f'<p class="{escaped(kind)}">{escaped(text)}</p>'


def heading(text: str, level: int) -> str:
    """A heading below that of a section, which is of level 2."""
    return f"<h{level}>{escaped(text)}</h{level}>"


def folded(summary: str, content: str) -> str:
    """What shows once one asks for it."""
    return f"<details><summary>{escaped(summary)}</summary>{content}</details>"


def html_table(
    caption: str, head: Sequence[str], rows: Iterable[tuple[str, Iterable[Cell]]]
) -> str:
    """A table that scrolls by itself where the screen is narrow.

    Args:
        caption: What it is.
        head: Titles of the columns.
        rows: Title and cells of each.
    """
    titles = "".join(f'<th scope="col">{escaped(title)}</th>' for title in head)
    body = (
        f'<tr><th scope="row">{escaped(name)}</th>{"".join(cell.markup for cell in cells)}</tr>'
        for name, cells in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(caption)}">'
        f"<table><caption>{escaped(caption)}</caption><thead><tr>{titles}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def cross_table(
    caption: str, rows: Sequence[str], columns: Sequence[str], cell: Callable[[int, int], Cell]
) -> str:
    """A table of two kinds of names, turned round where it would be too wide and not as high.

    Args:
        caption: What it is.
        rows: Names of the rows.
        columns: Names of the columns.
        cell: What stands at (row, column).
    """
    cells = [[cell(y, x) for x in range(len(columns))] for y in range(len(rows))]
    if len(columns) > max(_MANY, len(rows)):
        rows, columns, cells = columns, rows, [list(column) for column in zip(*cells, strict=True)]
    return html_table(caption, ["", *columns], zip(rows, cells, strict=True))


def picture(content: bytes, kind: str, alt: str, caption: str) -> str:
    """A picture that lies in the page itself.

    Args:
        content: The file.
        kind: Its type, such as ``image/png``.
        alt: What it shows, for those who cannot see it.
        caption: The text below it.
    """
    data = base64.b64encode(content).decode("ascii")
    return (
        f'<figure><img alt="{escaped(alt)}" src="data:{escaped(kind)};base64,{data}">'
        f"<figcaption>{escaped(caption)}</figcaption></figure>"
    )


@dataclass(frozen=True)
class Mark:
    """A box on a picture.

    Attributes:
        box: xywh in pixels of the picture.
        text: What is said of it.
        kind: "right", "wrong" or "extra", which is how it is drawn.
    """

    box: tuple[float, float, float, float]
    text: str
    kind: str


def marked_picture(
    content: bytes, kind: str, size: tuple[int, int], marks: Sequence[Mark], caption: str
) -> str:
    """A picture in the page itself with numbered boxes; what is said of them is below, folded.

    Args:
        content: The file.
        kind: Its type, such as ``image/png``.
        size: (width, height) in the pixels that boxes are in.
        marks: The boxes; the first are drawn last, on top.
        caption: The text below it.
    """
    letter = max(size) / 16
    boxes = []
    for number, mark in reversed(list(enumerate(marks, start=1))):
        x, y, width, height = mark.box
        place = f'x="{x:.1f}" y="{y:.1f}"'
        inset = letter / 8
        left, base = (
            (x + inset, y + letter)
            if mark.kind != "extra"
            else (x + width - inset, y + height - inset)
        )
        at = f'x="{left:.1f}" y="{base:.1f}" font-size="{letter:.1f}"'
        boxes.append(
            f'<g class="{escaped(mark.kind)}"><title>{escaped(mark.text)}</title>'
            f'<rect {place} width="{width:.1f}" height="{height:.1f}"></rect>'
            f"<text {at}>{number}</text></g>"
        )
    data = base64.b64encode(content).decode("ascii")
    said = "".join(f"<li>{escaped(mark.text)}</li>" for mark in marks)
    return (
        f'<figure><div class="marked"><img alt="{escaped(caption)}" '
        f'src="data:{escaped(kind)};base64,{data}">'
        f'<svg viewBox="0 0 {size[0]} {size[1]}">{"".join(boxes)}</svg></div>'
        f"<figcaption>{folded(caption, f'<ol>{said}</ol>')}</figcaption></figure>"
    )


def grid(figures: Iterable[str]) -> str:
    """Figures side by side, as many as fit."""
    content = "".join(figures)
    return f'<div class="grid">{content}</div>' if content else ""


def color_key(names: Iterable[tuple[str, str, str]]) -> str:
    """What lines stand for: (name, CSS colour, CSS style) of each."""
    items = (
        f'<li><span class="swatch" style="border-color: {color}; border-style: {style} none none">'
        f"</span>{escaped(name)}</li>"
        for name, color, style in names
    )
    return f'<ul class="key">{"".join(items)}</ul>'


def document(title: str, opening: Iterable[str], sections: Iterable[tuple[str, str]]) -> str:
    """The whole page. Its policy forbids scripts, and whatever does not lie in it.

    Args:
        title: Of the page.
        opening: What comes first.
        sections: (title, content) of each; one without content is left out.
    """
    shown = [(re.sub(r"\W+", "-", name.lower()), name, text) for name, text in sections if text]
    links = "".join(f'<li><a href="#{slug}">{escaped(name)}</a></li>' for slug, name, _ in shown)
    body = (
        f'<section id="{slug}"><h2>{escaped(name)}</h2>\n{text}\n</section>'
        for slug, name, text in shown
    )
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<link rel="icon" href="data:,">'  # else a browser asks the server for one
        f"<title>{escaped(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escaped(title)}</h1>\n{''.join(opening)}<nav><ul>{links}</ul></nav>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )
