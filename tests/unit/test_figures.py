"""Figures are small, legible files that depend on their data alone."""

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from bids_group.outputs import figures
from bids_group.outputs.figures.matrices import _average_blocks
from bids_group.outputs.figures.slices import _choose_slices

SHAPE = (26, 31, 26)
AFFINE = np.array([[-6.0, 0, 0, 75], [0, 6, 0, -112], [0, 0, 6, -60], [0, 0, 0, 1]])
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST_BYTES = 350_000
CUT = {"cut_coords": (39.0, -46.0, -18.0), "colour_limit": 8.0}


def make_statistic():
    rng = np.random.default_rng(1)
    inside = np.zeros(SHAPE, bool)
    inside[2:-2, 2:-2, 2:-2] = True
    values = np.where(inside, rng.standard_normal(SHAPE), 0)
    values[5:8, 10:13, 6:9] += 5
    values[18:21, 10:13, 6:9] -= 5
    return Nifti1Image(values.astype(np.float32), AFFINE)


def keep(statistic, threshold):
    values = statistic.get_fdata()
    return Nifti1Image(np.where(np.abs(values) > threshold, values, 0).astype(np.float32), statistic.affine)


FORMULA = "$\\frac{a$"  # half of one, which matplotlib would not draw


def make_cells(n_groups, n_conditions):
    rng = np.random.default_rng(4)
    values = tuple(rng.standard_normal((12, n_conditions)) for _ in range(n_groups))
    means, half_widths = np.zeros((n_groups, n_conditions)), np.full((n_groups, n_conditions), 0.6)
    groups = tuple(f"group{number}" for number in range(n_groups))
    conditions = tuple(f"condition{number}" for number in range(n_conditions))
    return [figures.CellPanel(f"cluster {i}\n1, 2, 3 mm\nregion", groups, conditions, values, means, half_widths) for i in range(3)]  # fmt: skip


def make_null(observed, *, cutoff=3.0):
    maxima = np.concatenate([[observed], np.random.default_rng(5).gumbel(2, 0.4, 199)])
    return figures.NullPanel("voxelFWE", maxima, cutoff, 0.05, 0.005, "|t|")


def make_slope():
    x = np.random.default_rng(6).standard_normal(20)
    return figures.SlopePanel("cluster 1\n1, 2, 3 mm", x, 2 * x + 0.1, 2.0, 0.5)


def draw_subjects(n_subjects, *, n_shown=None):
    values = np.random.default_rng(7).standard_normal((n_shown or n_subjects, 10, 9)).astype(np.float32)
    names = [f"{number:02}" for number in range(len(values))]
    above = values.transpose(0, 2, 1)
    views = [(left, top, (3.0, 3.0, 4.5)) for left, top in zip(values, above, strict=True)]
    return figures.draw_subjects(names, views, n_subjects=n_subjects)


def draw_plots():
    """Draw what shows no single correction."""
    statistic = make_statistic()
    survivors, nothing = keep(statistic, 3.4), keep(statistic, np.inf)
    inside = Nifti1Image((statistic.get_fdata() != 0).astype(np.uint8), AFFINE)
    spread = Nifti1Image(np.abs(statistic.get_fdata()).astype(np.float32), AFFINE)
    counts = Nifti1Image((inside.get_fdata() * np.where(np.arange(SHAPE[0]) > 12, 16, 13)[:, None, None]).astype(np.int32), AFFINE)  # fmt: skip
    columns = pd.DataFrame(np.random.default_rng(8).standard_normal((40, 30))).rename(columns="column{}".format)
    scale = {"colour_limit": 8.0, "unit": "t"}
    return {
        "mosaic": figures.draw_mosaic(survivors, statistic, **scale, template=True),
        "mosaic without template": figures.draw_mosaic(survivors, statistic, **scale, template=False),
        "mosaic of nothing": figures.draw_mosaic(nothing, statistic, **scale, template=False),
        "mosaic of zeros": figures.draw_mosaic(nothing, nothing, **scale, template=False),
        "spread": figures.draw_spread(inside, statistic, spread),
        "spread of zeros": figures.draw_spread(inside, nothing, nothing),
        "coverage": figures.draw_coverage(counts, most=16),
        "subjects": draw_subjects(7),
        "subjects of many": draw_subjects(100, n_shown=40),
        "correlation": figures.draw_correlation(columns[["column0", "column1"]]),
        "correlation of many": figures.draw_correlation(columns),
        "null": figures.draw_null([make_null(4.0)]),
        "null far out": figures.draw_null([make_null(40.0), make_null(2.0, cutoff=np.nan)] * 2 + [make_null(4.0)]),
        "qq": figures.draw_qq(-np.log10(np.random.default_rng(9).uniform(size=5000))),
        "qq of one": figures.draw_qq(np.array([0.3])),
        "cells": figures.draw_cells(make_cells(1, 9)),
        "cells of one": figures.draw_cells(make_cells(1, 1)[:1], is_adjusted=True),
        "cells of groups": figures.draw_cells(make_cells(3, 1)),
        "cells of groups and conditions": figures.draw_cells(make_cells(2, 3)),
        "slopes": figures.draw_slopes([make_slope()] * 2, name="age"),
        "faulty formulas": figures.draw_cells([replace(make_cells(2, 2)[0], title=FORMULA, groups=(FORMULA, "b"), conditions=(FORMULA, "d"))]),
        "a slope of a faulty formula": figures.draw_slopes([replace(make_slope(), title=FORMULA)], name=FORMULA),
    }  # fmt: skip


def draw_clusters(survivors, statistic, *, template):
    labels, _ = ndimage.label(survivors.get_fdata() != 0)
    panels = [figures.ClusterPanel(f"cluster {i}\nsomewhere", i, (39.0, -46.0, -18.0)) for i in (1, 2, 3)]
    image = Nifti1Image(labels.astype(np.int32), AFFINE)
    return figures.draw_clusters(image, statistic, panels, colour_limit=8.0, unit="t", template=template)


def draw_all():
    statistic = make_statistic()
    survivors, nothing = keep(statistic, 3.4), keep(statistic, np.inf)
    squared = Nifti1Image(statistic.get_fdata() ** 2, AFFINE)
    wide = pd.DataFrame(np.random.default_rng(2).standard_normal((1000, 1000)))
    repeated = np.hstack([np.kron(np.ones((16, 1)), np.eye(9)), np.kron(np.eye(16), np.ones((9, 1)))])
    names = [f"column{number}" for number in range(25)]
    return {
        "ortho": figures.draw_ortho(survivors, statistic, **CUT, unit="t", template=True),
        "ortho of F": figures.draw_ortho(keep(squared, 12), squared, **CUT, unit="F", template=True),
        "ortho without template": figures.draw_ortho(survivors, statistic, **CUT, unit="z", template=False),
        "ortho of nothing": figures.draw_ortho(nothing, statistic, **CUT, unit="t", template=True),
        "ortho of zeros": figures.draw_ortho(nothing, nothing, **CUT, unit="t", template=False),
        "clusters": draw_clusters(survivors, statistic, template=True),
        "clusters without template": draw_clusters(survivors, statistic, template=False),
        "surface": figures.draw_surface(survivors, statistic, colour_limit=8.0, unit="t"),
        "surface of F": figures.draw_surface(keep(squared, 12), squared, colour_limit=30.0, unit="F"),
        "surface of zeros": figures.draw_surface(nothing, nothing, colour_limit=8.0, unit="t"),
        "glass": figures.draw_glass_brain(survivors, colour_limit=8.0, unit="t", signed=True),
        "glass of nothing": figures.draw_glass_brain(nothing, colour_limit=8.0, unit="F", signed=False),
        "mask": figures.draw_mask(Nifti1Image((statistic.get_fdata() != 0).astype(np.uint8), AFFINE), statistic),
        "design": figures.draw_design_matrix(pd.DataFrame(repeated, columns=names)),
        "design of one column": figures.draw_design_matrix(pd.DataFrame({"intercept": np.ones(16)})),
        "design of 1,000 columns": figures.draw_design_matrix(wide),
        "design of dollars": figures.draw_design_matrix(pd.DataFrame({"cost[$_{x$]": [1.0, -2.0]})),
        "weights": figures.draw_contrast_weights(pd.DataFrame(repeated[:3], index=["a", "F", "F"], columns=names)),
        "weights of one": figures.draw_contrast_weights(pd.DataFrame([[1.0]], index=["i"], columns=["i"])),
        "weights of 1,000": figures.draw_contrast_weights(wide[:100]),
        **draw_plots(),
    }


@pytest.fixture(scope="module")
def pictures():
    return draw_all()


@pytest.fixture(scope="module")
def drawn(pictures):
    return {name: picture.png for name, picture in pictures.items()}


def read(png):
    return matplotlib.image.imread(io.BytesIO(png), format="png")[..., :3]


def test_every_figure_is_a_small_png_without_a_maker(drawn):
    for name, png in drawn.items():
        assert png.startswith(PNG_SIGNATURE), name
        assert len(png) < LARGEST_BYTES, name
        assert b"Software" not in png, name
        assert b"matplotlib" not in png, name


def test_plots_and_matrices_have_an_svg_that_names_neither_maker_nor_time_and_brains_have_none(pictures):
    brains = {"ortho", "glass", "mask", "mosaic", "spread", "coverage", "subjects", "clusters", "surface"}
    for name, picture in pictures.items():
        if name.split()[0] in brains:
            assert picture.svg is None, name
            continue
        assert re.findall(r"(?i)creator|matplotlib v|matplotlib\.org|<dc:date|<script", picture.svg.decode()) == [], (
            name
        )
        assert ElementTree.fromstring(picture.svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert len(picture.svg) < LARGEST_BYTES, name


def test_the_same_data_give_the_same_bytes(pictures):
    assert draw_all() == pictures


def test_no_figure_stays_open_in_pyplot(drawn):
    assert plt.get_fignums() == []


def count_colourful(png):
    """Count the pixels in the left three quarters, away from the colour bar, that are not grey."""
    pixels = read(png)
    pixels = pixels[:, : 3 * pixels.shape[1] // 4]
    return int((np.ptp(pixels, axis=2) > 0.1).sum())


def test_the_whole_statistic_shows_where_nothing_survives(drawn):
    assert count_colourful(drawn["ortho of nothing"]) > 500
    assert count_colourful(drawn["ortho of zeros"]) == 0


def test_survivors_are_stronger_than_what_fades(drawn):
    strongest = {name: np.ptp(read(drawn[name])[:, :800], axis=2).max() for name in ("ortho", "ortho of nothing")}
    assert strongest["ortho"] > strongest["ortho of nothing"] + 0.1


def test_a_glass_brain_of_nothing_has_no_colour_in_it(drawn):
    assert count_colourful(drawn["glass"]) > 500
    assert count_colourful(drawn["glass of nothing"]) == 0


def test_t_runs_from_blue_to_red_and_f_has_no_blue(drawn):
    def count_blue(name):
        pixels = read(drawn[name])
        return int((pixels[..., 2] - pixels[..., 0] > 0.1).sum())

    assert count_blue("ortho") > 500
    assert count_blue("ortho of F") == 0


def test_maps_are_cut_through_their_largest_absolute_value():
    values = np.zeros(SHAPE, np.float32)
    values[3, 4, 5], values[6, 7, 8] = 2.0, -3.0
    assert figures.choose_cut_coords(Nifti1Image(values, AFFINE)) == (75 - 36, -112 + 42, -60 + 48)
    assert figures.choose_colour_limit(Nifti1Image(values, AFFINE)) == 3.0
    assert figures.choose_colour_limit(Nifti1Image(np.zeros(SHAPE), AFFINE)) == 1.0


def test_blocks_of_a_large_matrix_are_averaged_so_that_its_mean_stays():
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((900, 7))
    averaged = _average_blocks(matrix)
    assert averaged.shape == (300, 7)
    np.testing.assert_allclose(averaged, matrix.reshape(300, 3, 7).mean(axis=1), atol=1e-12)
    np.testing.assert_array_equal(_average_blocks(matrix[:300]), matrix[:300])


def test_the_design_shows_each_row_as_its_own_shade():
    design = pd.DataFrame({"a": [0.0, 1.0]})
    pixels = read(figures.draw_design_matrix(design).png).mean(axis=2)
    column = pixels[:, pixels.shape[1] * 2 // 3]
    assert (column < 0.4).sum() > 20
    assert column[-10:].min() < column[len(column) // 2 - 5]


def test_what_does_not_survive_fades_alike_whether_or_not_anything_survives():
    statistic = make_statistic()
    elsewhere = np.zeros(SHAPE, np.float32)
    elsewhere[20, 25, 20] = 3.0  # far from the slices
    some = figures.draw_ortho(Nifti1Image(elsewhere, AFFINE), statistic, **CUT, unit="t", template=False)
    none = figures.draw_ortho(keep(statistic, np.inf), statistic, **CUT, unit="t", template=False)
    assert some == none


def read_edges(png):
    """Return the outermost pixels of a picture."""
    pixels = read(png)
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


PLOTS = ("null", "null far out", "qq", "cells", "cells of groups", "cells of groups and conditions", "slopes")


@pytest.mark.parametrize("name", [*PLOTS, "spread", "coverage", "mosaic", "subjects", "correlation of many"])
def test_nothing_is_cut_at_the_edges(drawn, name):
    assert (read_edges(drawn[name]) == 1).all()


def test_the_mosaic_of_nothing_still_shows_the_statistic(drawn):
    assert count_colourful(drawn["mosaic of nothing"]) > 500
    assert count_colourful(drawn["mosaic of zeros"]) == 0


def test_slices_have_left_on_the_left_and_the_front_above():
    values = np.zeros(SHAPE, np.float32)
    values[20, 25, 13] = 1  # x = -45, y = 38
    image = Nifti1Image(values, AFFINE)
    montage = _choose_slices(image, np.ones(SHAPE, bool), n_rows=1)
    row, column = np.argwhere(montage.sample(AFFINE, values) > 0).mean(axis=0)
    of_slice = column % len(montage.x)
    assert montage.x[int(of_slice)] == pytest.approx(-45, abs=3)
    assert montage.y[::-1][int(row)] == pytest.approx(38, abs=3)
    assert of_slice < len(montage.x) / 2
    assert row < len(montage.y) / 2


def test_an_observation_far_beyond_the_null_is_an_arrow_at_the_edge(drawn):
    def find_orange(png):
        pixels = read(png)
        return np.abs(pixels - np.array([213, 94, 0]) / 255).max(axis=2) < 0.05

    near, far = (find_orange(figures.draw_null([make_null(height)]).png) for height in (4.0, 40.0))
    assert near.sum(axis=0).max() > 100  # a line from top to bottom
    assert far.sum(axis=0).max() < 30
    assert far.any()
