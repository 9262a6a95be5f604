"""The walk: spec, maps, design, fit, statistic, inference, files, report."""

import json
import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from bids_group.analysis.permuting import Resources
from bids_group.analysis.rearranging import check_study, describe_schemes
from bids_group.analysis.regions import check_regions
from bids_group.checkpoints import Checkpoints, Shard
from bids_group.engines.choice import check_engine, open_engine
from bids_group.engines.options import EngineOptions
from bids_group.errors import DataError
from bids_group.inputs.input_files import InputWatch, watch_inputs
from bids_group.inputs.storage import open_storage
from bids_group.inputs.study import InputOptions, Study, prepare_study
from bids_group.outputs.dataset import template_name, write_dataset_files
from bids_group.outputs.drawing import open_painters
from bids_group.outputs.naming import provenance_name, report_name, spec_name
from bids_group.outputs.ownership import check_output_dir, list_stale_folders
from bids_group.outputs.preview import format_plan
from bids_group.outputs.provenance import LogLines, identify_run
from bids_group.outputs.staging import STAGING_FOLDER, open_staging, restore_after_killed_run
from bids_group.outputs.verification import find_difference
from bids_group.progress import StageClock, show_progress
from bids_group.stages import Session, analyse_node, compare_nodes, infer_model, write_run_files
from bids_group.work_folder import open_work_folder

WORK_FOLDER = ".work"
JOB_LOGS = "job-logs"
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
    engine : EngineOptions
        Where the batches of permutation tests are computed.
    shard : Shard or None
        The share of them that this run computes and keeps in the work directory; None for a whole run.
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
    engine: EngineOptions = field(default_factory=EngineOptions)
    shard: Shard | None = None
    command: tuple[str, ...] = ()


def run(options: Options, log: LogLines) -> Path | None:
    """Analyse a group.

    Returns
    -------
    Path or None
        The report; None after a dry run, or of a shard.

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
    check_engine(options.engine)
    n_threads = _count_threads(options)
    report_path = options.output_dir / report_name(study.spec.name)
    with clock.stage("hash inputs"):
        watch = watch_inputs(study.files, study.stamps, n_threads=n_threads)
        identity = identify_run(study, options.inputs, watch.checksums)
    if not options.force and _is_done(options.output_dir, identity, n_threads):
        _clear_leftovers(options.output_dir)
        return report_path
    if options.shard is not None:
        _compute_shard(study, watch, options, clock)
        return None
    with open_staging(options.output_dir) as staging, _open_resources(options) as resources:
        session = Session(study, watch, resources, clock)
        with open_painters(n_threads) as painters:
            tables = [analyse_node(node, session, staging, painters) for node in study.nodes]
            compare_nodes(session, tables, staging, painters)
        write_dataset_files(staging, study, options.inputs.bids_dir)
        write_run_files(session, tables, staging, identity, options.command, log)
        staging.publish(stale=list_stale_folders(options.output_dir, study.spec))
        resources.checkpoints.discard_used()
    return report_path


def _count_threads(options: Options) -> int:
    return options.n_threads or len(os.sched_getaffinity(0))


@contextmanager
def _open_resources(options: Options) -> Iterator[Resources]:
    """Offer memory, threads and a work directory, and where permutations run."""
    folder = options.work_dir or options.output_dir / WORK_FOLDER
    checkpoints = Checkpoints(folder, shard=options.shard)
    # One thread for the linear algebra: the rounding of its sums must not depend on how many there are.
    with (
        open_work_folder(folder, is_shared=options.work_dir is not None) as run_folder,
        open_storage(run_folder, options.memory_gb) as allocate,
        threadpool_limits(1),
        open_engine(options.engine, run_folder, folder / JOB_LOGS / run_folder.name) as compute_batches,
    ):
        resources = Resources(
            n_threads=_count_threads(options),
            allocate=allocate,
            checkpoints=checkpoints,
            show_progress=show_progress,
            compute_batches=compute_batches,
            shard=options.shard,
            memory_bytes=math.inf if options.memory_gb is None else options.memory_gb * 1e9,
        )
        try:
            yield resources
        except DataError:  # of the same data nothing will come the next time
            checkpoints.discard_used()
            raise


def _compute_shard(study: Study, watch: InputWatch, options: Options, clock: StageClock) -> None:
    """Compute a share of the batches of every permutation test, and write nothing but them."""
    with _open_resources(options) as resources:
        session = Session(study, watch, resources, clock)
        for node in study.nodes:
            for model, grid in zip(node.plan.models, node.grids, strict=True):
                infer_model(node, model, grid, session)
    logger.info("%s is done; after the last one run the same command without --shard", options.shard)


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
