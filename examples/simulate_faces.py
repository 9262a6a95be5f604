"""Simulate the demo: a face recognition experiment whose true effects are known.

    python -m examples.simulate_faces demo

The design is that of Wakeman and Henson (2015): nine conditions, {Initial, Immediate repeat, Delayed repeat}
x {Famous, Unfamiliar, Scrambled Face}, one map of effects per subject and condition. The maps are not their
data. With i a subject, j a condition and k an effect, each is

    map_ij = shared_i + sum_k scale_ik * weight_jk * amplitude_k * blob_k + noise_ij

with smooth noise of its own and a smooth pattern that a subject's nine maps share, so that a subject's maps
are correlated as repeated measures are. `EFFECTS` is the whole truth about what is there to be found.

References
----------
Wakeman and Henson (2015), Scientific Data 2:150001.
"""

import argparse
import functools
import gzip
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray
from scipy import ndimage

from bids_group.errors import BidsGroupError, OutputError, UsageError

Volume = NDArray[np.float32]

FACE_TYPES = {"FF": "famous faces", "UF": "unfamiliar faces", "SF": "scrambled faces"}
REPETITIONS = {"Ini": "initial presentation", "Imm": "immediate repeat", "Del": "delayed repeat"}
CONDITIONS = tuple(repetition + face for face in FACE_TYPES for repetition in REPETITIONS)

# Weights in the order of CONDITIONS: three of famous, three of unfamiliar, three of scrambled faces.
STIMULI = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
FACES = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
SCRAMBLED = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
FAMOUS = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
# Repetition suppression: the response to a face drops at once and partly recovers; scrambled faces show none.
NOVEL_FACES = (1.0, 0.0, 0.5, 1.0, 0.0, 0.5, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Effect:
    """A Gaussian blob of activity that differs between conditions.

    Attributes
    ----------
    region : str
    centre : tuple of float
        MNI coordinates, mm.
    fwhm_mm : float
        Full width of the blob at half its height, mm.
    amplitude : float
        Height at the centre in the average subject where the weight is 1, in SD of the noise.
    weights : tuple of float
        One per condition, in the order of `CONDITIONS`.
    """

    region: str
    centre: tuple[float, float, float]
    fwhm_mm: float
    amplitude: float
    weights: tuple[float, ...]


EFFECTS = (
    # What every picture evokes: seen in the single conditions, cancelled in every difference between them.
    Effect("early visual cortex", (0, -88, 2), 30, 1.5, STIMULI),
    Effect("motor cortex, left (the button press)", (-38, -22, 54), 18, 0.9, STIMULI),
    Effect("posterior cingulate (deactivated by any task)", (-2, -48, 32), 22, -0.8, STIMULI),
    # Faces > scrambled.
    Effect("fusiform face area, right", (42, -48, -20), 16, 1.2, FACES),
    Effect("fusiform face area, left", (-40, -50, -20), 15, 1.0, FACES),
    Effect("occipital face area, right", (40, -78, -10), 16, 1.5, FACES),
    Effect("occipital face area, left", (-38, -80, -12), 15, 1.2, FACES),
    Effect("superior temporal sulcus, right", (52, -46, 10), 14, 1.1, FACES),
    Effect("amygdala, right", (20, -6, -16), 10, 1.2, FACES),
    Effect("amygdala, left", (-20, -6, -16), 10, 1.0, FACES),
    # Scrambled > faces: what makes negative faces > scrambled.
    Effect("cuneus", (6, -86, 20), 16, 1.2, SCRAMBLED),
    Effect("collateral sulcus, right", (28, -52, -6), 11, 1.1, SCRAMBLED),
    Effect("collateral sulcus, left", (-26, -54, -8), 11, 1.0, SCRAMBLED),
    # Famous > unfamiliar.
    Effect("medial prefrontal cortex", (-4, 50, 14), 20, 1.1, FAMOUS),
    Effect("precuneus", (-2, -62, 32), 18, 1.1, FAMOUS),
    Effect("anterior temporal lobe, left", (-54, -8, -20), 13, 0.9, FAMOUS),
    # Initial > immediate repeat, for faces only: an interaction of face type and repetition.
    Effect("fusiform, right: repetition", (40, -54, -18), 16, 1.8, NOVEL_FACES),
    Effect("fusiform, left: repetition", (-40, -56, -18), 16, 1.8, NOVEL_FACES),
    Effect("inferior frontal gyrus, left: repetition", (-46, 26, 16), 18, 2.0, NOVEL_FACES),
)

# Maps
NOISE_FWHM_MM = 8.0  # what first-level maps have after the usual smoothing kernel
SUBJECT_SD = 0.8  # of what a subject's maps share, in SD of the noise
STRENGTH_SD = 0.2  # of a subject's responses as a whole, around 1
REGION_SD = 0.25  # of a subject's response in one region, beyond that
SPACE = "MNI152NLin2009cAsym"
# SPM's usual box: 53 x 63 x 52 voxels at 3 mm, x running to the left.
BOX_LOW = (-78.0, -112.0, -70.0)
BOX_HIGH = (78.0, 76.0, 85.0)
# The voxels that all subjects of a study share end some millimetres inside the template's brain.
MASK_INSET_MM = 5.0
MNI_CODE = 4  # NIfTI's xform code of MNI space
FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))

# Participants
AGES = {"young": (20, 35), "older": (60, 75)}  # years
RT_MEAN = {"young": 690.0, "older": 760.0}  # ms
RT_PER_STRENGTH = -250.0  # ms: who responds more is faster
RT_SD = 40.0  # ms, of what strength does not explain
RT_PER_REPETITION = {"Ini": 25.0, "Imm": -35.0, "Del": 10.0}  # ms: repeats are quicker
RT_CONDITION_SD = 12.0  # ms

PROGRAM = "simulate_faces"
VERSION = 1  # to be raised whenever the bytes written change
BIDS_VERSION = "1.10.0"
TASK = "facerecognition"
STAMP = "Simulation"
DESCRIPTION = "dataset_description.json"


@dataclass(frozen=True)
class Simulation:
    """What determines every byte of the demo.

    Attributes
    ----------
    n_subjects : int
    resolution_mm : float
        Edge of the cubic voxels.
    seed : int
    version : int
        Of this program's output.
    """

    n_subjects: int
    resolution_mm: float
    seed: int
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.n_subjects < 1:
            raise UsageError(f"{self.n_subjects} subjects: give at least 1")
        if not 1.0 <= self.resolution_mm <= 20.0:
            raise UsageError(f"a resolution of {self.resolution_mm} mm: give 1 to 20")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed}: give 0 or more")

    def to_stamp(self) -> dict[str, Any]:
        """Return the parameters as they stand in the datasets' descriptions."""
        return {
            "Program": PROGRAM,
            "Version": self.version,
            "Subjects": self.n_subjects,
            "ResolutionMm": self.resolution_mm,
            "Seed": self.seed,
        }


@dataclass(frozen=True)
class Grid:
    """The voxels of the maps.

    Attributes
    ----------
    affine : ndarray of float64, shape (4, 4)
        Voxel indices to MNI mm.
    brain : ndarray of bool, shape (n_x, n_y, n_z)
    """

    affine: NDArray[np.float64]
    brain: NDArray[np.bool_]

    @property
    def resolution_mm(self) -> float:
        """Return the edge of a voxel, mm."""
        return float(self.affine[2, 2])


@dataclass(frozen=True)
class Participant:
    """A row of participants.tsv, and how strongly the subject responds.

    Attributes
    ----------
    label : str
        Without ``sub-``.
    age : int
        Years.
    sex, group : str
    response_times : ndarray of float64, shape (n_conditions,)
        In ms.
    scales : ndarray of float64, shape (n_effects,)
        The subject's response over the average subject's, per effect.
    """

    label: str
    age: int
    sex: str
    group: str
    response_times: NDArray[np.float64]
    scales: NDArray[np.float64]

    @property
    def rt(self) -> float:
        """Return the mean response time, ms."""
        return float(self.response_times.mean())


def build_grid(resolution_mm: float) -> Grid:
    """Lay a grid over SPM's box and mark the brain in it, by nilearn's MNI template.

    Parameters
    ----------
    resolution_mm : float
        Edge of the cubic voxels.

    Returns
    -------
    Grid
    """
    shape = tuple(int((high - low) / resolution_mm) + 1 for low, high in zip(BOX_LOW, BOX_HIGH, strict=True))
    affine = np.diag([-resolution_mm, resolution_mm, resolution_mm, 1.0])
    affine[:3, 3] = BOX_HIGH[0], BOX_LOW[1], BOX_LOW[2]
    depth, template_affine = measure_depth()
    to_template = np.linalg.inv(template_affine) @ affine
    depth_here = ndimage.affine_transform(depth, to_template, output_shape=shape, order=1)
    return Grid(affine, depth_here > MASK_INSET_MM)


@functools.cache
def measure_depth() -> tuple[Volume, NDArray[np.float64]]:
    """Measure how deep each voxel of the MNI template lies inside the brain.

    Returns
    -------
    depth : ndarray of float32, shape (n_x, n_y, n_z)
        Distance to the nearest voxel outside the brain, mm; 0 outside.
    affine : ndarray of float64, shape (4, 4)
    """
    from nilearn.datasets import load_mni152_brain_mask  # slow to import, and --help needs none of it

    template = load_mni152_brain_mask(resolution=1)
    step = 2  # every second millimetre is plenty for a depth, at an eighth of the time
    brain = np.asarray(template.dataobj)[::step, ::step, ::step] > 0
    affine = template.affine @ np.diag([step, step, step, 1])
    return ndimage.distance_transform_edt(brain, sampling=step).astype(np.float32), affine


def simulate_participant(number: int, seeds: SeedSequence) -> Participant:
    """Draw a subject's row of participants.tsv and responses.

    Parameters
    ----------
    number : int
        From 1; odd numbers are young, even ones older.
    seeds : SeedSequence
        The subject's own, for this alone.

    Returns
    -------
    Participant
    """
    rng = np.random.default_rng(seeds)
    group = "young" if number % 2 else "older"
    youngest, oldest = AGES[group]
    strength = STRENGTH_SD * rng.standard_normal()
    scales = 1 + strength + REGION_SD * rng.standard_normal(len(EFFECTS))
    mean = RT_MEAN[group] + RT_PER_STRENGTH * strength + RT_SD * rng.standard_normal()
    per_condition = mean + np.array([RT_PER_REPETITION[condition[:3]] for condition in CONDITIONS])
    response_times = np.round(per_condition + RT_CONDITION_SD * rng.standard_normal(len(CONDITIONS)), 1)
    age = int(rng.integers(youngest, oldest, endpoint=True))
    sex = "F" if rng.random() < 0.5 else "M"
    return Participant(f"{number:02d}", age, sex, group, response_times, scales)


def simulate_noise(shape: tuple[int, ...], fwhm_voxels: float, rng: Generator) -> Volume:
    """Draw Gaussian noise of unit variance, smoothed by a Gaussian kernel.

    Parameters
    ----------
    shape : tuple of int
    fwhm_voxels : float
        Of the kernel.
    rng : Generator

    Returns
    -------
    ndarray of float32, shape `shape`
    """
    sigma = fwhm_voxels / FWHM_PER_SIGMA
    white = rng.standard_normal(shape, dtype=np.float32)
    # Wrapped at the edges, the noise has one variance everywhere, known from the kernel's squares.
    smooth = ndimage.gaussian_filter(white, sigma, mode="wrap")
    impulse = np.zeros(max(shape))
    impulse[len(impulse) // 2] = 1.0
    kernel = ndimage.gaussian_filter1d(impulse, sigma, mode="wrap")
    return (smooth / np.sum(kernel**2) ** (len(shape) / 2)).astype(np.float32)


def draw_blob(effect: Effect, grid: Grid) -> Volume:
    """Draw an effect's Gaussian, 1 at its centre.

    Parameters
    ----------
    effect : Effect
    grid : Grid

    Returns
    -------
    ndarray of float32, shape of the grid
    """
    sigma = effect.fwhm_mm / FWHM_PER_SIGMA
    # The grid's axes are those of the scanner, hence the Gaussian is a product of one per axis.
    profiles = [
        np.exp(-0.5 * ((grid.affine[axis, axis] * np.arange(size) + grid.affine[axis, 3] - mm) / sigma) ** 2)
        for axis, (size, mm) in enumerate(zip(grid.brain.shape, effect.centre, strict=True))
    ]
    return np.einsum("i,j,k->ijk", *profiles).astype(np.float32)


def simulate_maps(participant: Participant, grid: Grid, seeds: SeedSequence) -> dict[str, Volume]:
    """Simulate a subject's nine maps of effects.

    Parameters
    ----------
    participant : Participant
    grid : Grid
    seeds : SeedSequence
        The subject's own, for this alone.

    Returns
    -------
    dict of str to ndarray of float32, shape of the grid
        By condition, in SD of the noise; NaN outside the brain.
    """
    rng = np.random.default_rng(seeds)
    shape, fwhm = grid.brain.shape, NOISE_FWHM_MM / grid.resolution_mm
    # What maps of one subject share (vessels, anatomy) is smoother than what differs from map to map.
    shared = SUBJECT_SD * simulate_noise(shape, 2 * fwhm, rng)
    maps = {condition: shared + simulate_noise(shape, fwhm, rng) for condition in CONDITIONS}
    for effect, scale in zip(EFFECTS, participant.scales, strict=True):
        blob = np.float32(scale * effect.amplitude) * draw_blob(effect, grid)
        for condition, weight in zip(CONDITIONS, effect.weights, strict=True):
            if weight:
                maps[condition] += np.float32(weight) * blob
    return {condition: np.where(grid.brain, volume, np.float32(np.nan)) for condition, volume in maps.items()}


def simulate_faces(root: Path, *, n_subjects: int = 16, resolution_mm: float = 3.0, seed: int = 0) -> None:
    """Write the demo: a BIDS dataset with a derivative ``firstlevel`` of nine maps per subject.

    The same parameters give the same bytes (with the same numpy, scipy and zlib), and a subject's maps do not depend
    on how many there are. A folder that holds this simulation already is left alone; where it was interrupted it is
    completed.

    Parameters
    ----------
    root : Path
        Made if it is not there.
    n_subjects : int
    resolution_mm : float
        Edge of the cubic voxels.
    seed : int

    Raises
    ------
    UsageError
        A parameter that makes no sense.
    OutputError
        The folder holds something else.
    """
    simulation = Simulation(n_subjects, resolution_mm, seed)
    refuse_other_content(root, simulation)
    if holds(root, simulation):
        return
    grid = build_grid(resolution_mm)
    seeds = [subject.spawn(2) for subject in SeedSequence(seed).spawn(n_subjects)]
    participants = [simulate_participant(k, of_traits) for k, (of_traits, _) in enumerate(seeds, start=1)]
    write_raw(root, participants, simulation)

    def write_subject(participant: Participant, of_maps: SeedSequence) -> None:
        write_maps(locate_firstlevel(root), participant, simulate_maps(participant, grid, of_maps), grid)

    # Drawing, smoothing and compressing all leave the interpreter's lock, so that threads suffice.
    with ThreadPoolExecutor() as pool:
        list(pool.map(write_subject, participants, [of_maps for _, of_maps in seeds]))
    write_firstlevel_description(root, simulation)


def locate_firstlevel(root: Path) -> Path:
    """Return the derivative dataset that holds the maps."""
    return root / "derivatives" / "firstlevel"


def locate_map(firstlevel: Path, label: str, condition: str) -> Path:
    """Return the file of a subject's map of one condition."""
    name = f"sub-{label}_task-{TASK}_space-{SPACE}_desc-{condition}_effect.nii.gz"
    return firstlevel / f"sub-{label}" / "func" / name


def read_stamp(dataset: Path) -> dict[str, Any] | None:
    """Return the parameters in a dataset's description, None where it was not simulated here."""
    try:
        description = json.loads((dataset / DESCRIPTION).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return description.get(STAMP) if isinstance(description, dict) else None


def holds(root: Path, simulation: Simulation) -> bool:
    """Tell whether a folder holds a whole simulation: the description of its maps is written last."""
    return read_stamp(locate_firstlevel(root)) == simulation.to_stamp()


def refuse_other_content(root: Path, simulation: Simulation) -> None:
    """Refuse a folder with anything in it but this simulation, whole or begun.

    Raises
    ------
    OutputError
    """
    if root.exists() and not root.is_dir():
        raise OutputError(f"{root} is a file: name a folder for the demo")
    if not root.exists() or not any(root.iterdir()):
        return
    stamp, wanted = read_stamp(root), simulation.to_stamp()
    if stamp is None:
        raise OutputError(f"{root} is not empty and not a demo of this program: name another folder")
    if stamp != wanted:
        raise OutputError(f"{root} holds another simulation ({stamp}, not {wanted}): remove it or name another folder")


def write_raw(root: Path, participants: Sequence[Participant], simulation: Simulation) -> None:
    """Write the files of the raw dataset."""
    root.mkdir(parents=True, exist_ok=True)
    # First of all, so that what is begun can be told from other people's folders.
    write_json(
        root / DESCRIPTION,
        {
            "Name": "Simulated face recognition experiment",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "raw",
            "License": "CC0",
            "GeneratedBy": [{"Name": PROGRAM, "Version": str(simulation.version)}],
            "ReferencesAndLinks": ["https://doi.org/10.1038/sdata.2015.1"],
            STAMP: simulation.to_stamp(),
        },
    )
    (root / "README").write_text(README, encoding="utf-8")
    rows = [[f"sub-{p.label}", str(p.age), p.sex, p.group, f"{p.rt:.1f}"] for p in participants]
    write_table(root / "participants.tsv", ["participant_id", "age", "sex", "group", "rt"], rows)
    write_json(root / "participants.json", PARTICIPANT_COLUMNS)
    write_json(root / f"task-{TASK}_beh.json", BEHAVIOUR_COLUMNS)
    for participant in participants:
        write_behaviour(root, participant)


def write_behaviour(root: Path, participant: Participant) -> None:
    """Write a subject's response times, without which a raw dataset would have no subjects."""
    folder = root / f"sub-{participant.label}" / "beh"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        [condition, f"{ms / 1000:.4f}"] for condition, ms in zip(CONDITIONS, participant.response_times, strict=True)
    ]
    table = folder / f"sub-{participant.label}_task-{TASK}_beh.tsv"
    write_table(table, ["trial_type", "response_time"], rows)


def write_maps(firstlevel: Path, participant: Participant, maps: Mapping[str, Volume], grid: Grid) -> None:
    """Write a subject's maps, each with its sidecar."""
    for condition, volume in maps.items():
        path = locate_map(firstlevel, participant.label, condition)
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(volume, grid.affine)
        image.set_sform(grid.affine, MNI_CODE)
        image.set_qform(grid.affine, MNI_CODE)
        image.header.set_xyzt_units("mm")
        # No time stamp: the same map has the same bytes. Noise hardly compresses, hence the lowest level.
        path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
        repetition, face = REPETITIONS[condition[:3]], FACE_TYPES[condition[3:]]
        sidecar = {"Description": f"Simulated effect of {face}, {repetition}", "Units": "arbitrary"}
        write_json(path.with_name(path.name.removesuffix(".nii.gz") + ".json"), sidecar)


def write_firstlevel_description(root: Path, simulation: Simulation) -> None:
    """Write what makes the maps a BIDS derivative; to be called when they all are there."""
    firstlevel = locate_firstlevel(root)
    (firstlevel / "README").write_text(README, encoding="utf-8")
    # BIDS has no names for statistical maps yet.
    (firstlevel / ".bidsignore").write_text("*_effect.*\n", encoding="utf-8")
    write_json(
        firstlevel / DESCRIPTION,
        {
            "Name": "Simulated first-level effects",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": PROGRAM, "Version": str(simulation.version)}],
            STAMP: simulation.to_stamp(),
        },
    )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file as people like to read it."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a TSV file."""
    path.write_text("".join("\t".join(row) + "\n" for row in [columns, *rows]), encoding="utf-8")


README = """Simulated face recognition experiment

Nobody was scanned. The maps in derivatives/firstlevel and the response times were simulated in the design of
Wakeman and Henson (2015), Scientific Data 2:150001, by examples/simulate_faces.py of bids_group; the table
EFFECTS there says what is to be found in the maps. Nine conditions: Ini, Imm, Del (initial presentation,
immediate repeat, delayed repeat) of FF, UF, SF (famous, unfamiliar, scrambled faces).
"""

PARTICIPANT_COLUMNS = {
    "participant_id": {"Description": "Label of the simulated subject"},
    "age": {"Description": "Age", "Units": "year"},
    "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
    "group": {
        "Description": "Age group",
        "Levels": {group: f"{low} to {high} years old" for group, (low, high) in AGES.items()},
    },
    "rt": {
        "Description": "Mean response time; shorter in subjects whose responses in the maps are stronger",
        "Units": "ms",
    },
}

BEHAVIOUR_COLUMNS = {
    "TaskName": "face recognition",
    "TaskDescription": "Judging faces, each shown again at once or later; the response times are simulated",
    "trial_type": {
        "Description": "Condition",
        "Levels": {
            repetition + face: f"{face_text}, {repetition_text}"
            for face, face_text in FACE_TYPES.items()
            for repetition, repetition_text in REPETITIONS.items()
        },
    },
    "response_time": {"Description": "Mean response time", "Units": "s"},
}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog=f"python -m examples.{PROGRAM}", description="Simulate the demo dataset.")
    parser.add_argument("folder", type=Path, help="where the dataset is written")
    parser.add_argument("--subjects", type=int, default=16, help="how many (default 16)")
    parser.add_argument("--resolution", type=float, default=3.0, metavar="MM", help="edge of a voxel (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (default 0)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate the demo from the command line and return the exit code."""
    asked = parse_arguments(arguments)
    try:
        simulation = Simulation(asked.subjects, asked.resolution, asked.seed)
        was_there = holds(asked.folder, simulation)
        simulate_faces(asked.folder, n_subjects=asked.subjects, resolution_mm=asked.resolution, seed=asked.seed)
    except BidsGroupError as error:
        print(f"{PROGRAM}: {error}")
        return error.exit_code
    if was_there:
        print(f"{asked.folder} holds this simulation already and is left alone")
    else:
        n_maps = asked.subjects * len(CONDITIONS)
        print(f"{asked.folder}: {n_maps} maps of {asked.subjects} subjects simulated (seed {asked.seed})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
