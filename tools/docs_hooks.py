"""Pages of the documentation that are made from something else; called by mkdocs while it builds.

`settings.md` comes from the fields of `StyleConfig` and the presets, `contributing.md` and `changelog.md` from
the files at the root, and the list of modules in `architecture.md` from their docstrings, so that each is written once.
"""

from __future__ import annotations

import ast
import json
from enum import Enum
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from napari_styletransfer import PRESETS, StyleConfig

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "napari_styletransfer"
MODULES = "<!-- modules -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the made pages; the name and arguments are mkdocs's."""
    for name, text in {
        "settings.md": settings_page(),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the list of modules where a page asks for it; the name and arguments are mkdocs's."""
    return markdown.replace(MODULES, module_table()) if MODULES in markdown else markdown


def module_table() -> str:
    """Return all modules with the first sentence of their docstrings as a Markdown table."""
    lines = ["| Module | What it is for |", "|---|---|"]
    for file in sorted(PACKAGE.rglob("*.py")):
        about = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        if about:
            paragraph = " ".join(about.partition("\n\n")[0].split()).replace("|", "\\|")
            lines.append(f"| `{file.relative_to(PACKAGE).as_posix()}` | {paragraph} |")
    return "\n".join(lines)


def settings_page() -> str:
    """Return the page of all settings and presets as Markdown."""
    schema = StyleConfig.model_json_schema()
    fields = StyleConfig.model_fields
    about: dict[str, dict[str, Any]] = {name: dict(field.json_schema_extra) for name, field in fields.items()}
    lines = [
        "# Settings",
        "",
        "Everything a run needs besides the pictures is one of these settings. They have the same names in Python "
        "(`style_scale=2`), on the command line (`--style-scale 2`) and in recipe files; the form shows them under "
        "their titles, those marked *advanced* in its folded part.",
    ]
    for group in dict.fromkeys(extra["group"] for extra in about.values()):
        lines += ["", f"## {group}"]
        for name, field in fields.items():
            if about[name]["group"] != group:
                continue
            title = f"{field.title}, *advanced*" if about[name]["advanced"] else field.title
            default = "empty" if field.default is None else f"`{_plain(field.default)}`"
            values = _values(schema["properties"][name], schema["$defs"])
            lines += ["", f"### `{name}`", "", f"**{title}.** {field.description}", "", f"- Default: {default}"]
            lines += [f"- Values: {values}"] if values else []
    lines += [
        "",
        "## Presets",
        "",
        "A preset is a set of fields; what it does not name keeps its default, and fields given beside it win.",
    ]
    for preset, chosen in PRESETS.items():
        lines += ["", f"### `{preset}`", "", "| Field | Value |", "|---|---|"]
        lines += [f"| `{name}` | `{_plain(value)}` |" for name, value in chosen.items()]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    return str(value.value) if isinstance(value, Enum) else json.dumps(value, ensure_ascii=False).strip('"')


def _values(field: dict[str, Any], kinds: dict[str, Any]) -> str:
    """Return what a field may hold in words: the names of an enumeration, or a range."""
    options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    (kind,) = options
    if "$ref" in kind:
        return ", ".join(f"`{value}`" for value in kinds[kind["$ref"].rpartition("/")[2]]["enum"])
    return ", ".join(words.format(kind[bound]) for bound, words in _BOUNDS.items() if bound in kind)


_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
}
