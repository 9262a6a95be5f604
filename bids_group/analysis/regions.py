"""Where the regions of interest are on the grid of the maps; checked before a map is read."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_group.errors import SpecError
from bids_group.inputs.label_images import read_label_image
from bids_group.inputs.map_sources import list_uris
from bids_group.inputs.nifti import Grid
from bids_group.inputs.origins import find_origin, may_share_data
from bids_group.inputs.plan import ModelPlan
from bids_group.inputs.roi_spec import AtlasRegions, ImageRegions, RoiSpec, SphereRegions
from bids_group.inputs.strict import suggest
from bids_group.inputs.study import NodeStudy, Study
from bids_group.outputs.atlas_labels import PROBABILITY_THRESHOLD, find_regions, find_voxels, look_up
from bids_group.outputs.atlases import LabelAtlas, find_source, load_atlas
from bids_group.outputs.naming import ModelNames
from bids_group.outputs.region_results import LocatedRegions, Region
from bids_group.outputs.region_tables import MAP_COLUMNS

SPHERE = "sphere"
# A voxel's centre at the distance of the radius is inside, whatever the rounding of the affine.
RADIUS_TOLERANCE = 1e-6

Found = tuple[list[tuple[str, NDArray[np.intp]]], Mapping[str, Any]]


def check_regions(study: Study) -> Study:
    """Find the regions of interest of all models, and return the study with warnings of circular analyses.

    Raises
    ------
    SpecError
        If an atlas has no such region, or the maps are in another space; if no region has a voxel.
    MissingInputError, DataError
        If an image is not there, or holds no regions.
    """
    nodes = []
    for node in study.nodes:
        models = tuple(
            replace(model, warnings=(*model.warnings, *_check_model(node, model, grid, study.spec.path.parent)))
            for model, grid in zip(node.plan.models, node.grids, strict=True)
        )
        nodes.append(replace(node, plan=replace(node.plan, models=models)))
    return replace(study, nodes=tuple(nodes))


def _check_model(node: NodeStudy, model: ModelPlan, grid: Grid, folder: Path) -> list[str]:
    """Locate the regions of a model, and warn of masks and regions that the same data may have made."""
    rois, images = node.plan.node.settings.rois, [(path, "Mask") for path in node.masks]
    if rois is not None:
        _refuse_other_space(rois, model)
        located = locate_regions(rois, grid, folder)
        if not any(len(region.voxels) for region in located.regions):
            raise SpecError(rois.path, "no region has a voxel on the grid of the maps; are they in the same space?")
        images += [(folder / source.file, "ROIs") for source in rois.sources if isinstance(source, ImageRegions)]
    return list(_warn_of_circles(model, images))


def _refuse_other_space(rois: RoiSpec, model: ModelPlan) -> None:
    for source in rois.sources:
        if isinstance(source, AtlasRegions) and not ModelNames(model.entities).is_in_mni_space:
            raise SpecError(
                f"{source.path}.Atlas",
                f"the maps are in the space {model.entities['space']} and the atlas in that of MNI; give an Image of "
                "the regions in the space of the maps, or Spheres",
            )


def _warn_of_circles(model: ModelPlan, images: list[tuple[Path, str]]) -> Iterator[str]:
    uris = [uri for source in model.rows["source"] for uri in list_uris(source)]
    for path, key in images:
        origin = find_origin(path)
        if origin is not None and may_share_data(origin, uris):
            yield (
                f"{key}: {path.name} is a result of this app, perhaps on the data that are tested in it: effects there "
                "are then too large and p too small (circular analysis, Kriegeskorte et al. 2009), unless the "
                "contrasts are independent; choose regions from other data or from an atlas"
            )


def locate_regions(rois: RoiSpec, grid: Grid, folder: Path) -> LocatedRegions:
    """Find the voxels of regions of interest on a grid.

    A voxel is in a region if its centre is: nearest neighbour in atlases and images, at most the radius away from the
    centre of a sphere.

    Parameters
    ----------
    rois : RoiSpec
    grid : Grid
        Of the maps.
    folder : Path
        That images are named relative to.

    Returns
    -------
    LocatedRegions
        Of two regions of one name, or named as an entity is, each has its source before it.

    Raises
    ------
    SpecError
        If a region is not known, or stands there twice.
    MissingInputError, DataError
        If an image cannot be used.
    """
    centres = _list_centres(grid)
    found: list[tuple[str, Region]] = []
    told = []
    for source in rois.sources:
        if isinstance(source, AtlasRegions):
            (regions, facts), name = _locate_in_atlas(source, centres), source.atlas
        elif isinstance(source, ImageRegions):
            (regions, facts), name = _locate_in_image(source, grid, centres, folder), Path(source.file).name
        else:
            (regions, facts), name = _locate_spheres(source, centres), SPHERE
        # A tab or line end would break the tables.
        found += [(source.path, Region(" ".join(own.split()), name, voxels)) for own, voxels in regions]
        told.append(facts)
    return LocatedRegions(_tell_apart(found), tuple(told))


def _tell_apart(found: list[tuple[str, Region]]) -> tuple[Region, ...]:
    counts = Counter(region.name for _, region in found)
    regions: dict[str, Region] = {}
    for path, region in found:
        is_unique = counts[region.name] == 1 and region.name not in MAP_COLUMNS
        name = region.name if is_unique else f"{region.source}: {region.name}"
        if name in regions:
            raise SpecError(path, f"the region {region.name!r} of {region.source} stands in ROIs more than once")
        regions[name] = replace(region, name=name)
    return tuple(regions.values())


def _list_centres(grid: Grid) -> NDArray[np.float64]:
    """Return the centres of all voxels of a grid in mm, in C order."""
    indices = np.indices(grid.shape).reshape(3, -1).T
    centres: NDArray[np.float64] = indices @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return centres


def _locate_in_atlas(source: AtlasRegions, centres: NDArray[np.float64]) -> Found:
    atlas, facts = load_atlas(source.atlas), find_source(source.atlas)
    is_labelled = isinstance(atlas, LabelAtlas)
    if is_labelled and source.threshold is not None:
        raise SpecError(f"{source.path}.Threshold", f"{source.atlas} has no probabilities; leave it out")
    numbers = {name: number for number, name in sorted(atlas.region_names.items()) if number or not is_labelled}
    for i, name in enumerate(source.regions or ()):
        if name not in numbers:
            raise SpecError(
                f"{source.path}.Regions[{i}]", f"{source.atlas} has no region {name!r}; {suggest(name, numbers)}"
            )
    threshold = PROBABILITY_THRESHOLD if source.threshold is None else source.threshold
    regions = find_regions(atlas, find_voxels(atlas.affine, centres), least_probability=threshold)
    described = {
        "Atlas": source.atlas,
        "Title": facts.title,
        "AtlasSpace": facts.space,
        "Resampling": "nearest neighbour, at the centres of the maps' voxels",
        **({} if is_labelled else {"LeastProbabilityPercent": threshold, "Voxels": "their most probable region"}),
        "Licence": facts.licence,
        "Citation": facts.citation,
    }
    return _list_voxels(regions, {numbers[name]: name for name in source.regions or numbers}), described


def _locate_in_image(source: ImageRegions, grid: Grid, centres: NDArray[np.float64], folder: Path) -> Found:
    image = read_label_image(source, folder)
    is_resampled = image.grid.differs_from(grid)
    labels = look_up(image.labels, find_voxels(image.grid.affine, centres)) if is_resampled else image.labels.ravel()
    described = {
        "Image": source.file,
        "Resampling": "nearest neighbour, at the centres of the maps' voxels" if is_resampled else "none",
        "Labels": {str(label): name for label, name in image.names.items()} if source.name is None else "all but 0",
    }
    return _list_voxels(labels, image.names), described


def _list_voxels(labels: NDArray[np.integer], names: Mapping[int, str]) -> list[tuple[str, NDArray[np.intp]]]:
    """Return the voxels of each label, in the order of the names."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    edges = {label: np.searchsorted(ordered, (label, label + 1)) for label in names}
    return [(name, order[slice(*edges[label])]) for label, name in names.items()]


def _locate_spheres(source: SphereRegions, centres: NDArray[np.float64]) -> Found:
    reach = source.radius * (1 + RADIUS_TOLERANCE)
    regions = [
        (one.name, np.flatnonzero(np.linalg.norm(centres - one.center, axis=1) <= reach)) for one in source.spheres
    ]
    described = {
        "Spheres": {one.name: list(one.center) for one in source.spheres},
        "RadiusMm": source.radius,
        "Voxels": "whose centre is no further away than the radius",
    }
    return regions, described
