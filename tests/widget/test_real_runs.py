"""The real engine, run from the form of a real viewer: what comes of it can be saved, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as PillowImage

from napari_styletransfer.session.run_session import State
from napari_styletransfer.widget.dock_widget import StyleTransferWidget

CONTENTS = {
    "uint16": lambda unit: (300 + 8700 * unit).astype(np.uint16),
    "float": lambda unit: (unit * 1e3 - 200).astype(np.float32),
    "bool": lambda unit: unit > 0.5,
    "uint8": lambda unit: np.rint(255 * unit).astype(np.uint8),
}


def result_of(form: StyleTransferWidget, qtbot: Any) -> Any:
    form.run()
    qtbot.waitUntil(lambda: not form.session.status.active, timeout=120_000)
    assert form.session.status.state is State.DONE, form.session.status.message
    return form.session.output.layer


def saved(layer: Any, path: Path) -> npt.NDArray[Any]:
    assert layer.save(str(path)) == [str(path)]
    with PillowImage.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("color", [False, True], ids=["grey", "rgb"])
def test_a_result_in_colour_of_any_content_is_saved_as_png(
    real_form: StyleTransferWidget,
    napari_window: Any,
    content_image: Any,
    qtbot: Any,
    tmp_path: Path,
    kind: str,
    color: bool,
) -> None:
    unit = content_image.clip(0.05, 0.95)
    data = CONTENTS[kind](unit if color else unit[..., 0])
    content = napari_window.add_image(data, rgb=color, name="content")
    real_form.pictures.choose(content, [napari_window.layers["waves"]])

    layer = result_of(real_form, qtbot)

    assert layer.rgb
    assert np.ptp(layer.data) > 50
    np.testing.assert_array_equal(saved(layer, tmp_path / "result.png"), layer.data)


def test_a_texture_lies_on_the_first_style_that_counts(
    real_form: StyleTransferWidget, napari_window: Any, style_image: Any, qtbot: Any
) -> None:
    used = napari_window.add_image(style_image, rgb=True, name="used", scale=(0.5, 0.5), translate=(3, 4))
    unused = napari_window.add_image(style_image[:20, :30], rgb=True, name="unused", scale=(9, 9))
    real_form.settings.editors["mode"].write("style-reconstruction")
    real_form.pictures.choose(styles=[unused, used])
    assert real_form.pictures.style_layers == [unused, used]
    real_form.pictures.set_style_weights((0, 1))

    layer = result_of(real_form, qtbot)

    np.testing.assert_allclose(layer.extent.world, used.extent.world, atol=0.5)
    assert layer.data.shape == (36, 48, 3)


@pytest.mark.parametrize("axes", [(), (0,)], ids=["this plane", "all planes"])
def test_planes_of_a_stack_are_saved_as_png(
    real_form: StyleTransferWidget,
    napari_window: Any,
    content_image: Any,
    qtbot: Any,
    tmp_path: Path,
    axes: tuple[int, ...],
) -> None:
    frames = np.stack([content_image[..., number] for number in range(2)])
    content = napari_window.add_image(CONTENTS["uint16"](frames), name="movie")
    real_form.pictures.choose(content, [napari_window.layers["waves"]])
    napari_window.dims.set_current_step(0, 1)
    real_form.output.choose(axes=axes)

    layer = result_of(real_form, qtbot)

    assert layer.data.shape == (2 if axes else 1, 36, 48, 3)
    # Of several planes napari writes the frames of an animated PNG.
    np.testing.assert_array_equal(saved(layer, tmp_path / "result.png"), layer.data[0])
