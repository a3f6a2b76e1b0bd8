"""The picture of a part's states, drawn from the code's own names for them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from textwrap import wrap

from airflow_claude_batch.batches.job.part import PartState

WIDTH, HEIGHT = 760, 430
BOX_WIDTH, BOX_HEIGHT = 200, 90
LINE_HEIGHT = 14
PLACES = {
    PartState.TO_SEND: (110, 60),
    PartState.UNCERTAIN: (650, 60),
    PartState.SUBMITTED: (650, 370),
    PartState.GIVEN_UP: (110, 370),
    PartState.UNBATCHED: (380, 370),
}
"""Centres of the boxes."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """How a part gets from one state to another."""

    line: tuple[int, int, int, int]
    why: str
    words: tuple[int, int]
    """Where they begin: the middle of the first line."""
    width: int
    """Characters in a line."""


MOVES = (
    Move(
        line=(210, 35, 550, 35),
        why="the intent is recorded, then the POST is sent",
        words=(380, 25),
        width=60,
    ),
    Move(
        line=(550, 85, 210, 85),
        why="surely nothing was created (429, 529, connection refused), or after the grace "
        "the list shows no batch that could be it",
        words=(380, 104),
        width=52,
    ),
    Move(
        line=(650, 105, 650, 325),
        why="the answer names the batch, or a batch that has ended shows the part's mark",
        words=(556, 190),
        width=26,
    ),
    Move(
        line=(110, 105, 110, 325),
        why="the API refuses a later round for good (no credit, say)",
        words=(204, 190),
        width=26,
    ),
)


def draw() -> str:
    """The picture as SVG; it takes the page's own colour of text.

    Raises:
        ValueError: When the code knows other states than the picture.
    """
    if set(PartState) != PLACES.keys():
        raise ValueError("The picture of a part's states is not that of the code")
    shapes = [_arrow(move) for move in MOVES] + [_box(state) for state in PartState]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="States of a part" '
        'style="max-width:100%;height:auto;font-family:inherit" fill="none" stroke="currentColor">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="9" markerHeight="9" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="currentColor" stroke="none"/></marker></defs>'
        f"{''.join(shapes)}</svg>"
    )


def _box(state: PartState) -> str:
    x, y = PLACES[state]
    left, top = x - BOX_WIDTH // 2, y - BOX_HEIGHT // 2
    frame = f'<rect x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>'
    name = _text(x, top + 22, state.name.replace("_", " ").lower(), 15, ' font-weight="600"')
    return frame + name + _lines(x, top + 42, state.value, 32)


def _arrow(move: Move) -> str:
    x1, y1, x2, y2 = move.line
    line = f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" marker-end="url(#tip)"/>'
    return line + _lines(*move.words, move.why, move.width)


def _lines(x: int, y: int, text: str, width: int) -> str:
    lines = enumerate(wrap(text, width))
    return "".join(_text(x, y + LINE_HEIGHT * number, line, 12) for number, line in lines)


def _text(x: int, y: int, text: str, size: int, weight: str = "") -> str:
    place = f'x="{x}" y="{y}" font-size="{size}" text-anchor="middle"'
    return f'<text {place} fill="currentColor" stroke="none"{weight}>{escape(text)}</text>'
