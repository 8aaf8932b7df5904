"""Presets of the user: settings kept under a name, each as a recipe file beside napari's own settings.

Offered by the settings form after the built-in presets. A file put into the folder by hand is a preset too.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from napari_styletransfer.config import PRESETS, StyleConfig
from napari_styletransfer.errors import ConfigError

logger = logging.getLogger(__name__)

_RESERVED = frozenset({"default", "custom", *PRESETS})
_NAME = re.compile(r"\w[\w .+-]{0,39}")


class UserPresets:
    """The presets in a folder.

    Parameters
    ----------
    folder
        Made when the first preset is saved; None for the one beside napari's settings.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or presets_folder()

    def read(self) -> dict[str, StyleConfig]:
        """Return all presets by name; a file that is no recipe is passed over with a warning."""
        found = {}
        for path in sorted(self.folder.glob("*.json")):
            try:
                # A preset is for whatever weights are here.
                found[path.stem] = StyleConfig.load(path).changed(weights_sha256=None)
            except ConfigError as error:
                logger.warning("The preset %s is not offered: %s", path.name, error)
        return {name: config for name, config in found.items() if name not in _RESERVED}

    def save(self, name: str, config: StyleConfig) -> None:
        """Keep settings under a name, in place of what it stood for.

        Raises
        ------
        ConfigError
            If the name cannot be used, or the file cannot be written.
        """
        if name in _RESERVED:
            raise ConfigError(f"'{name}' is the name of a built-in preset. Choose another name.")
        if not _NAME.fullmatch(name) or name != name.strip():
            raise ConfigError(
                f"'{name}' cannot be the name of a preset. Use up to 40 letters, digits, spaces, dots, plus and minus."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            config.save(self._path(name))
        except OSError as error:
            raise ConfigError(f"The preset cannot be written to {self._path(name)}: {error}.") from error

    def delete(self, name: str) -> None:
        """Forget a preset; one that is gone already is no error.

        Raises
        ------
        ConfigError
            If the file cannot be deleted.
        """
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"The preset {self._path(name)} cannot be deleted: {error}.") from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def presets_folder() -> Path:
    """Return the folder of presets beside napari's settings."""
    from napari.settings import get_settings

    settings = get_settings().config_path
    # napari keeps no file when it was told not to; the home folder is where a user would look next.
    beside = Path(settings).parent if settings else Path.home() / ".napari"
    return beside / "napari-styletransfer" / "presets"
