"""Every picture of a result, as the bytes of its files: the only room that knows matplotlib and nilearn.plotting."""

from bids_group.outputs.figures.brains import (
    ClusterPanel,
    choose_colour_limit,
    choose_cut_coords,
    draw_clusters,
    draw_glass_brain,
    draw_mask,
    draw_ortho,
)
from bids_group.outputs.figures.canvas import Picture
from bids_group.outputs.figures.effects import CellPanel, SlopePanel, draw_cells, draw_slopes
from bids_group.outputs.figures.matrices import draw_contrast_weights, draw_correlation, draw_design_matrix
from bids_group.outputs.figures.plots import NullPanel, draw_null, draw_qq, draw_quality
from bids_group.outputs.figures.projections import draw_subjects
from bids_group.outputs.figures.slices import draw_coverage, draw_mosaic, draw_pair, draw_spread
from bids_group.outputs.figures.surfaces import draw_surface

__all__ = [
    "CellPanel",
    "ClusterPanel",
    "NullPanel",
    "Picture",
    "SlopePanel",
    "choose_colour_limit",
    "choose_cut_coords",
    "draw_cells",
    "draw_clusters",
    "draw_contrast_weights",
    "draw_correlation",
    "draw_coverage",
    "draw_design_matrix",
    "draw_glass_brain",
    "draw_mask",
    "draw_mosaic",
    "draw_null",
    "draw_ortho",
    "draw_pair",
    "draw_qq",
    "draw_quality",
    "draw_slopes",
    "draw_spread",
    "draw_subjects",
    "draw_surface",
]
