"""Work put off to the next turn is done once, at once where it is needed, and never for a form that is gone."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication

from napari_styletransfer.widget.dock_widget import StyleTransferWidget
from napari_styletransfer.widget.next_turn import NextTurn


@pytest.fixture
def viewer(model):
    return model


@pytest.fixture
def done():
    return []


@pytest.fixture
def parent(qtbot):
    return QObject()


def delete(thing):
    thing.deleteLater()
    QApplication.sendPostedEvents(thing, QEvent.Type.DeferredDelete)


def test_it_is_done_once_however_often_it_is_asked_for(parent, done):
    turn = NextTurn(lambda: done.append("work"), parent)
    for _ in range(3):
        turn.ask()
    assert done == []
    QApplication.processEvents()
    QApplication.processEvents()
    assert done == ["work"]


def test_it_is_done_at_once_where_it_is_needed(parent, done):
    turn = NextTurn(lambda: done.append("work"), parent)
    turn.settle()
    assert done == []
    turn.ask()
    assert turn.pending
    turn.settle()
    assert not turn.pending
    turn.settle()
    assert done == ["work"]
    QApplication.processEvents()
    assert done == ["work"]


def test_what_is_cancelled_or_has_lost_its_parent_is_not_done(parent, done):
    turn = NextTurn(lambda: done.append("work"), parent)
    turn.ask()
    turn.cancel()
    QApplication.processEvents()
    turn.ask()
    delete(parent)
    QApplication.processEvents()
    assert done == []


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
