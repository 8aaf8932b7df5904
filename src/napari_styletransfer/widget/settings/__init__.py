"""The settings in the form: an editor for each field, presets, preferences, and the menu that loads and saves."""
