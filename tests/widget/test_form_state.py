"""The state of a form: what an edit costs, and what a form that is gone leaves behind."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from napari_styletransfer.layers import read
from napari_styletransfer.widget.dock_widget import StyleTransferWidget


@pytest.fixture
def viewer(model):
    return model


def delete(thing):
    thing.deleteLater()
    QApplication.sendPostedEvents(thing, QEvent.Type.DeferredDelete)


def test_an_edit_resolves_each_layer_once(form, viewer, monkeypatch):
    viewer.add_image(np.random.default_rng(0).random((3, 48, 64)), name="movie")
    labels = viewer.add_labels(np.ones((48, 64), int))
    form.pictures.choose(viewer.layers["cells"], [viewer.layers["waves"]])
    resolved = Counter()

    def counting(layer, **options):
        resolved[layer.name] += 1
        return resolve(layer, **options)

    resolve = read.resolve
    monkeypatch.setattr(read, "resolve", counting)
    for edit in (
        lambda: form.settings.editors["balance"].write(0.3),
        lambda: form.settings.editors["start"].write("image"),
        lambda: form.pictures.content.setCurrentIndex(form.pictures.content.count() - 1),
        lambda: form.pictures._rows[-1].check.click(),
        lambda: form.pictures._rows[-1].weight.setValue(0.5),
        lambda: form.output.choose(axes=(0,)),
        lambda: form.output.choose(channel=True),
        lambda: form.regions.choose(labels),
        lambda: form.settings.preset.native.setCurrentIndex(1),
    ):
        resolved.clear()
        edit()
        # Once for each use: a start image may be a style too.
        used = [form.state.content, *form.state.styles, form.state.init]
        assert resolved == Counter(layer.name for layer in used if layer is not None)


def test_a_form_released_before_the_turn_looks_at_the_viewer_no_more(form, viewer):
    QApplication.processEvents()
    viewer.add_image(np.zeros((8, 8)), name="late")
    viewer.add_labels(np.zeros((8, 8), int), name="later")
    form.release()
    QApplication.processEvents()
    assert form.pictures.content.count() == 2
    assert form.regions.combo.count() == 1


def test_a_form_that_goes_with_its_window_leaves_nothing_behind(viewer, engine, qtbot):
    events = viewer.layers.events
    before = [len(signal.callbacks) for signal in (events.inserted, events.removed, events.reordered)]
    form = StyleTransferWidget(viewer, engine)
    viewer.add_image(np.zeros((8, 8)), name="late")
    delete(form)
    viewer.add_labels(np.zeros((8, 8), int), name="later")
    viewer.layers["late"].name = "renamed"
    viewer.layers.clear()
    QApplication.processEvents()
    assert [len(signal.callbacks) for signal in (events.inserted, events.removed, events.reordered)] == before
