"""One NIfTI file: its grid and its values, or what is wrong with it."""

import errno
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import Opener
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from bids_group.errors import DataError, MissingInputError, ReadWriteError
from bids_group.inputs.text_files import check_file

GRID_TOLERANCE_MM = 0.01  # affines are stored as float32; a shift that matters is far larger
ALIGNED_SPACE = 2  # NIfTI: aligned to something; what an affine means when its header does not say
LARGEST_GRID = 2**31  # voxels; a header that declares more is damaged
GZIP_FORMAT = 31  # zlib: a gzip header and checksum
TRAILING_BYTES = 2**20
LARGEST_FILE = 2**31  # bytes, decompressed: a whole brain in voxels of 0.25 mm; several maps are held at a time
MOST_DEFLATED = 1032  # bytes that one byte can inflate to at most (deflate's longest match)
GZIP_STEP = 2**15  # bytes given to the decompressor at once, of which those of the next member are copied
LONGEST_PREAMBLE = 2**26  # bytes before the values; NIfTI's extensions are documents
HEADERS = (nib.Nifti1Header, nib.Nifti2Header)
EXTENSION_FLAGS = 4  # bytes after the header
SHORTEST_EXTENSION = 8  # bytes: its length and its kind
_PADDING = re.compile(rb"\0*")


@dataclass(frozen=True)
class Grid:
    """The grid that all maps of a model share.

    Attributes
    ----------
    shape : tuple of int, length 3
    affine : ndarray of float64, shape (4, 4)
        From voxel indices to millimetres.
    space_code : int
        NIfTI's code of the space that the affine leads to (4 for MNI).
    odd_file : Path or None
        A map whose header has two affines (sform and qform) that differ; the sform is used.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    space_code: int = ALIGNED_SPACE
    odd_file: Path | None = None

    @property
    def voxel_sizes(self) -> tuple[float, float, float]:
        """Return the edge lengths of a voxel in mm."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(x), float(y), float(z)

    @property
    def voxel_volume(self) -> float:
        """Return the volume of a voxel in cubic mm."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def differs_from(self, other: "Grid") -> bool:
        """Return whether the grids differ in shape, or a corner lies elsewhere."""
        return self.shape != other.shape or _find_distance(self.shape, self.affine, other.affine) > GRID_TOLERANCE_MM


def _find_distance(shape: tuple[int, int, int], affine: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return how far apart two affines put the corners of a grid, in mm."""
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], [1.0]), axis=-1).reshape(-1, 4)
    return float(np.linalg.norm(corners @ (affine - other).T, axis=1).max())


def open_map(path: Path) -> tuple[nib.Nifti1Image, Grid]:
    """Open a map and read its header.

    Raises
    ------
    MissingInputError, ReadWriteError
        If the file is not there or cannot be read.
    DataError
        If it is no NIfTI file, or not three-dimensional (trailing dimensions of length one are dropped).
    """
    try:
        n_bytes = check_file(path)
        _check_preamble(path)
        image = nib.load(path)
    except FileNotFoundError as error:
        raise MissingInputError(_explain_missing(path)) from error
    except (ImageFileError, HeaderDataError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise DataError(f"{path}: not a readable NIfTI file: {error}; it may be truncated, copy it again") from error
    except OSError as error:
        raise _file_error(path, error) from error
    if not isinstance(image, nib.Nifti1Image):
        raise DataError(f"{path}: not a NIfTI file but {type(image).__name__}; convert it to .nii or .nii.gz")
    sform, qform = (int(image.header[name]) for name in ("sform_code", "qform_code"))
    shape, affine = _check_shape(path, image.shape), _check_affine(path, image.affine)
    _check_size(path, image, n_bytes)
    return image, Grid(shape, affine, sform or qform or ALIGNED_SPACE, _find_odd(path, image, shape))


def _check_preamble(path: Path) -> None:
    """Refuse what stands before the values if it is no document: a few bytes of gzip may inflate to any number."""
    if not path.name.endswith((".nii", ".nii.gz")):
        raise DataError(f"{path}: not a NIfTI file; convert it to .nii or .nii.gz")
    with Opener(str(path)) as file:
        head = file.read(HEADERS[-1].sizeof_hdr)
        kind = next((kind for kind in HEADERS if kind.may_contain_header(head)), None)
        if kind is None:
            return  # nibabel says what it is instead
        header = kind(head[: kind.sizeof_hdr], check=False)
        offset = float(header["vox_offset"])
        if not offset <= LONGEST_PREAMBLE:
            raise ValueError(f"its header says that the values begin at byte {offset:g}")
        content = head + file.read(max(0, int(offset) - len(head)))
    has_extensions = content[kind.sizeof_hdr : kind.sizeof_hdr + 1] not in (b"", b"\0")
    content = content[kind.sizeof_hdr : max(0, int(offset))]
    if has_extensions:
        if len(content) < EXTENSION_FLAGS:  # nibabel would take all that follows for extensions
            raise ValueError(f"its header has extensions, but says that the values begin at byte {offset:g}")
        _check_extensions(content[EXTENSION_FLAGS:], np.dtype(np.int32).newbyteorder(header.endianness))


def _check_extensions(content: bytes, number: np.dtype[np.int32]) -> None:
    """Check that the extensions end where the values begin."""
    at = 0
    while len(content) - at >= SHORTEST_EXTENSION:
        length = int(np.frombuffer(content, number, count=1, offset=at)[0])
        if not SHORTEST_EXTENSION <= length <= len(content) - at:
            raise ValueError(f"its header has an extension of {length} bytes")
        at += length


def _check_size(path: Path, image: nib.Nifti1Image, n_bytes: int) -> None:
    """Refuse a file that must be cut off, or that would fill the memory, by its header alone."""
    declared = _expect_bytes(image) - TRAILING_BYTES
    if declared > LARGEST_FILE:
        raise DataError(
            f"{path}: its header declares the shape {image.shape}, {declared / 1e9:.1f} GB; a map may have "
            f"{LARGEST_FILE / 1e9:.1f} GB at most, so resample it, or copy it again if it is damaged"
        )
    if declared > n_bytes * (MOST_DEFLATED if path.suffix == ".gz" else 1):
        raise DataError(
            f"{path}: damaged: its header declares {declared} bytes, which its {n_bytes} cannot hold; "
            "it may be truncated, copy it again"
        )


def _explain_missing(path: Path) -> str:
    if path.is_symlink():  # as DataLad and git-annex leave what was not fetched
        target = path.readlink()
        return f"{path}: a link to {target}, which is not there; fetch it first (such as with datalad get)"
    return f"{path}: there is no such file"


def _find_odd(path: Path, image: nib.Nifti1Image, shape: tuple[int, int, int]) -> Path | None:
    """Return the file if its two affines put the map in different places."""
    try:
        sform, qform = image.get_sform(coded=True)[0], image.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        return path  # a qform that is no rotation
    if sform is None or qform is None:
        return None
    return path if _find_distance(shape, sform, qform) > GRID_TOLERANCE_MM else None


def _file_error(path: Path, error: OSError) -> DataError | ReadWriteError:
    """Tell damaged content (gzip raises OSError too) from a failing file system."""
    if error.errno in (None, errno.EINVAL):  # EINVAL: a header that points outside the file
        return DataError(f"{path}: not a readable NIfTI file: {error}; it may be truncated, copy it again")
    return ReadWriteError(f"{path}: cannot be read: {error.strerror}")


def _check_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise DataError(f"{path}: its shape is {shape}; a map must be 3-D (one volume): split it, or average it")
    if any(n < 1 for n in shape) or np.prod(shape, dtype=float) > LARGEST_GRID:
        raise DataError(f"{path}: its header declares the shape {shape}; the file is damaged")
    return int(shape[0]), int(shape[1]), int(shape[2])


def _check_affine(path: Path, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError(f"{path}: its affine is not invertible; set its sform:\n{format_affine(affine)}")
    return np.asarray(affine, dtype=np.float64)


def format_affine(affine: NDArray[np.float64]) -> str:
    """Write an affine over four lines."""
    return "\n".join("    " + " ".join(f"{value:10.4f}" for value in row) for row in affine)


def read_values(path: Path) -> NDArray[np.float32]:
    """Read a map's values, scaled as its header says.

    Returns
    -------
    ndarray of float32, shape grid.shape
        A number too large for float32 is infinite, hence missing.

    Raises
    ------
    DataError
        If the values cannot be read or are no real numbers.
    """
    image, grid = open_map(path)
    if image.get_data_dtype().kind not in "iufb":
        raise DataError(f"{path}: its values are {image.get_data_dtype()}; a map must hold real numbers")
    try:
        if path.suffix == ".gz":
            image = type(image).from_bytes(_decompress(path.read_bytes(), _expect_bytes(image)))
        values = np.asanyarray(image.dataobj)
    except (EOFError, zlib.error, ValueError, OverflowError, ImageFileError) as error:
        raise DataError(f"{path}: damaged: {error}; it may be truncated, copy it again") from error
    except OSError as error:
        raise _file_error(path, error) from error
    with np.errstate(over="ignore"):
        return values.reshape(grid.shape).astype(np.float32, copy=False)


def _expect_bytes(image: nib.Nifti1Image) -> int:
    """Return the size of a NIfTI file by its header, with room for what some programs write after the data."""
    n_voxels = int(np.prod(image.shape, dtype=np.int64))
    values: Any = image.dataobj  # whose offset the header no longer has
    return int(values.offset) + n_voxels * image.get_data_dtype().itemsize + TRAILING_BYTES


def _decompress(content: bytes, most: int) -> bytes:
    """Decompress a whole gzip file, which checks its sums; reading only the values would not.

    Parameters
    ----------
    content : bytes
        One or more gzip members.
    most : int
        Refuse to produce more bytes than this.

    Raises
    ------
    EOFError, zlib.error
        If a member is cut off or damaged.
    ValueError
        If there is more than `most`.
    """
    parts, n_bytes, at = [], 0, 0
    while at < len(content):
        member = zlib.decompressobj(wbits=GZIP_FORMAT)
        while not member.eof:
            step = content[at : at + GZIP_STEP]
            if not step:
                raise EOFError("the compressed data end too early")
            parts.append(member.decompress(step, most - n_bytes + 1))
            at += len(step) - len(member.unused_data)
            n_bytes += len(parts[-1])
            if n_bytes > most:
                raise ValueError(f"it holds more than the {most} bytes that its header declares")
        at = _skip_padding(content, at)
    return b"".join(parts)


def _skip_padding(content: bytes, at: int) -> int:
    """Return where zeros end, with which gzip files may be padded."""
    found = _PADDING.match(content, at)
    return at if found is None else found.end()
