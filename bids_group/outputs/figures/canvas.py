"""What all figures share: fonts, colours, an empty figure and its bytes.

Figures are made without pyplot, so no window, no list of open figures and no backend is touched, and the same data
give the same bytes. The colour maps are ColorBrewer's and the colours Okabe and Ito's: colour-blind readers can tell
them apart.
"""

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

DOTS_PER_INCH = 150
PAGE_WIDTH_INCHES = 7.4
FONT_SIZE = 8.0
SMALL_FONT_SIZE = 6.0
LONGEST_LABEL = 28
SALT = "bids_group"  # of the ids in SVG files

SIGNED_COLOURS = "RdBu_r"
UNSIGNED_COLOURS = "YlOrRd"
NEUTRAL_COLOURS = "Greys"
# Blue, vermilion, green, purple, orange, sky blue (Okabe & Ito 2008): of groups, in this order.
GROUP_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def make_figure(size: tuple[float, float], *, layout: Literal["constrained"] | None = None) -> Any:
    """Make an empty white figure.

    Parameters
    ----------
    size : tuple of 2 float
        Width and height, in inches.
    layout : {"constrained"} or None
        Whether axes make room for their labels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


@dataclass(frozen=True)
class Picture:
    """A figure as files.

    Attributes
    ----------
    png : bytes
    svg : bytes or None
        The same in lines and letters; None of brains, which consist of pixels.
    """

    png: bytes
    svg: bytes | None = None


def encode(figure: Any) -> Picture:
    """Return a figure as a PNG file that does not name its maker, and empty it."""
    picture = Picture(_save(figure, "png", {"Software": None}))
    figure.clear()
    return picture


def encode_lines(figure: Any) -> Picture:
    """Return a figure as a PNG and an SVG file that name neither maker nor time, and empty it."""
    from matplotlib import rc_context

    png = _save(figure, "png", {"Software": None})
    figure.set_layout_engine("none")  # to lay it out again would take as long as to draw it
    with rc_context({"svg.hashsalt": SALT}):  # else the ids in it are random
        svg = _save(figure, "svg", dict.fromkeys(("Creator", "Date", "Format", "Type")))
    figure.clear()
    return Picture(png, svg)


def _save(figure: Any, kind: Literal["png", "svg"], metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
    return buffer.getvalue()


def spell(text: object) -> str:
    """Return a text in which matplotlib sees no formula: what stands between two dollars would be one."""
    return str(text).replace("$", r"\$")


def shorten(label: object) -> str:
    """Return a label that fits beside a row, with nothing in it that would start a formula."""
    text = str(label)
    return spell(text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…")


def read_values(image: Nifti1Image) -> NDArray[np.float32]:
    """Return the values of an image, 0 where they are not finite numbers."""
    return np.nan_to_num(image.get_fdata(dtype=np.float32, caching="unchanged"))


def add_bar(
    figure: Any,
    box: tuple[float, float, float, float],
    colours: str,
    limits: tuple[float, float],
    name: str,
    *,
    whole: bool = False,
) -> None:
    """Draw an upright colour bar.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    box : tuple of 4 float
        Left, bottom, width and height, as shares of the figure.
    colours : str
        The colour map.
    limits : tuple of 2 float
        Where it starts and ends.
    name : str
    whole : bool
        Whether only whole numbers are written beside it.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    drawn = figure.colorbar(
        ScalarMappable(Normalize(*limits), colours),
        cax=figure.add_axes(box),
        ticks=MaxNLocator(nbins=5, integer=whole),
    )
    drawn.ax.tick_params(labelsize=SMALL_FONT_SIZE + 1)
    drawn.set_label(name, fontsize=SMALL_FONT_SIZE + 1, labelpad=2)
    drawn.outline.set_linewidth(0.5)


def trim_axes(axes: Any) -> None:
    """Leave of a plot's frame the two sides that carry scales."""
    axes.tick_params(labelsize=FONT_SIZE)
    axes.spines[["top", "right"]].set_visible(False)
