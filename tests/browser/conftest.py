"""A real report, and the browser that reads it: run by `make test-browser`, which installs what drives the browser."""

import json
import shutil
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from bids_group.cli import main
from tests import builders

# Without what drives the browser the folder has no tests, so that pytest, asked for them alone, fails.
collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SUBJECTS = tuple(f"{number:02d}" for number in range(1, 11))
SHAPE, VOXEL_MM = (26, 32, 26), 6.0
# x from right to left, as many scanners store it.
AFFINE = np.array([[-VOXEL_MM, 0, 0, 78], [0, VOXEL_MM, 0, -112], [0, 0, VOXEL_MM, -70], [0, 0, 0, 1]])
BLOBS = {(42, -52, -16): 3.0, (-30, 26, 38): -3.0}  # mm: what is added there
BLOB_RADIUS_MM = 14.0
ROIS = {
    "Sources": [
        {"Atlas": "aal", "Regions": ["Fusiform_R", "Frontal_Mid_2_L"]},
        {"Spheres": [{"Name": "blob", "Center": [42, -52, -16]}], "Radius": 10},
    ],
    "Permutations": 200,
}
INFERENCE = [
    {"Correction": "none", "Alpha": 0.001, "ClusterExtent": 3},
    {"Correction": "bonferroni"},
    {"Correction": "bonferroni", "Tail": "negative", "Name": "Negative", "Alpha": 1e-9},
]


def draw_maps():
    """Draw noise in a ball of a brain, with a positive and a negative blob, for each subject and condition."""
    rng = np.random.default_rng(1)
    places = np.moveaxis(np.indices(SHAPE), 0, -1) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    distance = {centre: np.linalg.norm(places - centre, axis=-1) for centre in [*BLOBS, (0, -18, 10)]}
    signal = sum(size * (distance[centre] < BLOB_RADIUS_MM) for centre, size in BLOBS.items())
    brain = distance[0, -18, 10] < 68
    return {
        builders.name_map(subject, condition): np.where(
            brain, rng.standard_normal(SHAPE) + signal * (condition == "A"), 0
        ).astype(np.float32)
        for subject in SUBJECTS
        for condition in ("A", "B", "C")
    }


@pytest.fixture(scope="session")
def output(tmp_path_factory):
    """The output of an analysis through the command line."""
    root = tmp_path_factory.mktemp("study")
    bids = root / "bids"
    builders.write_derivative(bids / "derivatives", draw_maps(), affine=AFFINE)
    (bids / "dataset_description.json").write_text(
        json.dumps({"Name": "raw", "BIDSVersion": "1.10.0", "DatasetType": "raw"})
    )
    builders.write_participants(bids, pd.DataFrame({"participant_id": [f"sub-{name}" for name in SUBJECTS]}))
    spec = builders.write_spec(
        root / "spec.json", builders.make_spec("anova", settings={"Inference": INFERENCE, "ROIs": ROIS})
    )
    assert main([str(bids), str(root / "out"), "group", "--model", str(spec)]) == 0
    return root / "out"


@pytest.fixture
def report(output):
    (path,) = output.glob("*_report.html")
    return path


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.fail(f"no browser on the PATH: one of {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_page(browser, report):
    """Open the report from its file, without a network; what it asks for or complains of fails the test at its end."""
    contexts, faults = [], []

    def open_report(**options):
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url))
        page.goto(report.as_uri())
        assert faults.pop(0) == report.as_uri()  # the one request that there may be
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert [fault for fault in faults if not fault.startswith("data:")] == []


@pytest.fixture
def page(open_page):
    return open_page(viewport={"width": 1280, "height": 900})
