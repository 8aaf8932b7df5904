"""The planes of a stack are run one after another, and what they share is made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_styletransfer.config import Movie, StyleConfig
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.engine.stack import iter_stylize_stack, with_network
from napari_styletransfer.errors import ImageError
from napari_styletransfer.events import Event, Finished, PlaneStarted, Preview, Reason, Started, Step
from napari_styletransfer.networks import weights
from napari_styletransfer.planning import planner
from napari_styletransfer.tiling.tiled_network import TiledNetwork

Image = npt.NDArray[np.float32]

QUICK: dict[str, Any] = {
    "network": "compact",
    "device": "cpu",
    "precision": "float32",
    "size": 48,
    "iterations": 3,
    "scales": 1,
    "content_layers": {"relu2_1": 1.0},
    "style_layers": {"rgb": 1.0, "relu1_1": 1.0, "relu2_1": 1.0},
}


def settings(**fields: Any) -> StyleConfig:
    return StyleConfig(**{**QUICK, **fields})


def given(planes: Sequence[Image]) -> list[Callable[[], Image]]:
    return [lambda plane=plane: plane for plane in planes]  # type: ignore[misc]


def by_plane(events: Iterable[Event]) -> Iterator[tuple[int, Event]]:
    """Give each event the number of the plane whose run it is of."""
    plane = -1
    for event in events:
        if isinstance(event, PlaneStarted):
            plane = event.plane
        else:
            yield plane, event


def results(events: Iterable[Event]) -> dict[int, Finished]:
    return {plane: event for plane, event in by_plane(events) if isinstance(event, Finished)}


@pytest.fixture
def movie() -> list[Image]:
    """Return a disc that moves over a textured background, with camera noise: six planes (40, 48, 3)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :48].astype(np.float32)
    ground = 0.4 + 0.2 * np.sin(0.5 * x) * np.cos(0.4 * y)
    planes = []
    for time in range(6):
        plane = np.repeat(ground[..., None], 3, axis=2)
        plane[(y - 10) ** 2 + (x - 8 - 4 * time) ** 2 < 36] = (0.9, 0.7, 0.2)
        planes.append(np.clip(plane + rng.normal(0, 0.04, plane.shape), 0, 1).astype(np.float32))
    return planes


def test_every_plane_tells_its_whole_story_in_turn(movie: list[Image], style_image: Image) -> None:
    events = list(iter_stylize_stack(given(movie[:3]), [style_image], settings(movie="apart"), preview_interval=1e9))

    assert [event for event in events if isinstance(event, PlaneStarted)] == [PlaneStarted(n, 3) for n in range(3)]
    assert [type(event) for event in events] == 3 * [PlaneStarted, Started, Preview, Step, Step, Step, Finished]


def test_planes_apart_are_what_each_alone_would_be(movie: list[Image], style_image: Image) -> None:
    found = results(iter_stylize_stack(given(movie[:2]), [style_image], settings(movie="apart")))

    for plane, finished in found.items():
        *_, alone = iter_stylize(movie[plane], [style_image], settings(movie="apart"))
        assert isinstance(alone, Finished)
        np.testing.assert_array_equal(finished.image, alone.image)


def test_style_targets_are_measured_and_weights_fetched_once(
    movie: list[Image], style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, fetched = [], []
    gram_means, fetch = TiledNetwork.gram_means, weights.fetch
    monkeypatch.setattr(TiledNetwork, "gram_means", lambda *args: measured.append(args) or gram_means(*args))
    monkeypatch.setattr(weights, "fetch", lambda *args: fetched.append(args) or fetch(*args))
    styles = [style_image, style_image[::-1]]

    for way in Movie:
        measured.clear()
        fetched.clear()
        results(iter_stylize_stack(given(movie[:4]), styles, settings(movie=way, scales=2)))
        # Two styles at two sizes, whatever the number of planes.
        assert len(measured) == 4
        assert len(fetched) == 1


def test_with_colours_matched_to_each_plane_targets_are_measured_anew(
    movie: list[Image], style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    gram_means = TiledNetwork.gram_means
    monkeypatch.setattr(TiledNetwork, "gram_means", lambda *args: measured.append(args) or gram_means(*args))

    found = results(
        iter_stylize_stack(given([movie[0], 1 - movie[0]]), [style_image], settings(color="match", movie="apart"))
    )

    assert len(measured) == 2
    assert np.abs(found[0].image - found[1].image).mean() > 0.05


def test_a_plane_is_read_when_its_turn_comes(movie: list[Image], style_image: Image) -> None:
    told: list[str] = []

    def reader(number: int) -> Callable[[], Image]:
        def read() -> Image:
            told.append(f"read {number}")
            return movie[number]

        return read

    events = iter_stylize_stack([reader(n) for n in range(3)], [style_image], settings())
    assert told == []
    for plane, event in by_plane(events):
        if isinstance(event, Finished):
            told.append(f"finished {plane}")

    assert told == [f"{what} {number}" for number in range(3) for what in ("read", "finished")]


def flicker(images: Sequence[Image]) -> float:
    """Mean change from one plane to the next where nothing moved: the lower half."""
    still = np.stack([image[24:] for image in images])
    return float(np.abs(np.diff(still, axis=0)).mean())


def test_following_planes_flicker_less_than_planes_apart(movie: list[Image], style_image: Image) -> None:
    measured = {}
    for way in Movie:
        found = results(iter_stylize_stack(given(movie), [style_image], settings(movie=way, iterations=8)))
        measured[way] = flicker([found[plane].image for plane in range(len(movie))])

    assert measured[Movie.FOLLOW] < 0.8 * measured[Movie.APART]


def test_a_following_plane_shows_its_own_content(movie: list[Image], style_image: Image) -> None:
    found = results(iter_stylize_stack(given(movie), [style_image], settings(balance=0.2, iterations=12)))

    last = found[5].image
    before, now = ((slice(7, 14), slice(5 + 4 * time, 12 + 4 * time)) for time in (0, 5))
    assert np.abs(last[now] - last[before]).mean() > 0.15


def test_a_following_plane_starts_from_the_result_before(movie: list[Image], style_image: Image) -> None:
    events = list(by_plane(iter_stylize_stack(given(movie[:2]), [style_image], settings(scales=2))))

    (first,) = [event.image for plane, event in events if plane == 0 and isinstance(event, Finished)]
    previews = [event for plane, event in events if plane == 1 and isinstance(event, Preview)]
    starts = [preview.image for preview in previews if not preview.iteration]
    assert len(starts) == 1
    np.testing.assert_allclose(starts[0], first, atol=1e-6)


def test_a_stop_ends_the_stack_with_the_plane_under_way(movie: list[Image], style_image: Image) -> None:
    read: list[int] = []
    seen: list[Event] = []

    def reader(number: int) -> Callable[[], Image]:
        return lambda: read.append(number) or movie[number]  # type: ignore[func-returns-value]

    def should_stop() -> bool:
        return any(plane == 1 and isinstance(event, Step) for plane, event in by_plane(seen))

    planes = [reader(number) for number in range(4)]
    for event in iter_stylize_stack(
        planes, [style_image], settings(iterations=40, tolerance=0), should_stop=should_stop
    ):
        seen.append(event)

    found = results(seen)
    assert read == [0, 1]
    assert {plane: finished.reason for plane, finished in found.items()} == {0: Reason.ITERATIONS, 1: Reason.STOPPED}
    assert seen[-1] is found[1]
    assert found[1].iterations < 5


@pytest.mark.parametrize("way", Movie)
def test_finished_planes_are_passed_over_and_followed(movie: list[Image], style_image: Image, way: Movie) -> None:
    whole = results(iter_stylize_stack(given(movie[:4]), [style_image], settings(movie=way)))
    done = {plane: whole[plane].image for plane in (0, 1)}

    def never() -> Image:
        pytest.fail("a finished plane was read again")

    events = iter_stylize_stack([never, never, *given(movie[2:4])], [style_image], settings(movie=way), finished=done)
    rest = results(events)

    assert sorted(rest) == [2, 3]
    for plane, finished in rest.items():
        np.testing.assert_allclose(finished.image, whole[plane].image, atol=1e-5)


def test_a_stack_that_is_finished_has_nothing_to_tell(movie: list[Image], style_image: Image) -> None:
    done = dict(enumerate(movie[:2]))

    assert list(iter_stylize_stack(given(movie[:2]), [style_image], settings(), finished=done)) == []


@pytest.mark.parametrize(("share", "network"), [(0.25, "vgg19"), (0.5, "compact")])
def test_network_auto_is_decided_once_by_the_time_of_all_planes(
    movie: list[Image], style_image: Image, monkeypatch: pytest.MonkeyPatch, share: float, network: str
) -> None:
    asked: list[Any] = []

    def seconds(*args: Any, **options: Any) -> float:
        asked.append(args)
        # As if the machine had become much slower meanwhile.
        return planner.MAX_AUTO_SECONDS * (share if len(asked) == 1 else 100)

    monkeypatch.setattr(planner, "estimate_seconds", seconds)
    read: list[int] = []

    def reader(number: int) -> Callable[[], Image]:
        return lambda: read.append(number) or movie[number]  # type: ignore[func-returns-value]

    layers = {"content_layers": {"relu1_1": 1.0}, "style_layers": {"relu1_1": 1.0}}
    auto = settings(network="auto", size=32, iterations=1, **layers)
    events = list(iter_stylize_stack([reader(number) for number in range(3)], [style_image], auto))

    plans = [event.plan for event in events if isinstance(event, Started)]
    assert [plan.config.network for plan in plans] == [network] * 3
    assert {finished.config.network for finished in results(events).values()} == {network}
    assert all(plan.why_network for plan in plans)
    assert len({plan.why_network for plan in plans}) == 1
    assert read == [0, 1, 2]


def test_a_stack_that_goes_on_has_the_network_of_the_whole(
    movie: list[Image], style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    # VGG-19 would do for the one plane that is left, but not for all three.
    monkeypatch.setattr(planner, "estimate_seconds", lambda *args, **options: planner.MAX_AUTO_SECONDS / 2)
    auto = settings(network="auto", size=32, iterations=1)

    found = results(iter_stylize_stack(given(movie[:3]), [style_image], auto, finished={0: movie[0], 1: movie[1]}))

    assert found[2].config.network == "compact"


def test_a_network_that_is_named_or_not_needed_is_left_alone(movie: list[Image], style_image: Image) -> None:
    for config in (settings(network="vgg16"), settings(network="auto", mode="colors")):
        assert with_network(movie[0], [style_image], config, images=9) == (config, "")


def test_every_plane_has_its_own_labels(movie: list[Image], style_image: Image) -> None:
    labels = np.zeros((2, 40, 48), int)
    labels[0, :20], labels[1, 20:] = 1, 1

    found = results(
        iter_stylize_stack(given(movie[:2]), [style_image], settings(), labels=[lambda: labels[0], lambda: labels[1]])
    )

    for plane in range(2):
        outside = labels[plane] == 0
        np.testing.assert_array_equal(found[plane].image[outside], movie[plane][outside])
        assert (found[plane].image != movie[plane])[~outside].mean() > 0.9


def test_a_plane_that_cannot_be_read_ends_the_stack_with_its_error(movie: list[Image], style_image: Image) -> None:
    def broken() -> Image:
        raise OSError("the disk is gone")

    events = iter_stylize_stack([given(movie)[0], broken], [style_image], settings())
    found: dict[int, Finished] = {}
    with pytest.raises(OSError, match="the disk is gone"):
        found.update((plane, e) for plane, e in by_plane(events) if isinstance(e, Finished))
    assert list(found) == [0]

    wrong = iter_stylize_stack([lambda: np.zeros((2, 3, 4, 5))], [style_image], settings())
    with pytest.raises(ImageError, match="one plane"):
        next(wrong)


@pytest.mark.parametrize("settings", [{}, {"regions": {1: 0}}, {"color": "content"}, {"color": "match"}])
def test_a_plane_without_labelled_pixels_stays_as_it_is(
    settings: dict[str, Any], content_image: Any, style_image: Any
) -> None:
    some = np.zeros(content_image.shape[:2], np.uint8)
    some[10:30, 10:30] = 1
    none = np.zeros_like(some)

    ends = [
        event
        for event in iter_stylize_stack(
            [lambda: content_image] * 3,
            [style_image],
            StyleConfig(network="compact", size=None, iterations=2, scales=1, **settings),
            labels=[lambda: some, lambda: none, lambda: some],
        )
        if isinstance(event, Finished)
    ]

    assert [end.iterations for end in ends] == [2, 0, 2]
    np.testing.assert_array_equal(ends[1].image, content_image)
    # The next one begins anew, and none holds on to its optimiser.
    np.testing.assert_array_equal(ends[2].image, ends[0].image)
    assert [end.state for end in ends] == [None] * 3
