"""Whether size changes the look: one recipe at several sizes, judged at one. Called by `jobs` and `measurement`."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.runs import textbook
from benchmarks.setting import FIXED, Case, Setting
from napari_styletransfer.config import StyleConfig
from napari_styletransfer.engine.events import Finished
from napari_styletransfer.engine.pyramid import resized
from napari_styletransfer.engine.transfer import iter_stylize

PICTURE = "size-invariance.jpg"
"""Name of the file that shows the results next to each other."""

_SHOWN = 512
"""Longest side in pixels at which each picture is shown."""

_DETAIL = 0.35
"""Side of the detail shown below it, in units of the picture's."""


def render(case: dict[str, Any], judged: list[int], path: str) -> dict[str, Any]:
    """Do a whole run with all its scales, write the picture, and take its terms at the size `judged`.

    The terms are those of the picture resized to (height, width) of `judged`, against content and style at that size,
    unweighted, in float32. With them come those of the content itself.
    """
    whole = {name: StyleConfig.model_fields[name].default for name in FIXED if name != "size"}
    setting = Setting(Case(**case))
    config = setting.config.changed(**whole, **case["fields"])
    began = time.perf_counter()
    *_, finished = iter_stylize(setting.content, [setting.style], config, preview_interval=float("inf"))
    seconds = time.perf_counter() - began
    if not isinstance(finished, Finished):
        raise AssertionError("a run ends with its result")
    np.save(path, finished.image)
    judge = Setting(replace(Case(**case), height=judged[0], width=judged[1]))
    model = textbook(judge)
    shown = torch.from_numpy(finished.image).permute(2, 0, 1)[None].contiguous()
    with torch.no_grad():
        small = resized(shown, *judge.size).clamp(0, 1).to(judge.device)
        found = [[float(term) for term in model.terms(image)] for image in (small, judge.content_tensor())]
    return {
        "terms": found[0],
        "untouched": found[1],
        "evaluations": finished.evaluations,
        "seconds": seconds,
    }


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
