"""Drawings of kernels, as SVG within the page: they take the theme's colours, light and dark.

``{nest}`` is pseudo-code, a loop a line and its body indented by two spaces. After a bar it says
what the loop keeps, and where, while it runs::

    each block of outputs
      each chunk of channels | L2: frame of x
        each tile | registers: sums; L1: pixels

``{traffic}`` is an array a line, and how often it moves from where to where::

    x   | memory > L2: once | L2 > registers: once a tile
    out | registers > memory: once

The argument of both is the caption.
"""

import textwrap
from html import escape

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

LEVELS = ("memory", "L2", "L1", "registers")
WIDTH = 760
ROW = 25  # height of a line of pseudo-code
CODE = 6.95  # width of a letter of it, at 11.5 px
WORD = 5.7  # of one of a label, at 11 px: about


def _text(x, y, words, kind="label", anchor="start"):
    place = f'x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(words)}</text>'


def _rect(x, y, width, height, kind):
    return (
        f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}"'
        ' rx="4"/>'
    )


def _svg(height, caption, parts):
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(caption)}">'
        f"{''.join(parts)}</svg>"
    )


def _entries(text, number):
    """The `place: words` pairs of a line."""
    for entry in filter(None, (part.strip() for part in text)):
        place, colon, words = entry.partition(":")
        if not colon:
            raise ValueError(f"line {number}: {entry!r} must be PLACE: WORDS")
        yield place.strip(), words.strip()


def nest(lines, caption):
    """SVG of pseudo-code and of what stays where while a loop runs."""
    rows, kept = [], []
    for number, line in enumerate(lines):
        code, _, rest = line.partition("|")
        depth = (len(code) - len(code.lstrip())) // 2
        rows.append((depth, code.strip()))
        for place, words in _entries(rest.split(";"), number + 1):
            if place not in LEVELS[1:]:
                raise ValueError(f"line {number + 1}: {place!r} must be one of {LEVELS[1:]}")
            kept.append((number, place, words))

    def end(first):
        """One past the last line of the block that begins at a line."""
        after = (n for n in range(first + 1, len(rows)) if rows[n][0] <= rows[first][0])
        return next(after, len(rows))

    used = [level for level in LEVELS if any(place == level for _, place, _ in kept)]
    left = max(16 + 16 * depth + CODE * len(code) for depth, code in rows) + 14
    column = (WIDTH - left) / max(1, len(used))
    top = 24 if used else 0
    parts = []
    for n, level in enumerate(used):
        x = left + n * column
        parts.append(_rect(x + 3, 2, column - 6, top + ROW * len(rows), "level"))
        parts.append(_text(x + column / 2, 17, level, "head", "middle"))
    for number, (depth, code) in enumerate(rows):
        x, y = 12 + 16 * depth, top + ROW * number
        if end(number) > number + 1:
            bottom = top + ROW * end(number) - 5
            parts.append(f'<path class="guide" d="M{x} {y + ROW - 4}V{bottom}h6"/>')
        parts.append(_text(x, y + 17, code, "code"))
    for number, place, words in kept:
        # A bar within another of the same level is narrower.
        around = sum(p == place and n < number < end(n) for n, p, _ in kept)
        beside = [w for n, p, w in kept if (n, p) == (number, place)]
        width = (column - 12 - 9 * around) / len(beside)
        x = left + used.index(place) * column + 6 + 9 * around + width * beside.index(words)
        y = top + ROW * number
        # As far as the next bar within, there is room for words.
        inner = [n for n, p, _ in kept if p == place and number < n < end(number)]
        room = min([*inner, end(number)]) - number
        parts.append(_rect(x, y + 2, width - 1, ROW * (end(number) - number) - 4, f"bar {place}"))
        for n, line in enumerate(textwrap.wrap(words, max(6, int((width - 8) / WORD)))):
            if 13 * (n + 1) > ROW * room - 4:
                raise ValueError(f"line {number + 1}: {words!r} does not fit its bar")
            parts.append(_text(x + 6, y + (15 if room == 1 and n == 0 else 17) + 13 * n, line))
    return _svg(top + ROW * len(rows) + 6, caption, parts)


def traffic(lines, caption):
    """SVG of arrays on their way between memory, caches and registers."""
    arrays = []
    for number, line in enumerate(lines, 1):
        name, *moves = line.split("|")
        arrays.append((name.strip(), list(_entries(moves, number))))
    ends = {end.strip() for _, moves in arrays for way, _ in moves for end in way.split(">")}
    if not ends <= set(LEVELS):
        raise ValueError(f"{sorted(ends - set(LEVELS))} must be of {LEVELS}")
    used = [level for level in LEVELS if level in ends]
    left = max(CODE * len(name) for name, _ in arrays) + 24
    column = (WIDTH - left) / len(used)
    post = min(76, column / 2.6)
    top, lane = 26, 42
    parts = []
    for n, level in enumerate(used):
        x = left + (n + 0.5) * column
        parts.append(_rect(x - post / 2, 2, post, top + lane * len(arrays), "level"))
        parts.append(_text(x, 17, level, "head", "middle"))
    for number, (name, moves) in enumerate(arrays):
        y = top + lane * number + 28
        parts.append(_text(6, y + 4, name, "code"))
        for way, words in moves:
            start, stop = (used.index(end.strip()) for end in way.split(">"))
            sign = 1 if stop > start else -1
            a = left + (start + 0.5) * column + sign * (post / 2 - 8)
            b = left + (stop + 0.5) * column - sign * (post / 2 - 4)
            kind = "read" if sign > 0 else "write"
            parts.append(f'<path class="move {kind}" d="M{a:.0f} {y}H{b - sign * 6:.0f}"/>')
            parts.append(
                f'<path class="point {kind}" d="M{b:.0f} {y}l{-8 * sign} -4v8z"/>'
                f'<circle class="point {kind}" cx="{a:.0f}" cy="{y}" r="3"/>'
            )
            parts.append(_text((a + b) / 2, y - 7, words, "label middle", "middle"))
    return _svg(top + lane * len(arrays) + 6, caption, parts)


class Drawing(SphinxDirective):
    """A figure; ``draw`` says which."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    draw = None

    def run(self):
        caption = self.arguments[0]
        try:
            svg = type(self).draw([line for line in self.content if line.strip()], caption)
        except ValueError as error:
            raise self.error(str(error)) from None
        below = f"<figcaption>{escape(caption)}</figcaption>"
        html = f'<figure class="drawing"><div>{svg}</div>{below}</figure>'
        return [nodes.raw("", html, format="html")]


def setup(app):
    for function in (nest, traffic):
        name = function.__name__
        app.add_directive(name, type(name, (Drawing,), {"draw": staticmethod(function)}))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
