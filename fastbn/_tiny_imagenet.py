"""TinyImageNet: images of 64 x 64 in a folder a class, and text files that say which is which."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

_SHAPE = (3, 64, 64)

Labels = dict[str, int]


def read(path: str, dtype: npt.DTypeLike) -> dict[str, Any]:
    """The three sets and the names of the classes, as the files say."""
    names = [line[0] for line in _lines(path, "wnids.txt", 1)]
    labels = {name: label for label, name in enumerate(names)}
    words = {name: text for name, text in _lines(path, "words.txt", 2)}
    lacking = [name for name in names if name not in words]
    if lacking:
        raise ValueError(
            f"{os.path.join(path, 'words.txt')} must have a line for every class of wnids.txt; "
            f"it has none for {lacking[0]!r}"
        )
    train = [
        (os.path.join("train", name, "images", file), label)
        for name, label in labels.items()
        for (file,) in _lines(path, os.path.join("train", name, f"{name}_boxes.txt"), 1)
    ]
    val = _annotated(path, "val", labels)
    folder = os.path.join("test", "images")
    test: list[tuple[str, int | None]]
    test = [
        (os.path.join(folder, file), None)
        for file in sorted(os.listdir(os.path.join(path, folder)))
    ]
    if os.path.isfile(os.path.join(path, "test", "test_annotations.txt")):
        known = dict(_annotated(path, "test", labels))
        test = [(file, known.get(file)) for file, _ in test]
        for file, label in test:
            if label is None:
                raise ValueError(
                    f"{path} must have an annotation for every test image, or no "
                    f"test_annotations.txt; it has none for {file}"
                )
    data: dict[str, Any] = {
        "class_names": [[word.strip() for word in words[name].split(",")] for name in names]
    }
    for key, entries in (("train", train), ("val", val), ("test", test)):
        if not entries:
            raise ValueError(f"{path} must have at least one image for {key}; it has none")
        data[f"X_{key}"] = np.empty((len(entries), *_SHAPE), dtype)
        for X, (file, _) in zip(data[f"X_{key}"], entries, strict=True):
            X[...] = _image(os.path.join(path, file))
        classes = [label for _, label in entries]
        data[f"y_{key}"] = None if classes[0] is None else np.array(classes, np.int64)
    return data


def _lines(path: str, name: str, fields: int) -> list[tuple[str, ...]]:
    """The first `fields` fields, between tabs, of every line of a text file."""
    name = os.path.join(path, name)
    with open(name, encoding="utf-8") as file:
        try:
            lines = [line.rstrip("\r\n").split("\t") for line in file if line.strip()]
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} is not a text file: {error}") from error
    for number, line in enumerate(lines, start=1):
        if len(line) < fields:
            raise ValueError(
                f"{name} must have {fields} fields between tabs in every line; "
                f"line {number} is {line!r}"
            )
    return [tuple(field.strip() for field in line[:fields]) for line in lines]


def _annotated(path: str, part: str, labels: Labels) -> list[tuple[str, int]]:
    """Files of validation or test images with their labels."""
    entries = []
    name = os.path.join(part, f"{part}_annotations.txt")
    for file, wnid in _lines(path, name, 2):
        if wnid not in labels:
            raise ValueError(
                f"{os.path.join(path, name)} must name classes of wnids.txt; got {wnid!r}"
            )
        entries.append((os.path.join(part, "images", file), labels[wnid]))
    return entries


def _image(path: str) -> npt.NDArray[np.uint8]:
    """The pixels (3, 64, 64) of an image; grey ones thrice."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "images are read with Pillow, which is not installed: pip install 'fastbn[images]'"
        ) from error
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            if image.size != _SHAPE[:0:-1]:
                raise ValueError(f"it must be 64 x 64; got {image.size[0]} x {image.size[1]}")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except OSError as error:
        if error.errno is not None:  # not there, not allowed: nothing about what is in it
            raise
        raise ValueError(f"{path} is not a readable image: {error}") from error
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{path} is not a readable image: {error}") from error
