"""A plot area with axes, and the few SVG elements that charts are made of."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np

from models.evaluation.intervals import Estimate


class Frame:
    """A plot area with axes from 0 to 1, or other ranges, drawn into SVG parts.

    Parameters
    ----------
    across, up
        Smallest and largest value of each axis.
    """

    def __init__(
        self,
        across: tuple[float, float],
        up: tuple[float, float],
        labels: tuple[str, str],
        width: int = 400,
        height: int = 300,
    ) -> None:
        self.across, self.up, self.labels = across, up, labels
        self.width, self.height = width, height
        self.left, self.right, self.top, self.bottom = 58, width - 10, 10, height - 42
        self.parts: list[str] = [self._axes()]

    def x(self, value: float) -> float:
        """Place of a value on the horizontal axis."""
        low, high = self.across
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Place of a value on the vertical axis."""
        low, high = self.up
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - self.top), 1)

    def path(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        """A line through points, as the ``d`` of a path."""
        return "M" + "L".join(f"{self.x(x)} {self.y(y)}" for x, y in zip(xs, ys, strict=True))

    def line(self, xs: Iterable[float], ys: Iterable[float], kind: str = "curve") -> None:
        """Draw a line through points."""
        self.parts.append(f'<path class="{kind}" d="{self.path(xs, ys)}"/>')

    def dot(self, x: float, y: float, kind: str = "dot", radius: float = 3.6) -> None:
        """Draw a point."""
        self.parts.append(
            f'<circle class="{kind}" cx="{self.x(x)}" cy="{self.y(y)}" r="{radius}"/>'
        )

    def whisker(self, x: float, estimate: Estimate) -> None:
        """Draw an interval upright."""
        self.line((x, x), (estimate.low, estimate.high), "whisker")

    def svg(self, title: str) -> str:
        """The finished chart."""
        return svg(self.width, self.height, title, "".join(self.parts))

    def _axes(self) -> str:
        parts = []
        for value in ticks(*self.across):
            at = self.x(value)
            parts.append(f'<path class="axis" d="M{at} {self.top}V{self.bottom}"/>')
            parts.append(text(at, self.bottom + 16, short(value), "middle"))
        for value in ticks(*self.up):
            at = self.y(value)
            parts.append(f'<path class="axis" d="M{self.left} {at}H{self.right}"/>')
            parts.append(text(self.left - 7, at + 4, short(value), "end"))
        middle = (self.left + self.right) / 2
        parts.append(text(middle, self.height - 6, self.labels[0], "middle"))
        parts.append(
            f'<text transform="translate(12 {(self.top + self.bottom) / 2}) rotate(-90)" '
            f'text-anchor="middle">{escape(self.labels[1])}</text>'
        )
        return "".join(parts)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values between two ends, some five of them."""
    rough = (high - low) / about
    size = 10.0 ** np.floor(np.log10(rough))
    step = size * min((1, 2, 2.5, 5, 10), key=lambda factor: abs(factor * size - rough))
    first = np.ceil(low / step - 1e-9)
    last = np.floor(high / step + 1e-9)
    return [round(float(k * step), 10) + 0.0 for k in np.arange(first, last + 1)]


def svg(width: float, height: float, title: str, content: str) -> str:
    """An SVG element that scales with the page."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{content}</svg>"
    )


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    """Words at a place."""
    marked = f' class="{kind}"' if kind else ""
    return f'<text{marked} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def short(value: float) -> str:
    """A value beside an axis."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
