"""The target `metadata`: what result layers say of how they were made, after others have changed it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.layers.read import resolve
from napari_styletransfer.layers.regions import resolve_labels
from napari_styletransfer.layers.stack import stack_of
from napari_styletransfer.layers.write import METADATA_KEY, is_sheet, read_recipe, run_metadata
from napari_styletransfer.session.job import Job
from napari_styletransfer.session.networks import made_with_other_weights
from napari_styletransfer.session.result_metadata import PICTURES_KEY, job_metadata
from napari_styletransfer.session.resume import find_continuation, find_result

from .odd import mutated, odd, told
from .outcomes import Call


def metadata(rng: random.Random, folder: Path) -> Iterable[Call]:
    """Ask of a layer what the form asks when it is selected and when its buttons are pressed."""
    viewer, made = _results()
    layer = viewer.layers[rng.choice(list(made))]
    written = mutated(rng, made[layer.name])
    part = rng.random()
    if part < 0.3:  # where the record of the pictures itself is changed, and nothing else
        written = {**made[layer.name], PICTURES_KEY: mutated(rng, made[layer.name][PICTURES_KEY])}
    elif part < 0.33:
        written = odd(rng)
    layer.metadata = {METADATA_KEY: written}
    what = told(written, 1500)
    yield Call(f"settings of {what}", lambda: _settings(layer))
    yield Call(f"continue with {what}", lambda: _continue(viewer, layer))


def _settings(layer: Image) -> None:
    is_sheet(layer)
    recipe = read_recipe(layer)
    if recipe is not None:
        made_with_other_weights(StyleConfig.from_recipe(recipe))


def _continue(viewer: ViewerModel, layer: Image) -> None:
    chosen = find_result([None, layer])
    session: Any = SimpleNamespace(last=None, cache=SimpleNamespace(get=lambda layer: None))
    found = find_continuation(session, viewer, chosen)
    assert found.description
    run = found.prepare(StyleConfig())
    assert run.job.reference.read().shape[2] == 3


@lru_cache(maxsize=1)
def _results() -> tuple[ViewerModel, dict[str, dict[str, Any]]]:
    """Return a viewer with a picture, a stack, a region and results of them, and what the results say of themselves."""
    rng = np.random.default_rng(0)
    viewer = ViewerModel()
    content = viewer.add_image(rng.random((24, 32)), name="cells")
    movie = viewer.add_image(rng.random((3, 24, 32)), name="movie")
    style = viewer.add_image(rng.random((20, 20, 3)), name="waves")
    labels = viewer.add_labels(rng.integers(0, 3, (24, 32)), name="regions")
    # Read as the form does, and written down as the form does.
    styles = (resolve(style),)
    plane = resolve(content)
    marks = [resolve_labels(plane, labels, {1: 1, 2: 2})]
    whole = resolve(movie)
    stack = stack_of(whole, (0,))
    jobs = {
        "picture": Job(plane, styles, StyleConfig(style_weights=(1.0,), network="compact")),
        "guided": Job(plane, styles, StyleConfig(regions={1: 0, 2: None}), labels=marks),
        "stack": Job(whole, styles, StyleConfig(), stack=stack),
    }
    made = {}
    for name, job in jobs.items():
        planes = [{"plane": 0, "losses": {"total": 0.5}, "reason": "iterations"}] if job.stack is not None else []
        kept = run_metadata(
            recipe=job.config.recipe(), content=job.reference.name, styles=["waves"], history=[0.5, 0.25],
            losses={"total": 0.25}, planes=planes, **job_metadata(job),
        )  # fmt: skip
        shape = (3, 24, 32, 3) if job.stack is not None else (24, 32, 3)
        made[viewer.add_image(np.zeros(shape, np.uint8), name=name, rgb=True).name] = kept[METADATA_KEY]
    # Layers that are no results, with the metadata of one.
    made[viewer.add_points(np.zeros((2, 2)), name="points").name] = made["picture"]
    made[viewer.add_image(np.zeros((9, 9)), name="one plane").name] = made["stack"]
    return viewer, made
