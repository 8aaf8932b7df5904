"""One call gives the stylised array, in the content's own dtype, and works where there is no napari and no Qt."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from napari_styletransfer.api import encode_result, run, stylize
from napari_styletransfer.config import StyleConfig
from napari_styletransfer.engine.run import iter_stylize, plan
from napari_styletransfer.engine.stack import iter_stylize_stack
from napari_styletransfer.errors import ConfigError, DivergedError, ImageError, StyleTransferError
from napari_styletransfer.events import Fetching, Finished, Preview, Reason, Started, Step
from napari_styletransfer.images.pixels import decode, encode

TINY = StyleConfig(network="compact", size=32, iterations=2, scales=1, device="cpu", precision="float32")


def as_dtype(image, dtype):
    if np.dtype(dtype).kind == "f":
        return (image * 700 - 200).astype(dtype)
    return (image * 255).astype(dtype) if dtype == np.uint8 else (image * 3000 + 100).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_the_result_has_the_dtype_and_range_of_the_content(content_image, style_image, dtype):
    content = as_dtype(content_image, dtype)
    result = stylize(content, style_image, TINY)
    assert result.dtype == dtype
    assert result.shape == (24, 32, 3)
    if dtype != np.uint8:
        assert result.min() >= content.min()
        assert result.max() <= content.max()
    assert len(np.unique(result)) > 50


def test_grey_content_gets_colour_and_alpha_is_kept(content_image, style_image):
    grey = as_dtype(content_image, np.uint8)[..., 0]
    result = stylize(grey, style_image, TINY)
    assert result.shape == (24, 32, 3)
    assert (result[..., 0] != result[..., 2]).any()
    alpha = np.full_like(grey, 77)
    result = stylize(np.dstack([grey, grey, grey, alpha]), style_image, TINY)
    assert result.shape == (24, 32, 4)
    assert (result[..., 3] == 77).all()


def test_fields_go_on_top_of_the_settings(content_image, style_image):
    seen = []
    stylize(content_image, [style_image], TINY, size=40, seed=3, on_event=seen.append)
    config = seen[-1].config
    assert (config.size, config.seed, config.iterations) == (40, 3, 2)
    with pytest.raises(ConfigError, match="size"):
        stylize(content_image, style_image, TINY, size=-1)
    with pytest.raises(ConfigError, match="sise"):
        stylize(content_image, style_image, TINY, sise=100)


def test_the_whole_run_can_be_watched(content_image, style_image):
    seen = []
    result = stylize(content_image, style_image, TINY, on_event=seen.append)
    events = [event for event in seen if not isinstance(event, Fetching)]
    assert isinstance(events[0], Started)
    assert sum(isinstance(event, Step) for event in events) == 2
    assert isinstance(events[-1], Finished)
    np.testing.assert_array_equal(result, events[-1].image)


def test_a_run_returns_how_the_image_was_made(content_image, style_image):
    content, seen = as_dtype(content_image, np.uint16), []
    result = run(content, style_image, TINY, on_event=seen.append, seed=3)
    started, finished = (next(event for event in seen if isinstance(event, kind)) for kind in (Started, Finished))
    np.testing.assert_array_equal(result.image, stylize(content, style_image, TINY, seed=3))
    assert result.plan == started.plan
    assert result.config.seed == 3
    assert StyleConfig.from_recipe(result.config.recipe()) == finished.config
    assert result.reason is Reason.ITERATIONS
    assert (result.iterations, result.history, result.losses) == (2, finished.history, finished.losses)
    assert (result.evaluations, result.seconds) == (finished.evaluations, finished.seconds)
    assert result.structure == finished.structure
    assert re.fullmatch(
        r"<StyleResult: 32×24 uint16, compact on cpu, 2 steps in [\d.]+ s \(iterations\), loss [\d.]+>", repr(result)
    )


@pytest.mark.parametrize(("dtype", "alpha"), [(np.uint8, False), (np.uint8, True), (np.float32, False)])
def test_a_notebook_shows_a_result_as_a_picture(content_image, style_image, dtype, alpha):
    content = as_dtype(content_image, dtype)
    content = np.dstack([content, np.full_like(content[..., 0], 255)]) if alpha else content
    result = run(content, style_image, TINY)
    shown = np.asarray(PIL.Image.open(io.BytesIO(result._repr_png_())))
    np.testing.assert_array_equal(shown, np.rint(decode(result.image)[0] * 255))
    large = replace(result, image=np.zeros((20, 5000, 3), np.uint16))
    assert PIL.Image.open(io.BytesIO(large._repr_png_())).size == (1024, 4)


def test_a_run_that_breaks_off_hands_out_what_it_reached(content_image, style_image, monkeypatch):
    def diverge(*args, **options):
        for event in iter_stylize(*args, **options):
            if isinstance(event, Finished):
                error = DivergedError("not finite")
                error.finished = replace(event, reason=Reason.FAILED)
                raise error
            yield event

    monkeypatch.setattr("napari_styletransfer.engine.run.iter_stylize", diverge)
    content = as_dtype(content_image, np.uint8)
    with pytest.raises(DivergedError) as caught:
        stylize(content, style_image, TINY)
    assert caught.value.result.reason is Reason.FAILED
    assert caught.value.result.image.dtype == np.uint8


def test_a_stop_returns_the_best_image_so_far(content_image, style_image):
    steps = []

    def note(event):
        if isinstance(event, Step | Finished):
            steps.append(event)

    result = stylize(
        content_image, style_image, TINY, iterations=500, on_event=note, should_stop=lambda: len(steps) >= 2
    )
    assert steps[-1].reason is Reason.STOPPED
    assert steps[-1].iterations < 10
    assert result.shape == (24, 32, 3)


def test_what_the_watcher_raises_ends_the_run(content_image, style_image):
    def watcher(event):
        if isinstance(event, Step):
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        stylize(content_image, style_image, TINY, on_event=watcher)


def test_several_styles_with_weights(content_image, style_image):
    styles = [style_image, as_dtype(style_image[::-1, :, ::-1], np.uint16)]
    first = stylize(content_image, styles, TINY, style_weights=(1, 0))
    second = stylize(content_image, styles, TINY, style_weights=(0, 1))
    assert np.abs(first - second).mean() > 0.02


def test_a_texture_is_made_without_content_in_the_dtype_of_the_first_style(style_image):
    style = as_dtype(np.dstack([style_image, style_image[..., 0]]), np.uint16)
    result = stylize(None, style, TINY, mode="style-reconstruction")
    assert result.dtype == np.uint16
    assert result.ndim == 3
    assert result.shape[2] == 3


@pytest.mark.parametrize("start", ["style-statistics", "image"])
def test_a_style_that_does_not_count_says_nothing_of_the_texture(style_image, start):
    unused = as_dtype(np.dstack([style_image] * 2)[:30, :20, :4], np.float32)
    used = as_dtype(style_image, np.uint16)
    given = {"mode": "style-reconstruction", "start": start, "size": None, "iterations": 1}
    init = used if start == "image" else None

    result = stylize(None, [unused, used], TINY, style_weights=(0, 1), init=init, **given)

    np.testing.assert_array_equal(result, stylize(None, used, TINY, init=init, **given))
    assert result.dtype == np.uint16
    assert result.shape == used.shape
    config = TINY.changed(style_weights=(0, 1), **given)
    # It is not even looked at.
    assert plan(None, ["no picture", used], config).sizes == ((48, 64),)
    stylize(None, ["no picture", used], config, init=init, should_stop=lambda: True)


def test_a_content_is_reconstructed_without_style(content_image):
    result = stylize(as_dtype(content_image, np.uint8), (), TINY, mode="content-reconstruction")
    assert result.dtype == np.uint8
    assert result.shape == (24, 32, 3)


def test_a_start_image_is_used(content_image, style_image):
    others = [
        stylize(content_image, style_image, TINY, start="image", init=init, iterations=1)
        for init in (content_image, 1 - content_image)
    ]
    assert np.abs(others[0] - others[1]).mean() > 0.05


def two_labels():
    labels = np.zeros((48, 64), np.uint8)
    labels[8:40, 6:28], labels[8:40, 36:58] = 1, 2
    return labels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("feather", [0, 4])
def test_outside_the_labels_the_contents_own_values_stay(content_image, style_image, dtype, feather):
    content, labels = as_dtype(content_image, dtype), two_labels()
    if np.dtype(dtype).kind == "f":
        content[0, 0], content[0, 1] = np.nan, np.inf
    result = stylize(content, style_image, TINY, size=None, labels=labels, feather=feather)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result[labels == 0], content[labels == 0])
    assert (result[labels > 0] != content[labels > 0]).mean() > 0.7


def test_outside_the_labels_grey_stays_grey_and_alpha_alpha(content_image, style_image):
    grey, labels = as_dtype(content_image, np.uint16)[..., 0], two_labels()
    result = stylize(grey, style_image, TINY, size=None, labels=labels > 0)
    for channel in range(3):
        np.testing.assert_array_equal(result[labels == 0][:, channel], grey[labels == 0])
    clear = np.dstack([as_dtype(content_image, np.uint8), np.arange(64, dtype=np.uint8) * np.ones((48, 1), np.uint8)])
    result = stylize(clear, style_image, TINY, size=None, labels=labels, regions={2: 0})
    np.testing.assert_array_equal(result[labels != 2], clear[labels != 2])
    np.testing.assert_array_equal(result[..., 3], clear[..., 3])


def test_labels_guide_a_run_at_a_reduced_size_too(content_image, style_image):
    result = stylize(content_image, style_image, TINY, labels=two_labels())
    assert result.shape == (24, 32, 3)


def test_a_plane_whose_labels_mark_nothing_comes_back_as_it_is(content_image):
    content = as_dtype(content_image, np.float32)
    content[0, 0] = np.nan
    rgb, encoding = decode(content)
    for image in (1 - rgb, rgb[:24, :32]):
        finished = Finished(image, TINY, Reason.ITERATIONS, 0, 0, 0.0, {}, ())
        result = encode_result(finished, encoding, content, np.zeros((48, 64), int), 1)
        np.testing.assert_array_equal(result, content if image.shape == content.shape else encode(image, encoding))


def test_no_preview_outlives_its_turn(content_image, style_image):
    seen = []

    def look(event):
        assert not [shown for shown in seen if shown() is not None]
        if isinstance(event, Preview):
            seen.append(weakref.ref(event.image))

    stylize(content_image, style_image, TINY, on_event=look)
    assert seen


def test_an_array_has_one_level(content_image, style_image):
    with pytest.raises(ConfigError, match="an array has one resolution"):
        stylize(content_image, style_image, TINY, level=1)


def test_labels_that_cannot_work_are_told(content_image, style_image):
    with pytest.raises(ImageError, match="whole numbers"):
        stylize(content_image, style_image, TINY, labels=two_labels() / 2)
    with pytest.raises(ImageError, match="10 x 10"):
        stylize(content_image, style_image, TINY, labels=np.ones((10, 10), int))
    with pytest.raises(ConfigError, match="style 3"):
        stylize(content_image, style_image, TINY, labels=two_labels(), regions={1: 3})


@pytest.mark.parametrize(
    ("content", "styles", "fields", "told"),
    [
        (False, True, {}, "needs a content picture"),
        (True, False, {}, "needs a style picture"),
        (False, False, {"mode": "style-reconstruction"}, "needs a style picture"),
    ],
)
def test_missing_pictures_are_told(content_image, style_image, content, styles, fields, told):
    with pytest.raises(ConfigError, match=told):
        stylize(content_image if content else None, [style_image] if styles else [], TINY, **fields)


def test_wrong_arrays_are_told(style_image):
    with pytest.raises(ImageError, match="one plane"):
        stylize(np.zeros((3, 4, 20, 20)), style_image, TINY)
    with pytest.raises(ImageError, match=r"\(3, 20, 20, 2\)"):
        stylize(style_image, np.zeros((3, 20, 20, 2)), TINY)


def masked(image):
    """Hide values that are far beyond the others."""
    mask = np.zeros(image.shape, bool)
    mask[5:9, 3:7] = True
    return np.ma.masked_array(np.where(mask, image.dtype.type(250), image), mask)


def palette(image):
    return PIL.Image.fromarray(image).quantize(16)


PICTURES = {
    "longdouble": (lambda image: image.astype(np.longdouble) * 40, lambda image: image * 40.0),
    "lists": (lambda image: image.tolist(), lambda image: image.astype(np.int64)),
    "memory view": (memoryview, lambda image: image),
    "bfloat16": (lambda image: torch.from_numpy(image / 256).bfloat16(), lambda image: np.float32(image / 256)),
    "float16 tensor": (lambda image: torch.from_numpy(image / 256).half(), lambda image: np.float16(image / 256)),
    "gradient": (lambda image: torch.from_numpy(image / 9).requires_grad_(), lambda image: image / 9),
    "masked": (masked, lambda image: masked(image).filled(image.min())),
    "masked floats": (lambda image: masked(image / 1), lambda image: masked(image / 1).filled(image.min())),
    "Pillow": (PIL.Image.fromarray, lambda image: image),
    "Pillow, grey": (lambda image: PIL.Image.fromarray(image).convert("L"), lambda image: np.asarray(
        PIL.Image.fromarray(image).convert("L")
    )),
    "Pillow, palette": (palette, lambda image: np.asarray(palette(image).convert("RGB"))),
    "Pillow, CMYK": (lambda image: PIL.Image.fromarray(image).convert("CMYK"), lambda image: image),
}  # fmt: skip
"""What can be handed in for a picture, and the array that it stands for, made from one of bytes from 5 to 200."""


@pytest.mark.parametrize(("given", "stands_for"), PICTURES.values(), ids=PICTURES)
def test_whatever_is_a_picture_is_taken_for_the_array_that_it_stands_for(content_image, style_image, given, stands_for):
    # Whole numbers that bfloat16 has.
    image = (content_image * 24).astype(np.uint8) * 8 + 8
    picture, array = given(image), stands_for(image)
    expected = stylize(array, [style_image], TINY)

    result = stylize(picture, [style_image], TINY)

    np.testing.assert_array_equal(result, expected)
    assert result.dtype == (picture if isinstance(picture, np.ndarray) else array).dtype
    as_style = stylize(style_image, [picture], TINY)
    np.testing.assert_array_equal(as_style, stylize(style_image, [array], TINY))


def test_a_masked_array_with_alpha_that_hides_nothing_is_only_read(content_image, style_image):
    rgba = np.dstack([content_image, np.full(content_image.shape[:2], 0.5, np.float32)])
    rgba.setflags(write=False)
    np.testing.assert_array_equal(
        stylize(np.ma.masked_array(rgba), [style_image], TINY), stylize(rgba, [style_image], TINY)
    )


def test_one_picture_of_pillow_is_one_style(content_image, style_image):
    image = (style_image * 255).astype(np.uint8)
    np.testing.assert_array_equal(
        stylize(content_image, PIL.Image.fromarray(image), TINY), stylize(content_image, image, TINY)
    )


NO_PICTURES = {
    "ragged": [[1, 2], [3]],
    "rows of several lengths": [[np.zeros(20), np.zeros(21)]],
    "path": Path("picture.png"),
    "text": "picture.png",
    "bytes": b"picture",
    "number": 3,
    "nothing in it": [],
    "huge integers": [[10**400] * 20] * 20,
    "dictionary": {"data": np.zeros((20, 30))},
    "objects": np.full((20, 30), None),
    "object": object(),
    "complex": np.zeros((20, 30), complex),
    "times": np.zeros((20, 30), "M8[s]"),
    "durations": np.zeros((20, 30), "m8[s]"),
    "words": np.full((20, 30), "a"),
    "records": np.zeros((20, 30), "u1,f4"),
    "raw": np.zeros((20, 30), "V4"),
    "masked": np.ma.masked_all((20, 30)),
    "masked words": np.ma.masked_array(np.full((20, 30), "a"), True),
    "empty masked": np.ma.masked_array(np.zeros((0, 30))),
    "infinite longdouble": np.full((20, 30), np.finfo(np.longdouble).max),
    "meta tensor": torch.zeros(20, 30, device="meta"),
    "sparse tensor": torch.zeros(20, 30).to_sparse(),
    "conjugated tensor": torch.zeros(20, 30, dtype=torch.complex64).conj(),
    "channels first": torch.zeros(3, 20, 30),
    "style missing": None,
}


@pytest.mark.parametrize("bad", NO_PICTURES.values(), ids=NO_PICTURES)
def test_whatever_is_no_picture_is_told_in_a_line(content_image, style_image, bad):
    def stacked(plane, style):
        list(iter_stylize_stack([lambda: plane], [style], TINY))

    calls = [lambda content, style: list(iter_stylize(content, [style], TINY)), stacked]
    calls += [
        lambda content, style: plan(content, [style], TINY),
        lambda content, style: stylize(content, [style], TINY),
    ]
    for call in calls:
        for pictures in ((bad, style_image), (content_image, bad)):
            with pytest.raises(StyleTransferError) as caught:
                call(*pictures)
            assert re.fullmatch(r"[A-Z].{20,400}[.)]", str(caught.value)), str(caught.value)
    with pytest.raises(StyleTransferError):
        stylize(content_image, bad, TINY)
    with pytest.raises(StyleTransferError):
        stylize(None, bad, TINY, mode="style-reconstruction")
    if bad is not None:
        with pytest.raises(ImageError):
            stylize(content_image, style_image, TINY, start="image", init=bad)
        with pytest.raises(ImageError):
            stylize(content_image, style_image, TINY, labels=bad)
    for styles in (bad, [bad]):
        with pytest.raises(StyleTransferError):
            plan(None, styles, TINY.changed(mode="style-reconstruction", start="image"))


def test_labels_that_are_hidden_mark_nothing(content_image, style_image):
    labels = np.ma.masked_array(two_labels() + 1, mask=two_labels() != 1)
    result, expected = (
        stylize(content_image, style_image, TINY, size=None, labels=given) for given in (labels, two_labels() == 1)
    )
    np.testing.assert_array_equal(result, expected)


WITHOUT_NAPARI = """
import sys
import weakref

class Blocked:
    names = {"napari", "qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "magicgui", "superqt", "pyqtgraph", "vispy"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocked())
import numpy as np
from napari_styletransfer import StyleConfig, iter_stylize, stylize

assert "torch" not in sys.modules or iter_stylize
rng = np.random.default_rng(0)
content, style = rng.integers(0, 256, (2, 48, 64, 3), np.uint8)
result = stylize(content, style, StyleConfig(network="compact", size=64, iterations=2))
print(result.shape, result.dtype)
"""


def test_it_works_without_napari_and_qt():
    done = subprocess.run([sys.executable, "-c", WITHOUT_NAPARI], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(48, 64, 3) uint8"
