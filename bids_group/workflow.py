"""The walk: spec, maps, design, fit, statistic, inference, files, report."""

import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from bids_group.analysis.fitting import fit_model
from bids_group.analysis.model import assemble_result, infer_contrasts, load_maps
from bids_group.analysis.permuting import Resources
from bids_group.analysis.rearranging import check_study, describe_schemes
from bids_group.analysis.region_tests import fit_regions
from bids_group.analysis.regions import check_regions, locate_regions
from bids_group.checkpoints import Checkpoints
from bids_group.inputs.input_files import InputWatch, watch_inputs
from bids_group.inputs.nifti import Grid
from bids_group.inputs.plan import ModelPlan
from bids_group.inputs.storage import open_storage
from bids_group.inputs.study import InputOptions, NodeStudy, Study, list_map_paths, list_region_files, prepare_study
from bids_group.outputs.comparisons import find_shared_labels, list_pairs
from bids_group.outputs.dataset import (
    ModelTables,
    tabulate_model,
    template_name,
    write_comparisons,
    write_dataset_files,
    write_node_tables,
)
from bids_group.outputs.derivatives import write_model
from bids_group.outputs.drawing import Painters, count_figures, draw_model, draw_pairs, open_painters
from bids_group.outputs.naming import provenance_name, report_name, spec_name
from bids_group.outputs.ownership import check_output_dir, list_stale_folders
from bids_group.outputs.preview import format_plan
from bids_group.outputs.provenance import LogLines, identify_run, record_run, write_record
from bids_group.outputs.results import ModelResult
from bids_group.outputs.staging import STAGING_FOLDER, Staging, open_staging, restore_after_killed_run
from bids_group.outputs.verification import find_difference
from bids_group.progress import StageClock, show_progress
from bids_group.rerun import write_report
from bids_group.work_folder import open_work_folder

WORK_FOLDER = ".work"
logger = logging.getLogger("bids_group")


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes
    ----------
    inputs : InputOptions
    output_dir : Path
    work_dir : Path or None
        None for a hidden folder in the output, gone afterwards.
    n_threads : int or None
        None for one per processor.
    memory_gb : float or None
        Bound of memory; maps that do not fit are kept in a file in the work directory.
    force : bool
        Compute even if the same results stand there already.
    dry_run : bool
        Print what would be done, and do nothing.
    command : tuple of str
        The command line itself, for the record.
    """

    inputs: InputOptions
    output_dir: Path
    work_dir: Path | None = None
    n_threads: int | None = None
    memory_gb: float | None = None
    force: bool = False
    dry_run: bool = False
    command: tuple[str, ...] = ()


def run(options: Options, log: LogLines) -> Path | None:
    """Analyse a group.

    Returns
    -------
    Path or None
        The report; None after a dry run.

    Raises
    ------
    BidsGroupError
        One of its kinds, for everything that a user can cause.
    """
    clock = StageClock()
    if not options.dry_run:
        restore_after_killed_run(options.output_dir)
    with clock.stage("find and plan"):
        study = check_regions(check_study(prepare_study(options.inputs, options.output_dir)))
        check_output_dir(options.output_dir, options.inputs.bids_dir, study.spec, study.datasets)
    _log_warnings(study)
    if options.dry_run:
        made = _format_made_specs(study) if options.inputs.model is None else ""
        sys.stdout.write(format_plan(study.nodes, describe_schemes) + made)
        return None
    n_threads = options.n_threads or len(os.sched_getaffinity(0))
    report_path = options.output_dir / report_name(study.spec.name)
    with clock.stage("hash inputs"):
        watch = watch_inputs(study.files, study.stamps, n_threads=n_threads)
        identity = identify_run(study, options.inputs, watch.checksums)
    folder = options.work_dir or options.output_dir / WORK_FOLDER
    if not options.force and _is_done(options.output_dir, identity, n_threads):
        _clear_leftovers(options.output_dir)
        return report_path
    # One thread for the linear algebra: the rounding of its sums must not depend on how many there are.
    with (
        open_staging(options.output_dir) as staging,
        open_work_folder(folder, is_shared=options.work_dir is not None) as work_folder,
        open_storage(work_folder, options.memory_gb) as allocate,
        open_painters(n_threads) as painters,
        threadpool_limits(1),
    ):
        resources = Resources(n_threads, allocate, Checkpoints(folder), show_progress)
        tables = [_analyse_node(node, study, watch, staging, resources, painters, clock) for node in study.nodes]
        _compare_nodes(study, tables, staging, painters, clock)
        _write_rest(staging, study, identity, tables, options, clock, log)
        staging.publish(stale=list_stale_folders(options.output_dir, study.spec))
    return report_path


def _is_done(output_dir: Path, identity: dict[str, Any], n_threads: int) -> bool:
    """Return whether the run's results stand there, and say so, or why they are computed again."""
    if not (output_dir / provenance_name(identity["Model"])).is_file():
        return False
    difference = find_difference(output_dir, identity, n_threads=n_threads)
    if difference is None:
        logger.info("already done and unchanged: %s; --force computes it again", identity["Model"])
    else:
        logger.info("computing %s again: %s", identity["Model"], difference)
    return difference is None


def _clear_leftovers(output_dir: Path) -> None:
    """Take away what a run left that was killed after its results stood in place."""
    if (output_dir / STAGING_FOLDER).exists() or (output_dir / WORK_FOLDER).exists():
        with open_staging(output_dir), open_work_folder(output_dir / WORK_FOLDER, is_shared=False):
            pass


def _log_warnings(study: Study) -> None:
    for warning in study.warnings:
        logger.warning("%s", warning)
    for node in study.nodes:
        for warning in dict.fromkeys(warning for model in node.plan.models for warning in model.warnings):
            logger.warning("%s: %s", node.plan.node.name, warning)


def _format_made_specs(study: Study) -> str:
    """Show the spec that a run would write, and name the templates beside it."""
    spec = json.dumps(study.spec.document, indent=2, ensure_ascii=False)
    templates = "\n".join(f"  {template_name(kind)}" for kind in study.templates) or "  none"
    return f"\nSpec ({spec_name(study.spec.name)}):\n{spec}\n\nTemplates of models that fit these data:\n{templates}\n"


def _analyse_node(
    node: NodeStudy,
    study: Study,
    watch: InputWatch,
    staging: Staging,
    resources: Resources,
    painters: Painters,
    clock: StageClock,
) -> list[ModelTables]:
    tables = []
    shared = find_shared_labels([label for model in one.plan.models for label in model.labels] for one in study.nodes)
    for model, grid in zip(node.plan.models, node.grids, strict=True):
        result = _analyse_model(node, model, grid, study, watch, resources, clock)
        with clock.stage("write maps and tables"):
            write_model(staging, result)
        with clock.stage("draw figures"), show_progress("drawing figures", count_figures(result)) as advance:
            draw_model(staging, result, painters, report_progress=advance)
        tables.append(tabulate_model(result, shared))
    write_node_tables(staging, node.plan, tables)
    return tables


def _analyse_model(
    node: NodeStudy,
    model: ModelPlan,
    grid: Grid,
    study: Study,
    watch: InputWatch,
    resources: Resources,
    clock: StageClock,
) -> ModelResult:
    title = f"{node.plan.node.name}{f', {model.input_contrast}' if model.input_contrast else ''}"
    with clock.stage("read maps"), show_progress(f"{title}: reading maps", len(model.rows)) as advance:
        data = load_maps(
            node.plan,
            model,
            grid,
            node.masks,
            allocate=resources.allocate,
            n_threads=resources.n_threads,
            report_progress=advance,
        )
        watch.check([*list_map_paths(model), *node.masks])
    with clock.stage("fit"):
        fitted = fit_model(node.plan, model, data)
    logger.info("%s: %d voxels, %d residual degrees of freedom", title, fitted.voxels.mask.sum(), model.dof)
    with clock.stage("inference"):
        contrasts = infer_contrasts(node.plan, model, fitted, data, resources)
        regions = None
        if (rois := node.plan.node.settings.rois) is not None:
            located = locate_regions(rois, grid, study.spec.path.parent)
            watch.check(list_region_files(node, study.spec.path.parent))
            regions = fit_regions(node.plan, model, data, fitted.voxels, located, resources)
    result = assemble_result(
        node.plan, model, fitted, data, contrasts, masks=node.masks, datasets=study.datasets, regions=regions
    )
    for warning in result.warnings[len(model.warnings) :]:
        logger.warning("%s: %s", title, warning)
    return result


def _compare_nodes(
    study: Study, tables: list[list[ModelTables]], staging: Staging, painters: Painters, clock: StageClock
) -> None:
    """Write how the results of all nodes overlap."""
    kept = [[model.kept for model in node] for node in tables]
    pairs = list_pairs(kept)
    with clock.stage("compare results"):
        for node, models in zip(study.nodes, kept, strict=True):
            write_comparisons(staging, node.plan.node.name, models, pairs)
        draw_pairs(staging, pairs, painters)


def _write_rest(
    staging: Staging,
    study: Study,
    identity: dict[str, Any],
    tables: list[list[ModelTables]],
    options: Options,
    clock: StageClock,
    log: LogLines,
) -> None:
    """Write what belongs to no single model; the report is made from all the rest, and the times are complete last."""
    write_dataset_files(staging, study, options.inputs.bids_dir)
    summaries = [[model.summary for model in node] for node in tables]
    write_record(staging, study.spec.name, record_run(study, identity, summaries, options.command, clock.seconds), log)
    with clock.stage("report"):
        write_report(staging, staging.root, study.spec.name)
    write_record(staging, study.spec.name, record_run(study, identity, summaries, options.command, clock.seconds), log)
