"""Elements of a page. ElementTree escapes what is in them when it writes them."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

Element = ElementTree.Element

# Characters that HTML has no place for, halves of surrogate pairs, which UTF-8 has none for, and
# those that turn the direction of the text after them.
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\u202a-\u202e\u2066-\u2069]"
)


def tag(name: str, /, *children: Any, **attributes: Any) -> Element:
    """An element. Children are text, elements, sequences of both, or None for nothing.

    ``class_`` is the attribute ``class``, and ``stroke_width`` is ``stroke-width``.
    """
    named = {key.rstrip("_").replace("_", "-"): _clean(value) for key, value in attributes.items()}
    element = ElementTree.Element(name, named)
    for child in children:
        _append(element, child)
    return element


def _append(element: Element, child: Any) -> None:
    if child is None:
        return
    if isinstance(child, list | tuple):
        for one in child:
            _append(element, one)
    elif isinstance(child, ElementTree.Element):
        element.append(child)
    elif len(element):
        element[-1].tail = (element[-1].tail or "") + _clean(child)
    else:
        element.text = (element.text or "") + _clean(child)


def _clean(text: Any) -> str:
    return _ODD.sub("\N{REPLACEMENT CHARACTER}", str(text))


def document(root: Element) -> bytes:
    """The bytes of a page."""
    text = ElementTree.tostring(root, encoding="unicode", method="html")
    return f"<!DOCTYPE html>\n{text}\n".encode()
