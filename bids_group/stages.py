"""The stages of a run, timed: what is done of each node and each model, and of all of them together."""

import logging
from dataclasses import dataclass
from typing import Any

from bids_group.analysis.fitting import FittedModel, fit_model
from bids_group.analysis.model import assemble_result, infer_contrasts, load_maps
from bids_group.analysis.permuting import Resources
from bids_group.analysis.picturing import view_subject_maps
from bids_group.analysis.region_tests import fit_regions
from bids_group.analysis.regions import locate_regions
from bids_group.inputs.input_files import InputWatch
from bids_group.inputs.loading import GroupData
from bids_group.inputs.nifti import Grid
from bids_group.inputs.plan import ModelPlan
from bids_group.inputs.study import NodeStudy, Study, list_map_paths, list_region_files
from bids_group.outputs.comparisons import find_shared_labels, list_pairs
from bids_group.outputs.dataset import ModelTables, tabulate_model, write_comparisons, write_node_tables
from bids_group.outputs.derivatives import write_model
from bids_group.outputs.drawing import Painters, count_figures, draw_model, draw_pairs
from bids_group.outputs.provenance import LogLines, record_run, write_record
from bids_group.outputs.results import ContrastResult, ModelResult, RegionResult, SubjectViews
from bids_group.outputs.staging import Staging
from bids_group.progress import StageClock, show_progress
from bids_group.rerun import write_report

logger = logging.getLogger("bids_group")


@dataclass(frozen=True)
class Session:
    """What every stage of a run needs.

    Attributes
    ----------
    study : Study
    watch : InputWatch
        The inputs as they were when the run began.
    resources : Resources
    clock : StageClock
    """

    study: Study
    watch: InputWatch
    resources: Resources
    clock: StageClock


@dataclass(frozen=True)
class Findings:
    """What was found of a model, before anything of it is put together for writing."""

    data: GroupData
    fitted: FittedModel
    contrasts: tuple[ContrastResult, ...]
    regions: RegionResult | None


def analyse_node(node: NodeStudy, session: Session, staging: Staging, painters: Painters) -> list[ModelTables]:
    """Analyse, write and draw every model of a node, and return what the node's and the run's tables need of them."""
    tables = []
    plans = [one.plan.models for one in session.study.nodes]
    shared = find_shared_labels([label for model in models for label in model.labels] for models in plans)
    for model, grid in zip(node.plan.models, node.grids, strict=True):
        result = _analyse_model(node, model, grid, session)
        with session.clock.stage("write maps and tables"):
            write_model(staging, result)
        with session.clock.stage("draw figures"), show_progress("drawing figures", count_figures(result)) as advance:
            draw_model(staging, result, painters, report_progress=advance)
        tables.append(tabulate_model(result, shared))
    write_node_tables(staging, node.plan, tables)
    return tables


def _analyse_model(node: NodeStudy, model: ModelPlan, grid: Grid, session: Session) -> ModelResult:
    subject_maps = _view_subject_maps(node, session) if model is node.plan.models[0] else None
    found = infer_model(node, model, grid, session)
    result = assemble_result(
        *(node.plan, model, found.fitted, found.data, found.contrasts),
        masks=node.masks,
        datasets=session.study.datasets,
        regions=found.regions,
        subject_maps=subject_maps,
    )
    for warning in result.warnings[len(model.warnings) :]:
        logger.warning("%s: %s", _name_model(node, model), warning)
    return result


def _view_subject_maps(node: NodeStudy, session: Session) -> SubjectViews | None:
    with session.clock.stage("read maps"):
        views = view_subject_maps(node.subject_maps)
        session.watch.check(file.path for file in node.subject_maps.found)
    return views


def _name_model(node: NodeStudy, model: ModelPlan) -> str:
    return f"{node.plan.node.name}{f', {model.input_contrast}' if model.input_contrast else ''}"


def infer_model(node: NodeStudy, model: ModelPlan, grid: Grid, session: Session) -> Findings:
    """Read, fit and test a model, as far as it depends on nothing that is written."""
    data = _read_maps(node, model, grid, session)
    with session.clock.stage("fit"):
        fitted = fit_model(node.plan, model, data)
    n_voxels = fitted.voxels.mask.sum()
    logger.info("%s: %d voxels, %d residual degrees of freedom", _name_model(node, model), n_voxels, model.dof)
    with session.clock.stage("inference"):
        contrasts = infer_contrasts(node.plan, model, fitted, data, session.resources)
        return Findings(data, fitted, contrasts, _test_regions(node, model, grid, data, fitted, session))


def _read_maps(node: NodeStudy, model: ModelPlan, grid: Grid, session: Session) -> GroupData:
    title = f"{_name_model(node, model)}: reading maps"
    with session.clock.stage("read maps"), show_progress(title, len(model.rows)) as advance:
        data = load_maps(
            node.plan,
            model,
            grid,
            node.masks,
            allocate=session.resources.allocate,
            n_threads=session.resources.n_threads,
            report_progress=advance,
        )
        session.watch.check([*list_map_paths(model), *node.masks])
    return data


def _test_regions(
    node: NodeStudy, model: ModelPlan, grid: Grid, data: GroupData, fitted: FittedModel, session: Session
) -> RegionResult | None:
    rois, folder = node.plan.node.settings.rois, session.study.spec.path.parent
    if rois is None:
        return None
    located = locate_regions(rois, grid, folder)
    session.watch.check(list_region_files(node, folder))
    return fit_regions(node.plan, model, data, fitted.voxels, located, session.resources)


def compare_nodes(session: Session, tables: list[list[ModelTables]], staging: Staging, painters: Painters) -> None:
    """Write and draw how the results of all nodes overlap."""
    kept = [[model.kept for model in node] for node in tables]
    pairs = list_pairs(kept)
    with session.clock.stage("compare results"):
        for node, models in zip(session.study.nodes, kept, strict=True):
            write_comparisons(staging, node.plan.node.name, models, pairs)
        draw_pairs(staging, pairs, painters)


def write_run_files(
    session: Session,
    tables: list[list[ModelTables]],
    staging: Staging,
    identity: dict[str, Any],
    command: tuple[str, ...],
    log: LogLines,
) -> None:
    """Write the record of the run and the report, which is made from the record; its times are complete last."""
    study, clock = session.study, session.clock
    summaries = [[model.summary for model in node] for node in tables]
    write_record(staging, study.spec.name, record_run(study, identity, summaries, command, clock.seconds), log)
    with clock.stage("report"):
        write_report(staging, staging.root, study.spec.name)
    write_record(staging, study.spec.name, record_run(study, identity, summaries, command, clock.seconds), log)
