"""What the form asks for, put together from its parts: settings, the job to run, and what its plan depends on.

Asked by the form when a button is pressed and whenever something changes; runs nothing and shows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_styletransfer.errors import StyleTransferError
from napari_styletransfer.layers.compose import Composite, compose_in
from napari_styletransfer.layers.read import resolve_in
from napari_styletransfer.layers.snapshot import Snapshot
from napari_styletransfer.layers.stack import stack_of
from napari_styletransfer.outputs.contact_sheet import variations_of
from napari_styletransfer.session.job import Job, for_channel, with_structure_weight
from napari_styletransfer.session.layer_group import LayerGroup, Picture
from napari_styletransfer.session.messages import message_of
from napari_styletransfer.widget.plan_label import Question

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_styletransfer.config import StyleConfig
    from napari_styletransfer.layers.regions import ShapesRegion
    from napari_styletransfer.session.job import Relabelled
    from napari_styletransfer.widget.output_options import OutputOptions
    from napari_styletransfer.widget.picture_panel import PicturePanel
    from napari_styletransfer.widget.region_panel import RegionPanel
    from napari_styletransfer.widget.settings_form import SettingsForm


class JobBuilder:
    """Reads off the parts of a form what is to be run.

    Parameters
    ----------
    viewer
        Its sliders choose the planes.
    settings, pictures, regions, result
        The parts.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        settings: SettingsForm,
        pictures: PicturePanel,
        regions: RegionPanel,
        result: OutputOptions,
    ) -> None:
        self._viewer = viewer
        self._settings = settings
        self._pictures = pictures
        self._regions = regions
        self._result = result

    def config(self) -> StyleConfig:
        """Return the settings, blend weights and regions included.

        Raises
        ------
        ConfigError
            If they contradict each other.
        """
        config = for_channel(self._settings.config(), channel=self._result.channel)
        return config.changed(style_weights=self._pictures.style_weights, regions=self._regions.regions())

    def job(self) -> Job:
        """Return what Run would run now.

        Raises
        ------
        StyleTransferError
            If a setting is wrong or a layer cannot be read as the viewer shows it.
        """
        config = self.config()
        content = self.content(config)
        # With regions the result has the content's own size: what is left alone is not made smaller.
        stack = self._result.stack(content, config.size if self._regions.layer is None else None)
        return Job(
            content=content,
            styles=self._styles(config),
            config=with_structure_weight(config, content),
            init=self._init(config),
            labels=None if content is None else self._marks([content] if stack is None else stack),
            stack=stack,
            channel=self._result.channel,
        )

    def sheet(self) -> Job:
        """Return what a contact sheet of variations would run: one plane, in colour, for looking at.

        Raises
        ------
        StyleTransferError
            As `job`.
        """
        job = self.job()
        return replace(
            job,
            variations=variations_of(job.config),
            images=1 if job.stack is None else len(job.stack),
            stack=None,
            channel=False,
            init=None,
            labels=None if job.labels is None else self._marks([job.reference]),
        )

    def content(self, config: StyleConfig) -> Snapshot | Composite | None:
        """Decide what is read of the content.

        Raises
        ------
        ImageError
            If it cannot be read as the viewer shows it.
        """
        content = self._pictures.content_layer
        if content is None:
            return None
        return self._picture(content, config, colored=not self._result.channel, level=config.level)

    def planes(self, config: StyleConfig) -> Sequence[Snapshot | Composite]:
        """Return the planes of the content in which labels are looked for; none where it cannot be read."""
        try:
            content = self.content(config)
            self._result.follow(content)
            if content is None:
                return ()
            if self._result.axes and self._regions.layer is not None:
                return stack_of(content, self._result.axes)
        except StyleTransferError:
            # Told by `blocking_reason`.
            return ()
        return [content]

    def blocking_reason(self) -> str:
        """Return why the settings cannot work, or the pictures cannot be read as they are shown; else nothing."""
        try:
            config = self.config()
            self.content(config)
            self._styles(config)
            self._init(config)
        except StyleTransferError as error:
            return message_of(error)
        return ""

    def question(self, config: StyleConfig, planes: Sequence[Snapshot | Composite]) -> Question | None:
        """Return what the plan of the run to come depends on, or None while one is missing or unreadable."""
        styles = self._pictures.style_layers
        if self._pictures.missing():
            return None
        if not planes and self._pictures.content_layer is not None:
            # The content cannot be read as it is shown, and the style says nothing of its size.
            return None
        try:
            config = config.changed(style_weights=self._pictures.style_weights)
            # A style gives the size where there is no content.
            first = planes[0] if planes else self._picture(config.first_style(styles), config)
            axes = self._result.axes
            count = len(stack_of(first, axes)) if axes else 1
        except StyleTransferError:
            return None
        return Question(first.shape, len(styles), config, count, self._regions.layer is not None)

    def _styles(self, config: StyleConfig) -> tuple[Snapshot | Composite, ...]:
        return tuple(self._picture(style, config, config.style_scale) for style in self._pictures.style_layers)

    def _init(self, config: StyleConfig) -> Snapshot | None:
        init = self._pictures.init_layer
        return None if init is None else self._snapshot(init, config)

    def _marks(self, planes: Sequence[Snapshot | Composite]) -> list[Relabelled | ShapesRegion] | None:
        """Return what to read for the labels of each plane, or None for whole pictures."""
        found = [self._regions.resolve(plane) for plane in planes]
        marks = [region for region in found if region is not None]
        return marks if marks and len(marks) == len(found) else None

    def _picture(
        self,
        picture: Picture,
        config: StyleConfig,
        scale: float = 1.0,
        *,
        colored: bool = True,
        level: int | None = None,
    ) -> Snapshot | Composite:
        """Decide what is read of a layer, or of several that are seen as one picture."""
        if isinstance(picture, LayerGroup):
            return compose_in(self._viewer, picture.layers, level=level, max_pixels=_most_pixels(config, scale))
        return self._snapshot(picture, config, scale, colored=colored, level=level)

    def _snapshot(
        self, layer: Image, config: StyleConfig, scale: float = 1.0, *, colored: bool = True, level: int | None = None
    ) -> Snapshot:
        chosen, most = level if layer.multiscale else None, _most_pixels(config, scale)
        return resolve_in(self._viewer, layer, max_pixels=most, colored=colored, level=chosen)


def _most_pixels(config: StyleConfig, scale: float = 1.0) -> int | None:
    """Return how many pixels of a pyramid to read at most, for a picture of `scale` times the run's size."""
    # The finest level of at most four times the run's size: where levels halve, at least twice.
    return None if config.size is None else int(16 * (config.size * max(scale, 1)) ** 2)
