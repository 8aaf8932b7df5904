"""The devices to choose from, asked for in the background once somebody looks.

Naming the devices needs torch, whose import takes seconds, so it waits until the device list is touched for the
first time or a run has loaded torch anyway.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Signal

from napari_styletransfer.errors import DeviceError
from napari_styletransfer.widget.latest_worker import LatestWorker
from napari_styletransfer.widget.settings.settings_form import format_free_memory
from napari_styletransfer.worker import load_engine

if TYPE_CHECKING:
    from napari_styletransfer.devices.device import DeviceInfo
    from napari_styletransfer.widget.settings.settings_form import SettingsForm

_TRIGGERS = (QEvent.Type.Enter, QEvent.Type.FocusIn, QEvent.Type.MouseButtonPress)


class DeviceList(QObject):
    """Fills the form's device choices."""

    found = Signal()
    """The devices are known, and torch is loaded."""

    def __init__(self, settings: SettingsForm) -> None:
        super().__init__(settings)
        self._settings = settings
        self._known = False
        self._worker = LatestWorker(_find_devices, self._show, self)
        settings.editors["device"].native.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Ask for the devices when somebody turns to the list."""
        if not self._known and event is not None and event.type() in _TRIGGERS:
            self.refresh()
        return False

    def refresh_if_known(self) -> None:
        """Bring free memory up to date, if torch is loaded, which makes it quick."""
        if "torch" in sys.modules:
            self.refresh()

    def refresh(self) -> None:
        """Ask in a thread, and show what comes back."""
        self._worker.start()

    def _show(self, found: list[DeviceInfo] | None) -> None:
        if found is None:
            return
        self._known = True
        best = found[0]
        choices: list[tuple[str, Any]] = [(f"auto · {best.name} · {format_free_memory(best.free_bytes)}", "auto")]
        choices += [(f"{device.name} · {format_free_memory(device.free_bytes)}", device.name) for device in found]
        self._settings.set_choices("device", choices)
        self.found.emit()


def _find_devices() -> list[DeviceInfo] | None:
    try:
        found: list[DeviceInfo] = load_engine("devices.device").devices()
    except DeviceError:
        # A broken torch is told in full when Run is pressed; a list of devices is no place for it.
        return None
    return found
