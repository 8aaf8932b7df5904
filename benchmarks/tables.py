"""Measurements as Markdown tables. Called by `__main__`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]


def machine_line(machine: Row) -> str:
    """Tell on what the figures were measured; they compare within one run only."""
    load = "" if machine["load"] is None else f", load {machine['load']:.1f} at the start"
    return (
        f"{machine['processor']}, {machine['label']} ({machine['device']}); torch {machine['torch']}, "
        f"Python {machine['python']}, {machine['system']}{load}. "
        f"Matrix products in {machine['precision']}: {machine['matrix_rate'] / 1e12:.2f} Tflop/s."
    )


def speed(rows: Iterable[Row], machine: Row) -> str:
    """Table of speed and memory."""
    return _table(
        "Speed and memory",
        "network | side, px | ours, s | textbook, s | times faster | convolutions alone, s | loss / convolutions | "
        "step / convolutions | of the matrix rate | ours, B/px | textbook, B/px | times less",
        (
            (
                f"{row['network']} ({row['precision']})",
                row["side"],
                _seconds(row["step"]),
                _seconds(row["textbook"]),
                _ratio(row["textbook"], row["step"]),
                _seconds(row["convolutions"]),
                _ratio(row["loss"], row["convolutions"]),
                _ratio(row["step"], row["convolutions"]),
                f"{row['operations'] / row['step'] / machine['matrix_rate']:.0%}",
                _per_pixel(row["peak"], row["side"]),
                _per_pixel(row["textbook_peak"], row["side"]),
                _ratio(row["textbook_peak"], row["peak"]),
            )
            for row in rows
        ),
    )


def reach(rows: Iterable[Row], evaluations: int) -> str:
    """Table of evaluations and seconds to equal loss."""
    return _table(
        f"To equal loss (1: that of {evaluations} textbook evaluations)",
        "network | side, px | pictures | loss | ours, evaluations | textbook, evaluations | share | ours, s | "
        "textbook, s | times faster",
        (
            (
                row["network"],
                row["side"],
                " + ".join(row["pair"]),
                f"{row['factor']} × {row['target'] / row['factor']:.4f}",
                _hit(row["ours"], 0),
                _hit(row["textbook"], 0),
                _ratio(row["ours"] and row["ours"][0], row["textbook"][0]),
                _hit(row["ours"], 1),
                _hit(row["textbook"], 1),
                _ratio(row["textbook"][1], row["ours"] and row["ours"][1]),
            )
            for row in rows
        ),
    )


def ablation(rows: Iterable[Row]) -> str:
    """Table of the engine without each of its ideas."""
    return _table(
        "Without each idea",
        "network | side, px | variant | s an evaluation | B/px | evaluations to 1.5 | to 1.1 | s to 1.5 | to 1.1",
        (
            (
                row["network"],
                row["side"],
                row["idea"],
                _seconds(row["step"]),
                _per_pixel(row["peak"], row["side"]),
                *(_hit(hit, part) for part in (0, 1) for hit in row["hits"]),
            )
            for row in rows
        ),
    )


def blocks(rows: Iterable[Row]) -> str:
    """Table of large images."""
    return _table(
        "Large images in blocks (loss and gradient, without the optimiser)",
        "network | megapixels | blocks | core, px | area read | s an evaluation | s a megapixel | peak, MiB | B/px",
        (
            (
                row["network"],
                f"{row['side'] ** 2 / 1e6:.1f}",
                row["blocks"],
                row["core"],
                f"{row['area']:.2f}",
                _seconds(row["seconds"]),
                _seconds(row["seconds"] / row["side"] ** 2 * 1e6),
                "–" if row["peak"] is None else f"{row['peak'] / 2**20:.0f}",
                _per_pixel(row["peak"], row["side"]),
            )
            for row in rows
        ),
    )


def _table(title: str, heads: str, rows: Iterable[Sequence[object]]) -> str:
    columns = heads.split(" | ")
    lines = [f"## {title}", "", f"| {heads} |", "|" + "---|" * len(columns)]
    lines.extend("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)
    return "\n".join(lines) + "\n"


def _seconds(value: float) -> str:
    return f"{value:.3g}"


def _ratio(one: float | None, other: float | None) -> str:
    return "–" if one is None or other is None else f"{one / other:.2f}"


def _per_pixel(peak: int | None, side: int) -> str:
    return "–" if peak is None else f"{peak / side**2:.0f}"


def _hit(hit: Sequence[float] | None, part: int) -> str:
    """Return the evaluations (0) or the seconds (1), or that the target was not reached."""
    if hit is None:
        return "not reached"
    return f"{hit[part]:.3g}"
