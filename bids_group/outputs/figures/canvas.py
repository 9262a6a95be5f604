"""What all figures share: fonts, colours, an empty figure and its bytes.

Figures are made without pyplot, so no window, no list of open figures and no backend is touched, and the same data
give the same bytes. The colour maps are ColorBrewer's and the colours Okabe and Ito's: colour-blind readers can tell
them apart.
"""

import io
from typing import Any, Literal

import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

DOTS_PER_INCH = 150
PAGE_WIDTH_INCHES = 7.4
FONT_SIZE = 8.0
SMALL_FONT_SIZE = 6.0
LONGEST_LABEL = 28

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


def encode(figure: Any) -> bytes:
    """Return a figure as a PNG file that does not name its maker, and empty it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    figure.clear()
    return buffer.getvalue()


def shorten(label: object) -> str:
    """Return a label that fits beside a row, with nothing in it that would start a formula."""
    text = str(label).replace("$", r"\$")  # a dollar would start a formula
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


def read_values(image: Nifti1Image) -> NDArray[np.float32]:
    """Return the values of an image, 0 where they are not finite numbers."""
    return np.nan_to_num(image.get_fdata(dtype=np.float32, caching="unchanged"))


def trim_axes(axes: Any) -> None:
    """Leave of a plot's frame the two sides that carry scales."""
    axes.tick_params(labelsize=FONT_SIZE)
    axes.spines[["top", "right"]].set_visible(False)
