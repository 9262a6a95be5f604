"""Maps, tables and their sidecars: the only writer of a model's files."""

import gzip
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from bids_group.errors import DataError
from bids_group.inputs.images import to_volume
from bids_group.outputs.naming import node_folder, sidecar_name
from bids_group.outputs.permutation_sidecars import describe_null_columns
from bids_group.outputs.quality import describe_quality
from bids_group.outputs.region_results import RegionResult
from bids_group.outputs.region_tables import (
    describe_region_means,
    describe_region_tests,
    list_region_means,
    list_region_tests,
)
from bids_group.outputs.results import (
    EFFECT_SIZE_MAPS,
    ContrastResult,
    InferenceResult,
    ModelResult,
    list_statmaps,
    name_inference_files,
)
from bids_group.outputs.sidecars import (
    SMALLEST_P,
    describe_columns,
    describe_inference,
    describe_mask,
    describe_statmap,
)
from bids_group.outputs.staging import Staging
from bids_group.outputs.summary import summarise_model
from bids_group.outputs.tables import list_clusters, list_contrast_weights, list_null, list_peaks, write_tsv
from bids_group.stats.glm import compute_p, compute_z

COMPRESSION_LEVEL = 6
# NIfTI's own codes of what a map holds; viewers read them.
_INTENTS = {"t": "t test", "F": "f test", "z": "z score", "p": "p value", "logp": "log10 p value"}


def write_model(staging: Staging, model: ModelResult) -> None:
    """Write everything of a model but its figures.

    Parameters
    ----------
    staging : Staging
    model : ModelResult

    Raises
    ------
    ReadWriteError
        If a file cannot be written.
    """
    writer = ModelWriter(staging, model)
    writer.write_table(model.names.design, write_tsv(model.design.matrix))
    contrasts = list_contrast_weights([result.contrast for result in model.contrasts], model.design.columns)
    writer.write_table(model.names.contrasts, write_tsv(contrasts))
    described = describe_quality(model.quality, n_voxels_partly=model.voxels.n_voxels_partly)
    writer.write_table(model.names.quality, write_tsv(model.quality), described)
    writer.write_mask()
    writer.write_json(model.names.summary, summarise_model(model))
    if model.regions is not None:
        _write_regions(writer, model.regions)
    for result in model.results:
        _write_statmaps(writer, result)
        for entry in result.inferences:
            _write_inference(writer, result, entry)


def _write_regions(writer: "ModelWriter", found: RegionResult) -> None:
    model = writer.model
    tests, means = list_region_tests(found), list_region_means(model, found)
    writer.write_table(model.names.regions, write_tsv(tests), describe_region_tests(model, found))
    writer.write_table(model.names.region_means, write_tsv(means), describe_region_means(model, found))


def _write_statmaps(writer: "ModelWriter", result: ContrastResult) -> None:
    statistic = result.statistic
    values = {
        "effect": statistic.effect,
        "variance": statistic.variance,
        statistic.test: statistic.value,
        "z": compute_z(statistic),
        "p": np.maximum(compute_p(statistic) if result.test.p is None else result.test.p, SMALLEST_P),
        "epsilon": result.test.epsilon,
        "dof": result.test.own_dof,
        "n": result.test.n_subjects,
    }
    if (size := result.test.effect_size) is not None:
        values |= dict(zip(EFFECT_SIZE_MAPS[size.measure], (size.value, size.lower, size.upper), strict=True))
    if (spread := result.test.heterogeneous) is not None:
        values |= {"tau2": spread.tau2, "i2": spread.i2}
    for stat in list_statmaps(result):
        name = writer.model.names.statmap(result.contrast.label, stat)
        described = describe_statmap(writer.model, result, stat)
        found = values[stat]
        assert found is not None  # what `list_statmaps` lists is there
        writer.write_map(name, found, described, result=result, stat=stat, fill=1.0 if stat == "p" else 0.0)


def _write_inference(writer: "ModelWriter", result: ContrastResult, entry: InferenceResult) -> None:
    found, model = entry.inference, writer.model
    names = name_inference_files(model.names, result, entry)
    described = {kind: describe_inference(model, result, entry, kind) for kind in names}
    surviving = np.where(found.survives, result.statistic.value, 0.0)
    writer.write_map(names["map"], surviving, described["map"], result=result, stat=result.contrast.test)
    writer.write_map(names["logp"], found.logp, described["logp"], result=result, stat="logp")
    writer.write_map(names["dseg"], found.clusters.labels, described["dseg"])
    for kind, table in (("clusters", list_clusters(model, result, entry)), ("peaks", list_peaks(model, result, entry))):
        sidecar = {**described[kind], **describe_columns(model, kind, result.contrast.test, found.correction)}
        writer.write_table(names[kind], write_tsv(table), sidecar)
    if "null" in names:
        writer.write_table(
            names["null"], write_tsv(list_null(entry)), {**described["null"], **describe_null_columns(entry)}
        )


class ModelWriter:
    """Writes files into the folder of a model's node.

    Parameters
    ----------
    staging : Staging
    model : ModelResult
    """

    def __init__(self, staging: Staging, model: ModelResult) -> None:
        self.staging = staging
        self.model = model
        self._folder = node_folder(model.node.name)

    def write_file(self, name: str, content: bytes) -> None:
        """Write a file of the node."""
        self.staging.write_bytes(f"{self._folder}/{name}", content)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file of the node."""
        self.staging.write_json(f"{self._folder}/{name}", content)

    def write_table(self, name: str, content: bytes, sidecar: dict[str, Any] | None = None) -> None:
        """Write a table and what describes it."""
        self.write_file(name, content)
        if sidecar is not None:
            self.write_json(sidecar_name(name), sidecar)

    def write_mask(self) -> None:
        """Write the analysis mask."""
        name = self.model.names.mask
        values = np.ones(int(self.model.voxels.mask.sum()), dtype=np.int32)
        self.write_map(name, values, describe_mask(self.model))

    def write_map(
        self,
        name: str,
        values: NDArray[Any],
        sidecar: dict[str, Any],
        *,
        result: ContrastResult | None = None,
        stat: str = "",
        fill: float = 0.0,
    ) -> None:
        """Write values of the mask's voxels as a map, float32 or (whole numbers) int32.

        Parameters
        ----------
        name : str
        values : ndarray, shape (n_voxels,)
        sidecar : dict
        result : ContrastResult or None
            For the degrees of freedom in the header.
        stat : str
            What the map holds.
        fill : float
            The value outside the mask.
        """
        _check_range(values, name, must_not_vanish=stat in ("effect", "variance"))
        image = self.make_image(values, fill=fill)
        if stat in _INTENTS:
            image.header.set_intent(_INTENTS[stat], _intent_parameters(result, stat), name="")
        self.write_file(name, gzip.compress(image.to_bytes(), compresslevel=COMPRESSION_LEVEL, mtime=0))
        self.write_json(sidecar_name(name), sidecar)

    def make_image(self, values: NDArray[Any], *, fill: float = 0.0) -> Nifti1Image:
        """Return values of the mask's voxels as an image on the inputs' grid."""
        grid = self.model.voxels.grid
        dtype = np.int32 if np.issubdtype(values.dtype, np.integer) else np.float32
        image = Nifti1Image(to_volume(values.astype(dtype), self.model.voxels.mask, fill=fill), grid.affine)
        image.set_sform(grid.affine, grid.space_code)
        image.set_qform(grid.affine, grid.space_code)
        image.header.set_xyzt_units("mm")
        return image


def _check_range(values: NDArray[Any], name: str, *, must_not_vanish: bool) -> None:
    """Refuse values that float32 would turn into infinity or, where that says something else, into zero."""
    with np.errstate(over="ignore", under="ignore"):
        written = values.astype(np.float32)
    if not np.isfinite(written).all() or (must_not_vanish and bool(((written == 0) & (values != 0)).any())):
        raise DataError(
            f"{name}: values from {np.abs(values).min():.3g} to {np.abs(values).max():.3g} leave the range of float32; "
            "rescale the maps, or the weights of the contrast"
        )


def _intent_parameters(result: ContrastResult | None, stat: str) -> tuple[float, ...]:
    """Return the degrees of freedom as NIfTI's header wants them; none where they differ between voxels."""
    if result is None or stat not in ("t", "F") or np.ndim(result.statistic.dof):
        return ()
    return result.test.dof
