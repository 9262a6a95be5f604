"""Everything that can be known before a map is read: the spec, the maps, the designs, the grids, the masks."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bids_group.errors import DataError, MissingInputError, SpecError
from bids_group.inputs.auto_model import make_auto_spec, make_templates
from bids_group.inputs.datasets import Dataset, find_datasets, name_source
from bids_group.inputs.filters import Selection, read_bids_filter
from bids_group.inputs.images import check_grids, read_mask
from bids_group.inputs.inference_spec import InferenceSpec
from bids_group.inputs.input_files import InputFile, Stamp, stamp_files
from bids_group.inputs.label_images import list_label_files
from bids_group.inputs.map_sources import list_paths, list_uris
from bids_group.inputs.nifti import Grid
from bids_group.inputs.plan import ModelPlan, NodePlan, plan_node
from bids_group.inputs.query import find_maps, find_mask_files
from bids_group.inputs.settings import Settings
from bids_group.inputs.spec import ModelSpec, NodeSpec, read_spec
from bids_group.inputs.subject_maps import SubjectMaps, find_subject_maps
from bids_group.inputs.subject_nodes import Variables, pass_along
from bids_group.inputs.variable_tables import list_tables, read_further_tables, read_participants

# The messages about maps and designs point to Input.
_AUTO_REMEDY = "(--model auto has no Input: where maps must be chosen, choose them with --bids-filter-file)"

logger = logging.getLogger("bids_group")


@dataclass(frozen=True)
class InputOptions:
    """What the command line says of the inputs.

    Attributes
    ----------
    bids_dir : Path
    model : Path or None
        The spec; None to make one (``--model auto``).
    derivatives : tuple of str
        ``PATH`` or ``NAME=PATH``.
    participants : tuple of str
        Labels without ``sub-``; empty for all.
    bids_filter_file, database_dir, mask : Path or None
    n_permutations, seed : int or None
        Instead of what the spec says.
    validate : bool
        Whether inputs must have a sound dataset_description.json.
    """

    bids_dir: Path
    model: Path | None
    derivatives: tuple[str, ...] = ()
    participants: tuple[str, ...] = ()
    bids_filter_file: Path | None = None
    database_dir: Path | None = None
    mask: Path | None = None
    n_permutations: int | None = None
    seed: int | None = None
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
    subject_maps : SubjectMaps
        Maps of its subjects that are shown and not analysed.
    """

    plan: NodePlan
    grids: tuple[Grid, ...]
    masks: tuple[Path, ...]
    subject_maps: SubjectMaps = field(default_factory=SubjectMaps)


@dataclass(frozen=True)
class Study:
    """A study that is ready to be computed.

    Attributes
    ----------
    spec : ModelSpec
    datasets : tuple of Dataset
    nodes : tuple of NodeStudy
    warnings : tuple of str
    templates : Mapping of str to dict
        Specs of other models that fit the data, by their kind; only where the spec was made here.
    files : tuple of InputFile
        Every file that the results depend on.
    stamps : Mapping of Path to Stamp
        What the file system said of them before they were read.
    """

    spec: ModelSpec
    datasets: tuple[Dataset, ...]
    nodes: tuple[NodeStudy, ...]
    warnings: tuple[str, ...]
    templates: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    files: tuple[InputFile, ...] = ()
    stamps: Mapping[Path, Stamp] = field(default_factory=dict)


def list_map_paths(model: ModelPlan) -> list[Path]:
    """Return the files that a model is computed from, in the order of its rows."""
    return [path for source in model.rows["source"] for path in list_paths(source)]


def list_region_files(node: NodeStudy, folder: Path) -> list[Path]:
    """Return the files that a node's regions of interest are read from, named relative to a folder."""
    rois = node.plan.node.settings.rois
    return [] if rois is None else list_label_files(rois, folder)


def prepare_study(options: InputOptions, output_dir: Path) -> Study:
    """Read or make the spec, find the maps, build and judge the designs, compare the grids.

    Raises
    ------
    BidsGroupError
        One of its kinds, for everything that is wrong with the inputs.
    """
    given = [path for path in (options.model, options.bids_filter_file) if path is not None]
    stamps = stamp_files(given)  # each kind before it is read, so that no change goes unnoticed
    spec = override_permutations(read_model(options.model), options)
    search = find_datasets(options.bids_dir, options.derivatives, output_dir, validate=options.validate)
    bids_filter = read_bids_filter(options.bids_filter_file) if options.bids_filter_file else {}
    selection = Selection(spec.selection, options.participants, bids_filter)
    inputs = find_maps(
        search.datasets,
        selection,
        database_dir=options.database_dir,
        with_variances=any(node.model_type == "meta" for node in spec.nodes),
    )
    logger.info("found %d maps of %d subjects", len(inputs.rows), inputs.rows["subject"].nunique())
    folders = [options.bids_dir, *(dataset.path for dataset in search.datasets)]
    stamps |= stamp_files([*list_tables(folders), *(path for row in inputs.rows["source"] for path in list_paths(row))])
    participants, tables = read_participants(folders), read_further_tables(folders)
    try:
        taken = pass_along(spec, inputs, Variables(participants, tables))
        plans = [plan_node(node, taken[node.name], participants, tables) for node in list_tests(spec)]
        nodes = tuple(_study_node(plan, spec.path.parent, options, search.datasets) for plan in plans)
    except DataError as error:
        if options.model is not None:
            raise
        raise DataError(f"{error}\n{_AUTO_REMEDY}") from error
    odd = [grid.odd_file for node in nodes for grid in node.grids if grid.odd_file]
    forms = [f"{odd[0]}: its sform and its qform put the map in different places; the sform is used"] if odd else []
    templates = make_templates(inputs, participants, tables) if options.model is None else {}
    faults = [f"no variable can come from {table.name}: {table.fault}" for table in tables if table.fault]
    files = _list_files(options, nodes, search.datasets, list_tables(folders), spec.path.parent)
    stamps |= stamp_files(file.path for file in files if file.kind in ("mask", "regions", "shown"))
    return Study(spec, search.datasets, nodes, (*search.warnings, *faults, *forms), templates, files, stamps)


def read_model(path: Path | None) -> ModelSpec:
    """Read the spec, or make that of ``--model auto``.

    Raises
    ------
    SpecError, DataError, MissingInputError, ReadWriteError
        If it cannot be read.
    """
    return make_auto_spec() if path is None else read_spec(path)


def _list_files(
    options: InputOptions,
    nodes: Sequence[NodeStudy],
    datasets: tuple[Dataset, ...],
    tables: Iterable[Path],
    spec_folder: Path,
) -> tuple[InputFile, ...]:
    """List every file that the results depend on, each once, sorted by kind and name."""
    models = [model for node in nodes for model in node.plan.models]
    maps = {
        InputFile(path, uri, "map")
        for source in (source for model in models for source in model.rows["source"])
        for path, uri in zip(list_paths(source), list_uris(source), strict=True)
    }
    documents = {"spec": options.model, "filter": options.bids_filter_file}
    others = [
        *((path, kind) for kind, path in documents.items() if path is not None),
        *((path, "table") for path in tables),
        *((path, "mask") for node in nodes for path in node.masks),
        *((path, "regions") for node in nodes for path in list_region_files(node, spec_folder)),
    ]
    named = {InputFile(path, name_source(path, datasets), kind) for path, kind in others}
    read = {file.path for file in maps}
    shown = {file for node in nodes for file in node.subject_maps.found if file.path not in read}
    return tuple(sorted(maps | named | shown, key=lambda file: (file.kind, file.uri)))


def override_permutations(spec: ModelSpec, options: InputOptions) -> ModelSpec:
    """Return the spec with the number and the seed of rearrangements of the command line, where it has them."""

    def change(entry: InferenceSpec) -> InferenceSpec:
        asked = entry.permutation
        if asked is None:
            return entry
        n = asked.n if options.n_permutations is None else options.n_permutations
        seed = asked.seed if options.seed is None else options.seed
        return replace(entry, permutation=replace(asked, n=n, seed=seed))

    nodes = []
    for node in spec.nodes:
        settings = replace(node.settings, inference=tuple(change(entry) for entry in node.settings.inference))
        if settings.rois is not None:
            settings = replace(settings, rois=replace(settings.rois, test=change(settings.rois.test)))
        nodes.append(replace(node, settings=settings))
    return replace(spec, nodes=tuple(nodes))


def list_tests(spec: ModelSpec) -> list[NodeSpec]:
    """Return the nodes that test something, those of the Dataset level."""
    return [node for node in spec.nodes if node.level == "Dataset"]


def _study_node(plan: NodePlan, spec_folder: Path, options: InputOptions, datasets: tuple[Dataset, ...]) -> NodeStudy:
    grids = tuple(check_grids(list_map_paths(model)) for model in plan.models)
    subjects = {subject for model in plan.models for subject in model.rows["subject"]}
    masks = _find_masks(plan.node.settings, spec_folder, options, datasets, subjects)
    for model, grid in zip(plan.models, grids, strict=True):
        if masks:
            read_mask(masks, grid, list_map_paths(model)[0])  # only to refuse a mask that does not fit
    shown = find_subject_maps(plan.node.settings, plan.models, datasets)
    first, *others = plan.models
    told = replace(first, warnings=(*first.warnings, *shown.warnings))
    return NodeStudy(replace(plan, models=(told, *others)), grids, masks, shown)


def _find_masks(
    settings: Settings, spec_folder: Path, options: InputOptions, datasets: tuple[Dataset, ...], subjects: set[str]
) -> tuple[Path, ...]:
    if options.mask is not None:
        return (_check_file(options.mask, "--mask"),)
    if settings.mask is None:
        return ()
    if isinstance(settings.mask, str):
        return (_check_file(spec_folder / settings.mask, f"{settings.path}.Mask"),)
    try:
        return tuple(find_mask_files(datasets, settings.mask, subjects=subjects, database_dir=options.database_dir))
    except DataError as error:
        raise SpecError(f"{settings.path}.Mask", str(error)) from error


def _check_file(path: Path, source: str) -> Path:
    if not path.is_file():
        raise MissingInputError(f"{source}: {path}: there is no such file")
    return path
