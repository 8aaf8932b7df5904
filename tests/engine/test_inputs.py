"""What users hand in is checked, and becomes what the engine works on."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ConfigError, ImageError
from napari_styletransfer.images import color
from napari_styletransfer.images.laplacian import StyleStatistics, match_finest_octave, match_statistics
from napari_styletransfer.images.resize import resize, working_size
from napari_styletransfer.planning.inputs import RunInputs, check_size


def picture(height: int = 40, width: int = 50, seed: int = 0, dtype: Any = np.float32) -> Any:
    values = 0.1 + 0.8 * np.random.default_rng(seed).random((height, width, 3))
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * np.iinfo(dtype).max).astype(dtype)


def checked(content: Any, styles: Any, init: Any = None, **fields: Any) -> RunInputs:
    return RunInputs.from_arrays(content, styles, StyleConfig(**fields), init)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_pictures_of_any_dtype_become_float_images_in_the_range(dtype: Any) -> None:
    found = checked(picture(dtype=dtype), [picture(dtype=dtype, seed=1)])

    for image in (found.content, *found.styles):
        assert image is not None
        assert image.shape == (1, 3, 40, 50)
        assert image.dtype is torch.float32
        assert image.is_contiguous()
        assert 0 <= float(image.min()) < float(image.max()) <= 1


def test_grey_content_gets_three_equal_channels() -> None:
    found = checked(picture()[..., 0], [picture()])

    assert found.content is not None
    assert torch.equal(found.content[:, 0], found.content[:, 2])


@pytest.mark.parametrize(
    ("content", "styles", "fields", "message"),
    [
        (None, [picture()], {}, "needs a content picture"),
        (None, [], {"mode": "content-reconstruction"}, "needs a content picture"),
        (picture(), [], {}, "needs at least one style picture"),
        (None, [], {"mode": "style-reconstruction"}, "needs at least one style picture"),
        (picture(), picture(), {}, "put the one picture into a list"),
        (picture(), [picture()], {"style_weights": (1, 2)}, "1 style pictures but 2 blend weights"),
        (picture(), [picture()], {"start": "image"}, "needs the image to start from"),
        (None, [picture()], {"mode": "style-reconstruction", "color": "match"}, "need a content picture"),
        (None, [picture()], {"mode": "style-reconstruction", "start": "content"}, "needs a content picture"),
    ],
)
def test_pictures_that_do_not_fit_the_settings_are_refused(
    content: Any, styles: Any, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(content, styles, **fields)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full((40, 50, 3), np.nan), "NaN"),
        (np.zeros((40, 50, 2)), "one channel or plane"),
        (np.zeros((4, 40, 50, 3)), "one plane"),
        (np.zeros((0, 50, 3)), "some pixels"),
        (np.zeros((40, 50), complex), "magnitude"),
        (np.array([["a"]]), "numbers"),
    ],
)
def test_an_array_that_is_no_picture_is_refused_by_its_role(bad: Any, message: str) -> None:
    good = picture()
    with pytest.raises(ImageError, match=rf"content picture: .*{message}"):
        checked(bad, [good])
    with pytest.raises(ImageError, match=rf"style 2 picture: .*{message}"):
        checked(good, [good, bad])
    with pytest.raises(ImageError, match=rf"start picture: .*{message}"):
        checked(good, [good], init=bad, start="image")


def test_single_nan_pixels_do_not_reach_the_engine() -> None:
    content = picture()
    content[3, 4] = np.nan
    content[5, 6] = np.inf

    found = checked(content, [picture(seed=1)])

    assert found.content is not None
    assert bool(torch.isfinite(found.content).all())


def test_blend_weights_are_shares_and_styles_without_one_are_left_out() -> None:
    styles = [picture(seed=1), picture(seed=2), picture(seed=3)]

    found = checked(picture(), styles, style_weights=(1, 0, 3))

    assert found.weights == (0.25, 0.75)
    np.testing.assert_array_equal(found.styles[1][0].permute(1, 2, 0).numpy(), styles[2])


def test_without_blend_weights_all_styles_count_alike() -> None:
    assert checked(picture(), [picture(seed=1), picture(seed=2)]).weights == (0.5, 0.5)


def test_a_content_reconstruction_looks_at_no_style() -> None:
    found = checked(picture(), ["not a picture"], mode="content-reconstruction")

    assert found.styles == ()


def test_the_working_size_is_that_of_the_content() -> None:
    assert checked(picture(80, 100), [picture(300, 300)], size=50).size == (40, 50)


def test_without_content_the_working_size_is_that_of_the_first_style() -> None:
    found = checked(None, [picture(60, 90), picture(30, 30)], mode="style-reconstruction", size=45)

    assert found.size == (30, 45)


def test_the_first_style_that_counts_gives_the_size() -> None:
    styles = [picture(60, 90), picture(30, 40)]

    assert checked(None, styles, mode="style-reconstruction", style_weights=(0, 1)).size == (30, 40)


def test_matching_colours_gives_the_styles_those_of_the_content() -> None:
    config = StyleConfig(color="match")
    found = checked(picture() * 0.5, [picture(seed=1)], color="match")

    colored = found.colored(config)

    assert colored.content is found.content
    np.testing.assert_allclose(
        colored.styles[0].mean(dim=(2, 3)).numpy(), found.content.mean(dim=(2, 3)).numpy(), atol=5e-3
    )


def test_keeping_the_content_colours_leaves_lightness_alone_to_the_losses() -> None:
    config = StyleConfig(color="content")
    found = checked(picture() * 0.5, [picture(seed=1)], color="content")

    colored = found.colored(config)

    for image in (colored.content, *colored.styles):
        assert image is not None
        assert torch.equal(image[:, 0], image[:, 1])
    assert float(colored.styles[0].mean()) == pytest.approx(float(colored.content.mean()), abs=1e-3)


def test_the_colours_of_the_style_change_no_picture() -> None:
    found = checked(picture(), [picture(seed=1)])

    assert found.colored(StyleConfig()) is found


def started(start: str, seed: int = 0, **fields: Any) -> np.ndarray:
    found = checked(picture(), [picture(seed=1)], init=picture(60, 60, seed=2), start=start, seed=seed, **fields)
    image = found.start_at(32, 40, StyleConfig(start=start, seed=seed, **fields))
    assert image.shape == (1, 3, 32, 40)
    assert image.dtype is torch.float32
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1
    return image[0].permute(1, 2, 0).numpy()


STARTS = ["retextured", "recolored", "content", "style-statistics", "median-noise", "white-noise", "image"]


@pytest.mark.parametrize("start", STARTS)
def test_a_start_is_the_same_for_the_same_seed(start: str) -> None:
    np.testing.assert_array_equal(started(start), started(start))


@pytest.mark.parametrize("start", ["style-statistics", "median-noise", "white-noise"])
def test_noise_differs_with_the_seed(start: str) -> None:
    assert not np.array_equal(started(start, seed=1), started(start, seed=2))


def test_white_noise_is_uniform() -> None:
    noise = started("white-noise")

    assert noise.mean() == pytest.approx(0.5, abs=0.02)
    assert noise.var() == pytest.approx(1 / 12, rel=0.1)


def test_median_noise_is_that_of_the_lesson() -> None:
    uniform = np.random.default_rng(5).random((32, 40, 3), dtype=np.float32)

    expected = scipy.ndimage.median_filter(uniform, [8, 8, 1]) / 2

    np.testing.assert_array_equal(started("median-noise", seed=5), expected)


def test_style_statistics_have_the_colours_of_the_style() -> None:
    # Noise has wider tails than the style, and loses a little where they are clamped.
    mean = picture(seed=1).reshape(-1, 3).mean(axis=0)

    np.testing.assert_allclose(started("style-statistics").reshape(-1, 3).mean(axis=0), mean, atol=0.02)


def test_the_recoloured_content_has_the_colours_of_the_style() -> None:
    found = checked(picture() * 0.4, [picture(seed=1)])
    content = found.content_at(32, 40)

    image = found.start_at(32, 40, StyleConfig(start="recolored"))

    torch.testing.assert_close(image, color.match_colors(content, found.styles, [1.0]))


def test_unless_told_the_content_gets_the_octaves_of_the_style_as_it_is_fitted() -> None:
    found = checked(picture() * 0.4, [picture(50, 80, seed=1)])
    content, (style,) = found.content_at(32, 40), found.styles_at(32, 40, StyleConfig(), 1)

    image = found.start_at(32, 40, StyleConfig())

    torch.testing.assert_close(image, match_statistics(content, StyleStatistics.from_image(style)))
    assert not torch.equal(image, color.match_colors(content, found.styles, [1.0]))


def test_where_the_content_keeps_its_colours_it_is_not_recoloured() -> None:
    found = checked(picture(), [picture(seed=1)], color="content", start="recolored")

    image = found.start_at(32, 40, StyleConfig(color="content", start="recolored"))

    torch.testing.assert_close(image, found.content_at(32, 40))


def test_the_start_image_is_brought_to_the_working_size() -> None:
    flat = np.full((90, 20, 3), 0.25, np.float32)
    found = checked(picture(), [picture(seed=1)], init=flat, start="image")

    image = found.start_at(32, 40, StyleConfig(start="image"))

    torch.testing.assert_close(image, torch.full((1, 3, 32, 40), 0.25))


@pytest.mark.parametrize("start", ["style-statistics", "median-noise", "white-noise"])
def test_noise_has_no_detail_for_finer_scales(start: str) -> None:
    config = StyleConfig(start=start)

    assert checked(picture(), [picture(seed=1)], start=start).detail_at(32, 40, config) is None


@pytest.mark.parametrize("start", ["recolored", "content", "image"])
def test_detail_is_what_the_start_loses_at_half_the_size(start: str) -> None:
    config = StyleConfig(start=start)
    found = checked(picture(), [picture(seed=1)], init=picture(60, 60, seed=2), start=start)
    whole = found.start_at(32, 40, config)

    detail = found.detail_at(32, 40, config)

    assert detail is not None
    torch.testing.assert_close(whole - detail, resize(resize(whole, 16, 20), 32, 40))


def test_detail_has_the_contrast_that_it_has_in_the_style_as_it_is_fitted() -> None:
    found = checked(picture() * 0.4, [picture(50, 80, seed=1)])
    content, (style,) = found.content_at(32, 40), found.styles_at(32, 40, StyleConfig(), 1)

    detail = found.detail_at(32, 40, StyleConfig())

    torch.testing.assert_close(detail, match_finest_octave(content, StyleStatistics.from_image(style)))


def test_detail_is_that_of_the_style_of_each_region_and_none_outside() -> None:
    content, styles = picture() * 0.4, [picture(seed=1), picture(seed=2) * 0.5]
    labels = np.zeros((40, 50), np.int64)
    labels[:, :20], labels[:, 30:] = 1, 2
    config = StyleConfig(regions={1: 0, 2: 1})

    found = RunInputs.from_arrays(content, styles, config, None, labels).detail_at(40, 50, config)

    assert found is not None
    assert not found[..., 20:30].any()
    for columns, style in ((slice(0, 20), styles[0]), (slice(30, 50), styles[1])):
        alone = checked(content, [style]).detail_at(40, 50, StyleConfig())
        torch.testing.assert_close(found[..., columns], alone[..., columns])


def sized(own: tuple[int, int], longest: int | None) -> RunInputs:
    return RunInputs(None, (), (), None, working_size(*own, longest), source_size=own)


def test_of_a_picture_that_is_itself_too_small_no_setting_is_to_be_changed() -> None:
    with pytest.raises(ImageError, match=r"itself is 8 x 8 pixels; compact .* at least 16 .*Enlarge") as caught:
        check_size(sized((8, 8), 512), 16, "compact")
    assert "size of" not in str(caught.value)


@pytest.mark.parametrize("own", [(20, 30000), (17, 5003), (30000, 16), (100, 100_000)])
def test_what_is_told_of_an_elongated_picture_helps(own: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=r"is 512 x \d+ at|is \d+ x 512 at") as caught:
        check_size(sized(own, 512), 16, "compact")
    length, size = map(int, re.findall(r"at (?:most|least) (\d+)[,.]", str(caught.value)))
    shorter = min(own)
    check_size(sized((shorter, length), 512), 16, "compact")
    check_size(sized(own, size), 16, "compact")
    assert 512 <= length < max(own)
    with pytest.raises(ImageError):
        check_size(sized((shorter, 2 * length), 512), 16, "compact")


def test_a_picture_just_large_enough_passes() -> None:
    check_size(sized((16, 40), 512), 16, "compact")
