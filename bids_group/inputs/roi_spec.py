"""`ROIs`: the regions of interest in which a model is fitted to the mean of each map, and how they are tested."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bids_group.inputs.inference_spec import (
    DEFAULT_ALPHA,
    DEFAULT_PERMUTATIONS,
    TAILS,
    InferenceSpec,
    PermutationSpec,
    read_alpha,
    read_names,
    read_permutations,
    read_seed,
)
from bids_group.inputs.strict import Place
from bids_group.vocabulary import ATLAS_NAMES

SOURCE_KINDS = ("Atlas", "Image", "Spheres")
SOURCE_KEYS: Mapping[str, tuple[str, ...]] = {
    "Atlas": ("Atlas", "Regions", "Threshold"),
    "Image": ("Image", "Labels", "Name"),
    "Spheres": ("Spheres", "Radius"),
}
NAME = "ROIs"  # of the test, where the rearrangements of all tests are listed
LARGEST_RADIUS_MM = 100.0


@dataclass(frozen=True)
class AtlasRegions:
    """Regions of an atlas.

    Attributes
    ----------
    path : str
        Where they stand in the spec; likewise below.
    atlas : str
    regions : tuple of str or None
        Their names; None for all.
    threshold : float or None
        Of an atlas of probabilities: the least probability of a voxel's region, in percent; None for that of the
        labels of peaks.
    """

    path: str
    atlas: str
    regions: tuple[str, ...] | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class ImageRegions:
    """Regions of an image of whole numbers, or the one that all its voxels other than 0 are.

    Attributes
    ----------
    path : str
    file : str
        Relative to the spec.
    labels : dict of int to str or None
        The regions that are taken, and their names; None for all of the image.
    name : str or None
        Of the one region that all voxels other than 0 are; None where each number is a region.
    """

    path: str
    file: str
    labels: dict[int, str] | None
    name: str | None


@dataclass(frozen=True)
class Sphere:
    """A sphere: its name, and its centre in mm."""

    name: str
    center: tuple[float, float, float]


@dataclass(frozen=True)
class SphereRegions:
    """Spheres of one radius, in mm."""

    path: str
    spheres: tuple[Sphere, ...]
    radius: float


RegionSource = AtlasRegions | ImageRegions | SphereRegions


@dataclass(frozen=True)
class RoiSpec:
    """The regions of interest of a model, and how their means are tested.

    Attributes
    ----------
    sources : tuple of RegionSource
    test : InferenceSpec
        Of all regions together: alpha, tail and contrasts; the permutation test has the level ``voxel``, a voxel
        being the mean of a region, or is left out.
    path : str
        Where it stands in the spec.
    """

    sources: tuple[RegionSource, ...]
    test: InferenceSpec
    path: str


def read_rois(place: Place) -> RoiSpec:
    """Read `ROIs`: a list of sources, or an object that says besides how they are tested.

    Raises
    ------
    SpecError
    """
    known = ("Sources", "Alpha", "Tail", "Contrasts", "Permutations", "Seed")
    if isinstance(place.value, list):
        fields = {"Sources": place}
    else:
        fields = place.fields(known, required=("Sources",))
    items = fields["Sources"].items()
    if not items:
        fields["Sources"].fail("the list is empty; leave ROIs out where there are none")
    permutation = _read_permutation(fields)
    test = InferenceSpec(
        correction="fdr" if permutation is None else "permutation",
        alpha=read_alpha(fields["Alpha"]) if "Alpha" in fields else DEFAULT_ALPHA,
        tail=fields["Tail"].choice(TAILS) if "Tail" in fields else "two-sided",
        contrasts=read_names(fields["Contrasts"]) if "Contrasts" in fields else None,
        name=NAME,
        path=place.path,
        permutation=permutation,
    )
    return RoiSpec(tuple(_read_source(item) for item in items), test, place.path)


def _read_permutation(fields: Mapping[str, Place]) -> PermutationSpec | None:
    """Read how often is rearranged; 0 for a test without."""
    seed = read_seed(fields["Seed"]) if "Seed" in fields else 0
    asked = fields.get("Permutations")
    if asked is not None and asked.value == 0 and not isinstance(asked.value, bool):
        return None
    n = DEFAULT_PERMUTATIONS if asked is None else read_permutations(asked)
    return PermutationSpec(n=n, levels=("voxel",), seed=seed)


def _read_source(place: Place) -> RegionSource:
    fields = place.fields(dict.fromkeys(key for keys in SOURCE_KEYS.values() for key in keys))
    kinds = [kind for kind in SOURCE_KINDS if kind in fields]
    if len(kinds) != 1:
        place.fail("a source has one of the keys Atlas, Image and Spheres; give each its own object in the list")
    (kind,) = kinds
    for key in (key for key in fields if key not in SOURCE_KEYS[kind]):
        fields[key].fail(f"{key} has no meaning for a source of {kind}; there are {', '.join(SOURCE_KEYS[kind])}")
    if kind == "Atlas":
        return AtlasRegions(
            place.path,
            fields["Atlas"].choice(ATLAS_NAMES),
            _read_distinct(fields["Regions"]) if "Regions" in fields else None,
            _read_threshold(fields["Threshold"]) if "Threshold" in fields else None,
        )
    return _read_image(place, fields) if kind == "Image" else _read_spheres(place, fields)


def _read_distinct(place: Place) -> tuple[str, ...]:
    names = tuple(item.text() for item in place.one_or_more())
    _refuse_repeated(place, names)
    return names


def _refuse_repeated(place: Place, names: tuple[Any, ...]) -> None:
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        place.fail(f"the region {repeated[0]!r} stands there more than once")


def _read_threshold(place: Place) -> float:
    threshold = place.number()
    if not 0 <= threshold <= 100:
        place.fail(f"the least probability of a region is from 0 to 100 percent, found {threshold:g}")
    return threshold


def _read_image(place: Place, fields: Mapping[str, Place]) -> ImageRegions:
    if "Labels" in fields and "Name" in fields:
        place.fail("give Labels, which names the region of each number, or Name, which makes one region of all")
    labels = _read_labels(fields["Labels"]) if "Labels" in fields else None
    name = fields["Name"].text() if "Name" in fields else None
    return ImageRegions(place.path, fields["Image"].text(), labels, name)


def _read_labels(place: Place) -> dict[int, str]:
    """Read the names of numbers, which JSON has as strings."""
    if not isinstance(place.value, dict) or not place.value:
        place.fail('expected an object of numbers and names, such as {"1": "FFA"}')
    fields = place.fields(place.value)
    for key, item in fields.items():
        if not key.isascii() or not key.isdigit() or key != str(int(key)) or key == "0":
            item.fail(f"the label {key!r} is no whole number above 0")
    names = tuple(item.text() for item in fields.values())
    _refuse_repeated(place, names)
    return dict(zip(map(int, fields), names, strict=True))


def _read_spheres(place: Place, fields: Mapping[str, Place]) -> SphereRegions:
    if "Radius" not in fields:
        place.fail("the key 'Radius' is missing: that of the spheres, in mm")
    radius = fields["Radius"].number()
    if not 0 < radius <= LARGEST_RADIUS_MM:
        fields["Radius"].fail(f"the radius is above 0 and at most {LARGEST_RADIUS_MM:g} mm, found {radius:g}")
    items = fields["Spheres"].items()
    if not items:
        fields["Spheres"].fail('the list is empty; expected such as [{"Name": "FFA", "Center": [40, -52, -18]}]')
    spheres = tuple(_read_sphere(item) for item in items)
    _refuse_repeated(fields["Spheres"], tuple(sphere.name for sphere in spheres))
    return SphereRegions(place.path, spheres, radius)


def _read_sphere(place: Place) -> Sphere:
    fields = place.fields(("Name", "Center"), required=("Name", "Center"))
    center = [item.number() for item in fields["Center"].items()]
    if len(center) != 3:
        fields["Center"].fail(f"a centre has three coordinates in mm, x, y and z; found {len(center)}")
    x, y, z = center
    return Sphere(fields["Name"].text(), (x, y, z))
