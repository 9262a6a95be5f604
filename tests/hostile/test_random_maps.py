"""A map of any type, byte order, scaling, affine and shape has the values that its bytes say, read with numpy alone."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_group.inputs.nifti import open_map, read_values
from tests.hostile.amounts import examples

CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}
HEADER_BYTES = 348
ROUNDING = 2e-6  # of float32, twice: once of the product, once of the sum
NUMBERS = st.floats(-1e3, 1e3, allow_nan=False, width=32)


def pack_header(order, *, shape, kind, slope, intercept, offset, affine):
    """Write a header of NIfTI-1, from the tables of the standard."""
    header = bytearray(HEADER_BYTES)
    dimensions = [len(shape), *shape, *[1] * (7 - len(shape))]
    struct.pack_into(f"{order}i", header, 0, HEADER_BYTES)
    struct.pack_into(f"{order}8h", header, 40, *dimensions)
    struct.pack_into(f"{order}2h", header, 70, CODES[kind], 8 * np.dtype(kind).itemsize)
    struct.pack_into(f"{order}8f", header, 76, 1, *[1] * 7)
    struct.pack_into(f"{order}3f", header, 108, offset, slope, intercept)
    struct.pack_into(f"{order}2h", header, 252, 0, 4)  # no qform; an sform, in MNI space
    struct.pack_into(f"{order}12f", header, 280, *affine[:3].ravel())
    header[344:348] = b"n+1\0"
    return bytes(header)


@st.composite
def draw_file(draw):
    """A file's bytes, and the values and the affine that they mean."""
    order, kind = draw(st.sampled_from("<>")), draw(st.sampled_from(sorted(CODES)))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=3, max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind[0] == "f":
        raw = rng.standard_normal(shape) * 10.0 ** draw(st.integers(-30, 30))
        raw.flat[0] = draw(st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1.0]))
    else:
        limits = np.iinfo(kind)
        raw = rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    raw = raw.astype(f"{order}{kind}")
    slope, intercept = (
        draw(st.sampled_from([0.0, 1.0, np.nan, 0.5, -3.25, 1e-4])),
        draw(st.sampled_from([0.0, 7.5, -1.0])),
    )
    affine = np.diag([*draw(st.tuples(*[st.sampled_from([-4.0, 0.7, 2.0])] * 3)), 1.0])
    affine[:3, 3] = draw(st.tuples(NUMBERS, NUMBERS, NUMBERS))
    affine[0, 1] = draw(st.sampled_from([0.0, 0.3]))
    offset = draw(st.sampled_from([352, 368, 416]))
    full_shape = shape + (1,) * draw(st.integers(0, 2))
    packed = pack_header(
        order, shape=full_shape, kind=kind, slope=slope, intercept=intercept, offset=offset, affine=affine
    )
    # Four zeros: there are no extensions, so that what follows says nothing, whatever it is.
    filling = bytes(4) + draw(st.sampled_from([b"\0", b"\xff"])) * (offset - HEADER_BYTES - 4)
    content = packed + filling + raw.tobytes(order="F")
    return content, scale(raw, slope, intercept), affine


def scale(raw, slope, intercept):
    """Return the values that the standard gives to numbers: a slope of 0, or one that is no number, scales nothing."""
    values = raw.astype(np.longdouble)
    return values if slope == 0 or not np.isfinite(slope) else values * np.float32(slope) + np.float32(intercept)


@examples(60)
@given(draw_file(), st.booleans())
def test_values_and_affine_are_those_that_the_bytes_mean(tmp_path_factory, drawn, is_compressed):
    content, values, affine = drawn
    path = tmp_path_factory.mktemp("map") / ("map.nii.gz" if is_compressed else "map.nii")
    path.write_bytes(gzip.compress(content, 1) if is_compressed else content)
    found, (_, grid) = read_values(path), open_map(path)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float32)
    assert found.dtype == np.float32
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=ROUNDING * float(largest))
    assert grid.shape == values.shape
    assert grid.affine == pytest.approx(affine.astype(np.float32).astype(float))
