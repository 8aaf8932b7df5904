"""Whole runs and what they look like: rendered, judged, and shown beside each other.

Called by `jobs` and `measurement`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from benchmarks.judge import VGGJudge, at_side, fine_energy
from benchmarks.runs import textbook
from benchmarks.setting import Case, Setting
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.events import Finished
from napari_styletransfer.images.resize import resize

PICTURES = {"clock": "picture-by-time.jpg", "whole": "whole-runs.jpg", "sizes": "size-invariance.jpg"}
"""Names of the files that show the results of a table next to each other."""

_SHOWN = 512
"""Longest side in pixels at which each picture is shown."""

_IN_SHEET = 384
"""The same for the pictures of a sheet."""

_CAPTION = 18
"""Height in pixels of the line above a picture."""

_DETAIL = 0.35
"""Side of the detail shown below it, in units of the picture's."""


def render(case: dict[str, Any], judged: list[int], path: str) -> dict[str, Any]:
    """Do a whole run with all its scales, write the picture, and take its terms at the size `judged`.

    The terms are those of the picture resized to (height, width) of `judged`, against content and style at that size,
    unweighted, in float32. With them come those of the content itself.
    """
    setting = Setting(Case(**case))
    began = time.perf_counter()
    *_, finished = iter_stylize(setting.content, [setting.style], setting.whole, preview_interval=float("inf"))
    seconds = time.perf_counter() - began
    if not isinstance(finished, Finished):
        raise AssertionError("a run ends with its result")
    np.save(path, finished.image)
    judge = Setting(replace(Case(**case), height=judged[0], width=judged[1]))
    model = textbook(judge)
    shown = torch.from_numpy(finished.image).permute(2, 0, 1)[None].contiguous()
    with torch.no_grad():
        small = resize(shown, *judge.size).clamp(0, 1).to(judge.device)
        found = [[float(term) for term in model.terms(image)] for image in (small, judge.content_tensor())]
    return {
        "terms": found[0],
        "untouched": found[1],
        "evaluations": finished.evaluations,
        "seconds": seconds,
    }


def judge(case: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """Return what the original VGG-19 says of pictures made of a case, and how fine a pattern they have.

    All are looked at with the longest side of the case, the style as a whole.
    """
    setting = Setting(Case(**case))
    verdict_of = VGGJudge(setting.content, setting.style, max(setting.size))
    pictures = [at_side(np.load(path), max(setting.size)) for path in paths]
    return {
        "verdicts": [{**asdict(verdict_of(each)), "fine": fine_energy(each, setting.style)} for each in pictures],
        "untouched": {"style": 1.0, "content": 0.0, "fine": fine_energy(setting.content, setting.style)},
    }


def sheet(rows: Sequence[Sequence[tuple[str, Path | None]]], path: Path) -> None:
    """Write rows of pictures of any sizes, each under its caption; None for an empty place."""
    width = height = 0
    shown: list[list[tuple[str, Image.Image | None]]] = []
    for row in rows:
        shown.append([])
        for caption, file in row:
            image = None
            if file is not None:
                image = Image.fromarray((np.load(file) * 255).round().astype(np.uint8))
                factor = _IN_SHEET / max(image.size)
                size = (round(image.width * factor), round(image.height * factor))
                image = image.resize(size, Image.Resampling.LANCZOS)
                width, height = max(width, size[0]), max(height, size[1])
            shown[-1].append((caption, image))
    columns = max(len(row) for row in shown)
    whole = Image.new("RGB", (columns * width, len(shown) * (height + _CAPTION)), "white")
    draw = ImageDraw.Draw(whole)
    for y, line in enumerate(shown):
        for x, (caption, image) in enumerate(line):
            corner = (x * width, y * (height + _CAPTION))
            draw.text((corner[0] + 2, corner[1] + 3), caption, fill="black")
            if image is not None:
                whole.paste(image, (corner[0], corner[1] + _CAPTION))
    whole.save(path, quality=80)


def side_by_side(pictures: list[Path], path: Path) -> None:
    """Write pictures of any sizes next to each other, each with a detail from the same place below it."""
    columns = []
    for picture in pictures:
        image = Image.fromarray((np.load(picture) * 255).round().astype(np.uint8))
        factor = _SHOWN / max(image.size)
        size = (round(image.width * factor), round(image.height * factor))
        left, top = (round(side * (1 - _DETAIL) / 2) for side in image.size)
        detail = image.crop((left, top, round(left + image.width * _DETAIL), round(top + image.height * _DETAIL)))
        column = [np.asarray(part.resize(size, Image.Resampling.LANCZOS)) for part in (image, detail)]
        columns.append(np.concatenate(column))
    Image.fromarray(np.concatenate(columns, axis=1)).save(path, quality=75)
