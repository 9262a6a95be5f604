"""Everything that can be known before a map is read: the spec, the maps, the designs, the grids, the masks."""

import logging
from dataclasses import dataclass
from pathlib import Path

from bids_group.errors import DataError, MissingInputError, SpecError
from bids_group.inputs.datasets import Dataset, find_datasets
from bids_group.inputs.filters import Selection, read_bids_filter
from bids_group.inputs.images import check_grids, read_mask
from bids_group.inputs.nifti import Grid
from bids_group.inputs.plan import ModelPlan, NodePlan, plan_node
from bids_group.inputs.query import find_maps, find_mask_files
from bids_group.inputs.settings import Settings
from bids_group.inputs.spec import ModelSpec, read_spec
from bids_group.inputs.variables import read_participants

logger = logging.getLogger("bids_group")


@dataclass(frozen=True)
class InputOptions:
    """What the command line says of the inputs.

    Attributes
    ----------
    bids_dir, model : Path
    derivatives : tuple of str
        ``PATH`` or ``NAME=PATH``.
    participants : tuple of str
        Labels without ``sub-``; empty for all.
    bids_filter_file, database_dir, mask : Path or None
    validate : bool
        Whether inputs must have a sound dataset_description.json.
    """

    bids_dir: Path
    model: Path
    derivatives: tuple[str, ...] = ()
    participants: tuple[str, ...] = ()
    bids_filter_file: Path | None = None
    database_dir: Path | None = None
    mask: Path | None = None
    validate: bool = True


@dataclass(frozen=True)
class NodeStudy:
    """A planned node with what its maps' headers say.

    Attributes
    ----------
    plan : NodePlan
    grids : tuple of Grid
        Of each model.
    masks : tuple of Path
        The given masks; empty where the maps alone define the mask.
    """

    plan: NodePlan
    grids: tuple[Grid, ...]
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class Study:
    """A study that is ready to be computed.

    Attributes
    ----------
    spec : ModelSpec
    datasets : tuple of Dataset
    nodes : tuple of NodeStudy
    warnings : tuple of str
    """

    spec: ModelSpec
    datasets: tuple[Dataset, ...]
    nodes: tuple[NodeStudy, ...]
    warnings: tuple[str, ...]


def list_map_paths(model: ModelPlan) -> list[Path]:
    """Return the files of a model in the order of its rows."""
    return [Path(path) for path in model.rows["path"]]


def prepare_study(options: InputOptions, output_dir: Path) -> Study:
    """Read the spec, find the maps, build and judge the designs, compare the grids.

    Raises
    ------
    BidsGroupError
        One of its kinds, for everything that is wrong with the inputs.
    """
    spec = read_spec(options.model)
    search = find_datasets(options.bids_dir, options.derivatives, output_dir, validate=options.validate)
    bids_filter = read_bids_filter(options.bids_filter_file) if options.bids_filter_file else {}
    selection = Selection(spec.selection, options.participants, bids_filter)
    inputs = find_maps(search.datasets, selection, database_dir=options.database_dir)
    logger.info("found %d maps of %d subjects", len(inputs.rows), inputs.rows["subject"].nunique())
    participants = read_participants([options.bids_dir, *(dataset.path for dataset in search.datasets)])
    nodes = tuple(_study_node(plan_node(node, inputs, participants), options, search.datasets) for node in spec.nodes)
    return Study(spec, search.datasets, nodes, search.warnings)


def _study_node(plan: NodePlan, options: InputOptions, datasets: tuple[Dataset, ...]) -> NodeStudy:
    grids = tuple(check_grids(list_map_paths(model)) for model in plan.models)
    subjects = {subject for model in plan.models for subject in model.rows["subject"]}
    masks = _find_masks(plan.node.settings, options, datasets, subjects)
    for model, grid in zip(plan.models, grids, strict=True):
        if masks:
            read_mask(masks, grid, list_map_paths(model)[0])  # only to refuse a mask that does not fit
    return NodeStudy(plan, grids, masks)


def _find_masks(
    settings: Settings, options: InputOptions, datasets: tuple[Dataset, ...], subjects: set[str]
) -> tuple[Path, ...]:
    if options.mask is not None:
        return (_check_file(options.mask, "--mask"),)
    if settings.mask is None:
        return ()
    if isinstance(settings.mask, str):
        return (_check_file(options.model.parent / settings.mask, f"{settings.path}.Mask"),)
    try:
        return tuple(find_mask_files(datasets, settings.mask, subjects=subjects, database_dir=options.database_dir))
    except DataError as error:
        raise SpecError(f"{settings.path}.Mask", str(error)) from error


def _check_file(path: Path, source: str) -> Path:
    if not path.is_file():
        raise MissingInputError(f"{source}: {path}: there is no such file")
    return path
