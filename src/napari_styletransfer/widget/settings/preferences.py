"""What the form shows when it opens, as set under Preferences ▸ Style Transfer.

The settings are declared in the manifest (`configurations`), which napari has read since 0.9; before that, the
defaults of the config hold.
"""

from __future__ import annotations

import logging

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ConfigError

logger = logging.getLogger(__name__)


def preferred_config() -> StyleConfig:
    """Return the defaults with the user's preferences on top; wrong ones are left out with a warning."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return StyleConfig()
    try:
        preferences = get_plugin_settings("napari-styletransfer").defaults
    except (KeyError, AttributeError):
        # The manifest is not registered, as when the form is used from a script.
        return StyleConfig()
    try:
        return StyleConfig(
            network=preferences.network,
            size=preferences.size,
            iterations=preferences.iterations,
            device=preferences.device,
        )
    except ConfigError as error:
        logger.warning("The preferences of Style Transfer are not used: %s", error)
        return StyleConfig()
