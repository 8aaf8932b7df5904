"""Measurements as Markdown tables: each table is a title and its columns. Called by `__main__`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
Hit = Sequence[float] | None
"""Evaluations and seconds to a loss, None if it was not reached."""


@dataclass(frozen=True)
class Table:
    """A title, and for each column its head and how a row fills it."""

    title: str
    columns: dict[str, Callable[[Row], str]]

    def markdown(self, rows: Sequence[Row], about: str, heading: str = "##") -> str:
        """Return the table, with a line that says what was measured where."""
        lines = [
            f"{heading} {self.title}",
            "",
            about,
            "",
            f"| {' | '.join(self.columns)} |",
            "|" + "---|" * len(self.columns),
        ]
        lines.extend("| " + " | ".join(fill(row) for fill in self.columns.values()) + " |" for row in rows)
        return "\n".join(lines) + "\n"


def machine_line(machine: Row) -> str:
    """Tell on what the figures were measured; they compare within one run only."""
    load = "" if machine["load"] is None else f", load {machine['load']:.1f} at the start"
    return (
        f"{machine['processor']}, {machine['label']} ({machine['device']}); torch {machine['torch']}, "
        f"Python {machine['python']}, {machine['system']}{load}. "
        f"Matrix products in {machine['precision']}: {machine['matrix_rate'] / 1e12:.2f} Tflop/s."
    )


def _number(value: float | None) -> str:
    """Return three digits, the full number above a thousand."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(one: float | None, other: float | None) -> str:
    return "–" if one is None or other is None else f"{one / other:.2f}"


def _per_pixel(row: Row, name: str = "peak") -> str:
    return "–" if row[name] is None else f"{row[name] / row['pixels']:.0f}"


def _evaluations(hit: Hit) -> str:
    return "not reached" if hit is None else _number(hit[0])


def _seconds(hit: Hit) -> str:
    return "not reached" if hit is None else _number(hit[1])


def _hits_ratio(one: Hit, other: Hit, part: int) -> str:
    return "–" if one is None or other is None else f"{one[part] / other[part]:.2f}"


_NETWORK: dict[str, Callable[[Row], str]] = {"network": lambda row: row["network"]}
_SIZED: dict[str, Callable[[Row], str]] = {**_NETWORK, "side, px": lambda row: str(row["side"])}


def _judged(column: str, who: str | None = None, form: str = ".3f") -> Callable[[Row], str]:
    return lambda row: f"{(row if who is None else row[who])[column]:{form}}"


TABLES = {
    "peer": Table(
        "The same objective as neural-style-pt",
        {
            **_SIZED,
            "pictures": lambda row: " + ".join(row["pair"]),
            "textbook evaluations, its loss": lambda row: f"{row['mark']}, {row['loss']:.4g}",
            "ours / textbook, evaluations to it": lambda row: (
                f"{_evaluations(row['hits'][0])} / {_evaluations(row['textbook_hits'][0])}"
            ),
            "textbook / ours, evaluations": lambda row: _hits_ratio(row["textbook_hits"][0], row["hits"][0], 0),
            "ours / textbook, s": lambda row: f"{_seconds(row['hits'][0])} / {_seconds(row['textbook_hits'][0])}",
            "textbook / ours, s": lambda row: _hits_ratio(row["textbook_hits"][0], row["hits"][0], 1),
            "as saved: ours / textbook, evaluations": lambda row: (
                f"{_evaluations(row['hits'][1])} / {_evaluations(row['textbook_hits'][1])}"
            ),
            "as saved: textbook / ours, s": lambda row: _hits_ratio(row["textbook_hits"][1], row["hits"][1], 1),
        },
    ),
    "clock": Table(
        "The picture by the clock",
        {
            **_SIZED,
            "pictures": lambda row: " + ".join(row["pair"]),
            "after, s": lambda row: f"{row['budget']:g}",
            **{
                f"{name}{head}": _judged(column, who, form)
                for who, name in (("ours", "ours: "), ("textbook", "textbook: "))
                for head, column, form in (
                    ("evaluations", "evaluations", "d"),
                    ("VGG-19 style", "style", ".3f"),
                    ("content", "content", ".3f"),
                    ("fine", "fine", ".2f"),
                )
            },
            "textbook / ours, style": lambda row: _ratio(row["textbook"]["style"], row["ours"]["style"]),
        },
    ),
    "whole": Table(
        "Whole runs without each idea",
        {
            **_SIZED,
            "run": lambda row: row["idea"],
            "VGG-19 style": _judged("style"),
            "content": _judged("content"),
            "fine": _judged("fine", form=".2f"),
            "evaluations": lambda row: _number(row["evaluations"]),
            "s": lambda row: _number(row["seconds"]),
        },
    ),
    "speed": Table(
        "Speed and memory",
        {
            **_SIZED,
            "format": lambda row: row["precision"],
            "ours, s an evaluation": lambda row: _number(row["step"]),
            "textbook / ours": lambda row: _ratio(row["textbook"], row["step"]),
            "ours / convolutions alone": lambda row: _ratio(row["step"], row["convolutions"]),
            "loss alone / convolutions alone": lambda row: _ratio(row["loss"], row["convolutions"]),
            "of the matrix rate": lambda row: f"{row['operations'] / row['step'] / row['matrix_rate']:.0%}",
            "ours, B/px": _per_pixel,
            "textbook / ours, B/px": lambda row: _ratio(row["textbook_peak"], row["peak"]),
            "planned / measured": lambda row: _ratio(row["planned"], row["peak"]),
            "evaluations to the loss of the textbook's": lambda row: (
                f"{_evaluations(row['hits'][0])} / {_evaluations(row['textbook_hits'][0])}"
            ),
            "seconds to it": lambda row: f"{_seconds(row['hits'][0])} / {_seconds(row['textbook_hits'][0])}",
            "textbook / ours, s": lambda row: _hits_ratio(row["textbook_hits"][0], row["hits"][0], 1),
        },
    ),
    "reach": Table(
        "To equal loss",
        {
            **_SIZED,
            "pictures": lambda row: " + ".join(row["pair"]),
            "textbook evaluations, loss 1": lambda row: f"{row['evaluations']}, {row['loss']:.4g}",
            **{
                head.format(factor): fill
                for index, factor in enumerate(("1.5", "1.1"))
                for head, fill in (
                    (
                        "to {}: ours / textbook",
                        lambda row, i=index: (
                            f"{_evaluations(row['hits'][i])} / {_evaluations(row['textbook_hits'][i])}"
                        ),
                    ),
                    ("share, {}", lambda row, i=index: _hits_ratio(row["hits"][i], row["textbook_hits"][i], 0)),
                    (
                        "textbook / ours, s, {}",
                        lambda row, i=index: _hits_ratio(row["textbook_hits"][i], row["hits"][i], 1),
                    ),
                )
            },
            "its own loss 1": lambda row: f"{row['own']:.4g}",
            **{
                f"to {factor} of that": lambda row, i=index: (
                    f"{_evaluations(row['hits'][i])} / {_evaluations(row['textbook_hits'][i])}"
                )
                for index, factor in ((2, "1.5"), (3, "1.1"))
            },
        },
    ),
    "ablation": Table(
        "Without each idea",
        {
            **_SIZED,
            "run": lambda row: row["idea"],
            "s an evaluation": lambda row: _number(row["step"]),
            "its s / shipped": lambda row: _ratio(row["step"], row["shipped"]["step"]),
            "B/px": _per_pixel,
            "its B/px / shipped": lambda row: _ratio(row["peak"], row["shipped"]["peak"]),
            "evaluations to 1.5": lambda row: _evaluations(row["hits"][0]),
            "evaluations to 1.1": lambda row: _evaluations(row["hits"][1]),
            "seconds to 1.5": lambda row: _seconds(row["hits"][0]),
            "seconds to 1.1": lambda row: _seconds(row["hits"][1]),
            "seconds to 1.1 / shipped": lambda row: _hits_ratio(row["hits"][1], row["shipped"]["hits"][1], 1),
        },
    ),
    "blocks": Table(
        "Large images, with the optimiser",
        {
            **_NETWORK,
            "megapixels": lambda row: f"{row['pixels'] / 1e6:.1f}",
            "blocks": lambda row: str(row["blocks"]),
            "core, px": lambda row: str(row["core"] or "whole"),
            "area read": lambda row: f"{row['area']:.2f}",
            "history": lambda row: row["history"],
            "s an evaluation": lambda row: _number(row["seconds"]),
            "s a megapixel": lambda row: _number(row["pace"] * 1e6),
            "/ first row's": lambda row: f"{row['slower']:.2f}",
            "peak, GiB": lambda row: "–" if row["peak"] is None else f"{row['peak'] / 2**30:.2f}",
            "B/px": _per_pixel,
            "planned / measured": lambda row: _ratio(row["planned"], row["peak"]),
        },
    ),
    "sizes": Table(
        "One recipe at several sizes",
        {
            "side, px": lambda row: str(row["side"]),
            "judged at, px": lambda row: str(row["judged"]),
            "content": lambda row: _number(row["terms"][0]),
            "style": lambda row: _number(row["terms"][1]),
            "of the untouched content's style": lambda row: f"{row['terms'][1] / row['untouched'][1]:.1%}",
            "evaluations": lambda row: str(row["evaluations"]),
            "s": lambda row: _number(row["seconds"]),
        },
    ),
}
"""The tables by name, in the order they are shown."""
