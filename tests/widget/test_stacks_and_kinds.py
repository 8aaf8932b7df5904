"""Stacks that fill in plane by plane, results that stay a channel, and large or lazy layers, in the form."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_styletransfer.config import CHANNEL_STRUCTURE, Color, Movie, Start, StyleConfig
from napari_styletransfer.devices import system_memory
from napari_styletransfer.errors import ImageError
from napari_styletransfer.session.run_session import State
from napari_styletransfer.widget.dock_widget import StyleTransferWidget

RNG = np.random.default_rng(0)


@pytest.fixture
def viewer(request):
    return request.getfixturevalue("napari_window" if "window" in request.fixturenames else "model")


@pytest.fixture
def movie(form, viewer):
    """Return a content of 2 times and 3 heights, 16 bit, and make it the content of the form."""
    data = RNG.integers(0, 60_000, (2, 3, 48, 64)).astype(np.uint16)
    movie = viewer.add_image(data, name="movie", scale=(1, 5, 0.5, 0.5), contrast_limits=(100, 50_000))
    form.pictures.choose(movie, [viewer.layers["waves"]])
    return movie


def offered(form):
    return [form.output.planes.itemText(index) for index in range(form.output.planes.count())]


def ended(form, qtbot, timeout=20_000):
    qtbot.waitUntil(lambda: not form.session.status.active, timeout=timeout)


def test_planes_are_offered_only_where_there_are_several(form, viewer, movie):
    assert [words.partition(" along")[0] for words in offered(form)] == ["this plane", "all 2", "all 3", "all 6"]
    assert not form.output.planes.isHidden()
    assert form.settings.editors["movie"].native.isHidden()
    form.pictures.choose(viewer.layers["cells"], [viewer.layers["waves"]])
    assert form.output.isHidden()
    assert form.job().stack is None


def test_axes_are_called_what_the_viewer_calls_them(form, viewer, movie, qtbot):
    assert offered(form)[1:] == ["all 2 along axis 0", "all 3 along axis 1", "all 6 along axis 0, axis 1"]
    viewer.dims.axis_labels = ("time", "z", "y", "x")
    form.pictures.choose(viewer.layers["cells"], [viewer.layers["waves"]])
    form.pictures.choose(movie, [viewer.layers["waves"]])
    assert offered(form)[1:] == ["all 2 along time", "all 3 along z", "all 6 along time, z"]


def test_one_plane_is_the_default(form, movie):
    assert form.state.axes == ()
    assert form.job().stack is None


def test_a_stack_fills_one_layer_in(window, form, engine, viewer, movie, qtbot):
    form.output.choose(axes=(0, 1))
    assert not form.settings.editors["movie"].native.isHidden()
    engine.pause_after = 1
    engine.go.set()
    form.run()
    qtbot.waitUntil(lambda: form.session.output.layer is not None and len(form.session.output.finished) == 2)
    qtbot.waitUntil(lambda: form.session.status.message.startswith("Plane 3 of 6"))
    layer = form.session.output.layer
    assert layer.data.shape == (2, 3, 48, 64, 3)
    assert layer.data.dtype == np.uint8
    np.testing.assert_array_equal(layer.data[0, 0], 26)
    np.testing.assert_array_equal(layer.data[0, 1], 51)
    np.testing.assert_array_equal(layer.data[0, 2], 64)
    assert layer.data[1].max() == 0
    assert 2 / 6 < form.session.status.fraction < 3 / 6
    engine.pause_after = None
    engine.go.set()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE
    assert form.session.status.message == "Done: 6 planes"
    np.testing.assert_array_equal(layer.data[1, 2], 153)
    made = layer.metadata["napari-styletransfer"]
    assert [plane["plane"] for plane in made["planes"]] == list(range(6))
    assert StyleConfig.from_recipe(made["recipe"]) == form.config().changed(structure_weight=CHANNEL_STRUCTURE)
    assert not form.controls.resume.isEnabled()
    np.testing.assert_allclose(layer.data_to_world((1, 2, 3, 4)), movie.data_to_world((1, 2, 3, 4)))


def test_the_slider_goes_along_until_the_user_moves_it(form, engine, viewer, movie, qtbot):
    viewer.dims.set_point(1, 10)
    form.output.choose(axes=(1,))
    engine.pause_after = 0
    form.run()
    qtbot.waitUntil(lambda: engine.halfway.is_set() and form.session.output.layer is not None)
    assert viewer.dims.point[1] == 0
    engine.go.set()
    qtbot.waitUntil(lambda: viewer.dims.point[1] == 5)
    viewer.dims.set_point(1, 0)
    engine.pause_after = None
    qtbot.waitUntil(engine.halfway.is_set)
    engine.go.set()
    ended(form, qtbot)
    assert viewer.dims.point[1] == 0


def test_stop_keeps_the_finished_planes_and_continue_goes_on(form, engine, viewer, movie, qtbot):
    form.output.choose(axes=(1,))
    engine.pause_after = 0
    engine.go.set()
    form.run()
    qtbot.waitUntil(lambda: form.session.output.layer is not None and len(form.session.output.finished) == 1)
    form.stop()
    ended(form, qtbot)
    assert form.session.status.state is State.STOPPED
    assert form.session.status.message.startswith("Stopped after 1 planes")
    layer = form.session.output.layer
    np.testing.assert_array_equal(layer.data[0, 0], 26)
    engine.pause_after = None
    engine.go.set()
    form.controls.resume.click()
    ended(form, qtbot)
    ((number, pixels),) = engine.seen
    assert number == 0
    np.testing.assert_array_equal(pixels, np.full((48, 64, 3), 26))
    assert form.session.status.state is State.DONE
    assert form.session.output.layer == layer
    np.testing.assert_array_equal(layer.data[0, 2], 76)


def test_a_deleted_stack_comes_back_at_the_end(form, engine, viewer, movie, qtbot):
    form.output.choose(axes=(1,))
    form.run()
    qtbot.waitUntil(lambda: engine.halfway.is_set() and form.session.output.layer is not None)
    viewer.layers.remove(form.session.output.layer)
    count = len(viewer.layers)
    engine.go.set()
    ended(form, qtbot)
    assert len(viewer.layers) == count + 1
    np.testing.assert_array_equal(form.session.output.layer.data[0, 1], 51)
    assert len(form.session.output.layer.metadata["napari-styletransfer"]["planes"]) == 3


def test_regions_are_read_for_each_plane(form, engine, viewer, movie, qtbot):
    data = np.zeros((3, 48, 64), int)
    data[1, :20], data[2, :30] = 4, 9
    form.output.choose(axes=(1,))
    form.regions.choose(viewer.add_labels(data, scale=(5, 0.5, 0.5)))
    qtbot.waitUntil(lambda: set(form.regions.rows) == {0, 4, 9})
    read = [region.read() for region in form.job().labels]
    np.testing.assert_array_equal(read, data)


def test_a_channel_is_offered_for_single_channels_only(form, viewer, movie):
    assert not form.output.kind.isHidden()
    form.output.choose(channel=True)
    assert form.job().channel
    assert not form.job().content.colored
    form.pictures.choose(viewer.layers["cells"], [viewer.layers["waves"]])
    assert form.output.kind.isHidden()
    assert not form.job().channel


@pytest.mark.parametrize("axes", [(), (1,)])
def test_a_result_stays_a_channel(form, engine, viewer, movie, qtbot, axes):
    movie.colormap = "magenta"
    form.output.choose(axes=axes, channel=True)
    engine.go.set()
    form.run()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE, form.session.status.message
    layer = form.session.output.layer
    assert not layer.rgb
    assert layer.data.dtype == np.uint16
    assert layer.data.shape == ((1, 3, 48, 64) if axes else (1, 1, 48, 64))
    assert list(layer.contrast_limits) == [100, 50_000]
    assert layer.colormap.name == "magenta"
    # The fake paints planes of one grey, and the shade in the middle of each content is given to all of it.
    expected = [[[np.sort(movie.data[0, plane], axis=None)[48 * 32]]] for plane in range(3 if axes else 1)]
    np.testing.assert_array_equal(layer.data[0], np.broadcast_to(expected, layer.data[0].shape))


def test_a_channel_keeps_its_brightness_unless_other_colours_are_asked_for(form, movie):
    assert form.job().config.color is Color.STYLE
    form.output.choose(channel=True)
    assert form.job().config.color is Color.MATCH
    form.settings.editors["color"].write(Color.CONTENT)
    assert form.job().config.color is Color.CONTENT


@pytest.mark.parametrize("channel", [False, True])
@pytest.mark.parametrize("axes", [(), (1,)])
@pytest.mark.parametrize("shape", [(48, 64), (24, 32)])
def test_nothing_outside_the_regions_is_touched(form, engine, viewer, movie, qtbot, channel, axes, shape):
    labels = np.zeros((3, 48, 64), int)
    labels[0, 5:20, 7:40], labels[2, 30:, 50:] = 4, 9
    form.output.choose(axes=axes, channel=channel)
    form.regions.choose(viewer.add_labels(labels, scale=(5, 0.5, 0.5)))
    engine.shape = shape
    engine.go.set()
    form.run()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE, form.session.status.message
    result = form.session.output.layer
    contents = form.job().stack or [form.job().content]
    for number, content in enumerate(contents):
        inside, plane = labels[number] != 0, result.data[0, number]
        own = content.pixels() if channel else np.rint(content.read() * 255).astype(np.uint8)
        assert plane.dtype == own.dtype
        np.testing.assert_array_equal(plane[~inside], own[~inside])
        assert (plane[inside] != own[inside]).mean() > 0.9 if inside.any() else number == 1
    np.testing.assert_allclose(result.data_to_world((0, 0, 47, 63)), movie.data_to_world((0, 0, 47, 63)))


def test_results_of_regions_take_the_contents_own_size(form, viewer, movie, monkeypatch):
    form.output.choose(axes=(1,))
    form.settings.editors["size"].write(32)
    monkeypatch.setattr(system_memory, "memory", lambda: (3 * 48 * 64 * 3 - 1, 1 << 30))
    assert form.job().stack is not None
    form.regions.choose(viewer.add_labels(np.ones((48, 64), int), scale=(0.5, 0.5)))
    with pytest.raises(ImageError, match="results of 3 planes"):
        form.job()


def test_a_stopped_channel_stack_hands_back_what_it_shows(form, engine, viewer, movie, qtbot):
    form.output.choose(axes=(1,), channel=True)
    engine.pause_after = 0
    engine.go.set()
    form.run()
    qtbot.waitUntil(lambda: form.session.output.layer is not None and len(form.session.output.finished) == 1)
    form.stop()
    ended(form, qtbot)
    assert form.session.output.results[0].shape == (48, 64, 3)
    painted = np.sort(movie.data[0, 0], axis=None)[48 * 32]
    np.testing.assert_allclose(form.session.output.results[0], (painted - 100) / 49_900, atol=1e-4)


def test_channels_are_run_as_the_canvas_shows_them(form, engine, viewer, qtbot):
    ramp = np.linspace(0, 1, 48 * 64).reshape(48, 64)
    options = {"blending": "additive", "contrast_limits": (0, 1), "scale": (3, 3)}
    for name, data in (("green", ramp), ("red", 1 - ramp)):
        viewer.add_image(data, name=name, colormap=name, **options)
    viewer.layers["cells"].visible = False
    form.pictures.choose(form.pictures.groups[0], [viewer.layers["waves"]])
    assert form.output.isHidden()
    engine.go.set()
    form.run()
    ended(form, qtbot)
    seen = engine.calls[0]["content"].read()
    np.testing.assert_allclose(seen[..., 0], 1 - ramp, atol=0.01)
    np.testing.assert_allclose(seen[..., 1], ramp, atol=0.01)
    result = viewer.layers["green + red × waves"]
    np.testing.assert_allclose(result.data_to_world((5, 7)), viewer.layers["red"].data_to_world((5, 7)))


def test_a_movie_of_channels_is_run_plane_by_plane(form, engine, viewer, qtbot):
    ramp = np.linspace(0, 1, 48 * 64).reshape(48, 64)
    options = {"blending": "additive", "contrast_limits": (0, 1), "scale": (2, 3, 3)}
    for name, data in (("green", ramp), ("red", 1 - ramp)):
        viewer.add_image(np.stack([data, data / 2, data / 4]), name=name, colormap=name, **options)
    viewer.layers["cells"].visible = False
    form.pictures.choose(form.pictures.groups[0], [viewer.layers["waves"]])
    assert offered(form) == ["this plane", "all 3 along axis 0"]
    assert form.output.kind.isHidden()
    form.output.choose(axes=(0,))
    engine.go.set()
    form.run()
    ended(form, qtbot)
    assert form.session.status.message == "Done: 3 planes"
    for number, plane in enumerate(engine.calls[0]["planes"]):
        np.testing.assert_allclose(plane.read()[..., 1], ramp / 2**number, atol=0.01)
    result = viewer.layers["green + red × waves"]
    assert result.data.shape == (3, 48, 64, 3)
    np.testing.assert_allclose(result.data_to_world((2, 5, 7)), viewer.layers["red"].data_to_world((2, 5, 7)))


def test_a_half_done_movie_of_channels_is_gone_on_with_from_its_layer(form, engine, viewer, qtbot):
    options = {"blending": "additive", "contrast_limits": (0, 1), "scale": (2, 3, 3)}
    for name in ("green", "red"):
        viewer.add_image(np.full((3, 48, 64), 0.5), name=name, colormap=name, **options)
    viewer.layers["cells"].visible = False
    form.pictures.choose(form.pictures.groups[0], [viewer.layers["waves"]])
    form.output.choose(axes=(0,))
    engine.pause_after = 0
    engine.go.set()
    form.run()
    qtbot.waitUntil(lambda: engine.halfway.is_set() and len(form.session.output.finished) == 1)
    form.stop()
    ended(form, qtbot)
    layer = viewer.layers["green + red × waves"]
    again = type(layer)(layer.data.copy(), name="again", rgb=True, metadata=dict(layer.metadata))
    viewer.layers.remove(layer)
    viewer.layers.selection.active = viewer.add_layer(again)
    engine.go.set()
    qtbot.waitUntil(lambda: "'again'" in form.controls.resume.toolTip() and form.controls.resume.isEnabled())
    form.controls.resume.click()
    ended(form, qtbot)
    assert form.session.status.message == "Done: 3 planes"
    assert list(engine.calls[-1]["finished"]) == [0, 1, 2]


def test_a_stack_that_is_the_first_layer_of_all_is_offered_by_plane(engine, qtbot):
    viewer = ViewerModel()
    form = StyleTransferWidget(viewer, engine)
    qtbot.addWidget(form)
    viewer.add_image(np.zeros((3, 8, 8)), axis_labels=("time", "y", "x"))
    qtbot.waitUntil(lambda: offered(form) == ["this plane", "all 3 along time"])
    form.release()


def test_lazy_data_are_sliced_in_the_thread(form, engine, viewer, qtbot):
    da = pytest.importorskip("dask.array")
    computed = []

    def block(block_id):
        computed.append(block_id)
        return np.full((1, 48, 64), block_id[0], np.uint8)

    lazy = da.map_blocks(block, chunks=((1,) * 4, (48,), (64,)), dtype=np.uint8, meta=np.zeros((0, 0, 0), np.uint8))
    layer = viewer.add_image(lazy, name="lazy", contrast_limits=(0, 255))
    viewer.dims.set_point(0, 2)
    form.pictures.choose(layer, [viewer.layers["waves"]])
    computed.clear()
    job = form.job()
    assert computed == []
    assert job.content.read().max() == pytest.approx(2 / 255)
    engine.go.set()
    form.run()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE
    assert {block_id[0] for block_id in computed} == {2}


def test_of_a_pyramid_the_level_that_suits_the_size_is_read(form, engine, viewer, qtbot):
    levels = [np.full((512 // 2**n, 1024 // 2**n), n, np.uint8) for n in range(4)]
    layer = viewer.add_image(levels, multiscale=True, name="pyramid", contrast_limits=(0, 255))
    form.pictures.choose(layer, [viewer.layers["waves"]])
    form.settings.editors["size"].write(64)
    assert form.job().content.level == 2
    form.settings.editors["size"].write(None)
    assert form.job().content.level == 0
    form.settings.editors["level"].write(3)
    assert form.job().content.level == 3
    form.pictures.choose(viewer.layers["cells"], [viewer.layers["waves"]])
    assert form.job().content.level == 0
    form.pictures.choose(layer, [viewer.layers["waves"]])
    form.settings.editors["level"].write(None)
    form.settings.editors["size"].write(64)
    engine.shape = (32, 64)
    engine.go.set()
    form.run()
    ended(form, qtbot)
    result = form.session.output.layer
    np.testing.assert_allclose(result.data_to_world((31.5, 63.5)), layer.data_to_world((511.5, 1023.5)))


def test_a_real_movie(viewer, qtbot):
    form = StyleTransferWidget(viewer)
    qtbot.addWidget(form)
    data = RNG.integers(0, 255, (2, 32, 32)).astype(np.uint8)
    form.pictures.choose(viewer.add_image(data, name="movie"), [viewer.layers["waves"]])
    form.show_config(StyleConfig(network="compact", size=32, iterations=2, scales=1, device="cpu"))
    form.output.choose(axes=(0,))
    form.run()
    ended(form, qtbot, 120_000)
    assert form.session.status.state is State.DONE, form.session.status.message
    result = form.session.output.layer.data
    assert result.shape == (2, 32, 32, 3)
    assert all(plane.std() > 5 for plane in result)
    assert form.session.last.finished.state is None
    form.release()


def test_planes_are_those_of_the_axes_as_they_are_turned(form, viewer, movie, qtbot):
    viewer.dims.order = (0, 2, 1, 3)
    qtbot.waitUntil(
        lambda: [words.partition(" along")[0] for words in offered(form)][1:] == ["all 2", "all 48", "all 96"]
    )


@pytest.mark.parametrize("movement", Movie)
def test_planes_start_from_the_chosen_picture(viewer, movie, qtbot, movement):
    real = StyleTransferWidget(viewer)
    qtbot.addWidget(real)
    real.pictures.choose(movie, [viewer.layers["waves"]])
    quick = StyleConfig(network="compact", size=48, iterations=1, scales=1, device="cpu")
    real.show_config(quick.changed(start=Start.IMAGE, movie=movement))
    real.pictures.init.setCurrentIndex(real.pictures.init.index_of(viewer.layers["cells"]))
    real.output.choose(axes=(0,))
    real.run()
    ended(real, qtbot, 120_000)
    assert real.session.status.state is State.DONE, real.session.status.message
    real.release()
