"""The mode that changes colours alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_styletransfer.config import ColorMatch, Start, StyleConfig
from napari_styletransfer.engine.run import iter_stylize, plan
from napari_styletransfer.events import Finished, Preview, Started


def _result(content: Any, styles: Any, **options: Any) -> Finished:
    labels = options.pop("labels", None)
    events = list(iter_stylize(content, styles, StyleConfig(mode="colors", **options), labels=labels))
    assert [type(event) for event in events] == [Started, Preview, Finished]
    return events[-1]


@pytest.mark.parametrize("method", ColorMatch)
def test_the_result_has_the_style_s_mean_and_covariance(method: ColorMatch) -> None:
    random = np.random.default_rng(0)
    content = random.normal(0.5, 0.05, (40, 30, 3)).clip(0, 1)
    style = (random.normal(0, 0.04, (30, 30, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.3], [0, 0, 1]]) + 0.45).clip(0, 1)

    image = _result(content, [style], color_match=method).image.reshape(-1, 3).astype(float)

    np.testing.assert_allclose(image.mean(0), style.reshape(-1, 3).mean(0), atol=1e-3)
    np.testing.assert_allclose(np.cov(image.T), np.cov(style.reshape(-1, 3).T), atol=1e-4)


def test_no_network_is_loaded(
    content_image: np.ndarray, style_image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("weights were asked for")

    monkeypatch.setattr("napari_styletransfer.networks.weights.fetch", refuse)

    assert _result(content_image, [style_image]).iterations == 0


def test_a_start_image_is_not_asked_for(content_image: np.ndarray, style_image: np.ndarray) -> None:
    assert _result(content_image, [style_image], start="image").config.start is Start.RECOLORED


def test_only_the_labelled_region_changes(content_image: np.ndarray, style_image: np.ndarray) -> None:
    labels = np.zeros(content_image.shape[:2], np.uint8)
    labels[:20, :20] = 1

    image = _result(content_image, [style_image], labels=labels).image

    np.testing.assert_array_equal(image[labels == 0], content_image[labels == 0])
    assert np.abs(image - content_image)[labels == 1].mean() > 0.01


def test_the_plan_is_that_of_the_run(content_image: np.ndarray, style_image: np.ndarray) -> None:
    planned = plan(content_image, [style_image], StyleConfig(mode="colors", size=32))

    assert planned.device == "cpu"
    assert planned.total_iterations == 0
    assert _result(content_image, [style_image], size=32).image.shape[:2] == planned.sizes[-1]
