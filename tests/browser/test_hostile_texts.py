"""Texts that people write (names, descriptions, groups, regions) are shown as they are written, and none of them runs."""

import json
import re
from xml.etree import ElementTree

import pytest

from bids_group.cli import main
from tests import builders
from tests.browser.conftest import AFFINE, SUBJECTS, draw_maps

SCRIPT = "<script>window.pwned = 1</script>"
IMAGE = "<img src=x onerror='window.pwned = 2'>"
BREAKOUT = '</script><svg onload="window.pwned = 3">'
ATTRIBUTE = "\" onmouseover='window.pwned = 4' x=\""
FORMULA = "$\\frac{a$ {{ 7 * 7 }}"
GROUPS = (f"p{IMAGE}", f"c{ATTRIBUTE}")
COVARIATE = f"age {FORMULA}"
SPHERES = {f"one {SCRIPT}": (42, -52, -16), f"two {BREAKOUT}": (-30, 26, 38), f"=3 {ATTRIBUTE}": (0, 0, 0)}
CONTRASTS = (f"groups {SCRIPT}", f"covariate {BREAKOUT}")
MODEL, NODE, DESCRIPTION = f"model {IMAGE}", f"node {ATTRIBUTE}", f"{SCRIPT}{IMAGE}{BREAKOUT}"
ENTRY = f"entry {IMAGE}"
RAN = "window.pwned"


def make_spec():
    spheres = [{"Name": name, "Center": list(center)} for name, center in SPHERES.items()]
    inference = [
        {"Correction": "none", "Alpha": 0.05},
        {"Correction": "none", "Alpha": 0.05, "Tail": "positive", "Name": ENTRY},
    ]
    contrasts = [
        {"Name": CONTRASTS[0], "Test": "t", "ConditionList": [f"group[{one}]" for one in GROUPS], "Weights": [1, -1]},
        {"Name": CONTRASTS[1], "Test": "t", "ConditionList": [COVARIATE], "Weights": [1]},
    ]
    return builders.make_spec(
        node={"Name": NODE, "GroupBy": [], "Contrasts": contrasts},
        model={"X": ["group", COVARIATE]},
        settings={
            "Inference": inference,
            "Atlases": [],
            "ROIs": {"Sources": [{"Spheres": spheres, "Radius": 12}], "Permutations": 20},
        },
        Name=MODEL,
        Description=DESCRIPTION,
        Input={"desc": ["A"]},
    )


@pytest.fixture(scope="session")
def output(tmp_path_factory):
    """The output of an analysis of which every text is hostile."""
    root = tmp_path_factory.mktemp("hostile")
    bids = root / "bids"
    folder = builders.write_derivative(bids / "derivatives", draw_maps(), affine=AFFINE)
    (folder / "dataset_description.json").write_text(json.dumps({**builders.DESCRIPTION, "Name": SCRIPT}))
    (bids / "dataset_description.json").write_text(json.dumps({"Name": IMAGE, "BIDSVersion": "1.10.0"}))
    # BIDS has no quotes around cells.
    lines = [f"sub-{name}\t{GROUPS[i % 2]}\t{i * i}" for i, name in enumerate(SUBJECTS)]
    (bids / "participants.tsv").write_text("\n".join([f"participant_id\tgroup\t{COVARIATE}", *lines]))
    spec = builders.write_spec(root / "spec.json", make_spec())
    assert main([str(bids), str(root / "out"), "group", "--model", str(spec)]) == 0
    return root / "out"


def read_all_text(page):
    """Everything that a reader sees once all is unfolded, and what assistive technology reads besides."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    spoken = page.evaluate(
        "Array.from(document.querySelectorAll('[alt], [title], [aria-label]'),"
        " (one) => [one.alt, one.title, one.ariaLabel].join(' ')).join(' ')"
    )
    return re.sub(r"\s+", " ", f"{page.locator('body').inner_text()} {spoken}")


def test_no_text_of_the_user_runs_wherever_one_points(page):
    read_all_text(page)
    for viewer in page.locator(".viewer").all():
        viewer.scroll_into_view_if_needed()
    for element in page.locator("summary:visible, th:visible, figcaption:visible").all():
        element.hover(force=True)
    assert page.evaluate(f"typeof {RAN}") == "undefined"
    assert page.locator("[onmouseover], [onerror], [onload], img[src=x]").count() == 0


@pytest.mark.parametrize(
    "text", [*CONTRASTS, *SPHERES, *GROUPS, COVARIATE, MODEL, DESCRIPTION, NODE], ids=lambda text: text[:10]
)
def test_every_text_of_the_user_is_shown_as_it_is_written(page, text):
    assert text in read_all_text(page)


def test_a_text_that_ends_a_script_does_not_end_ours(page):
    page.locator("summary", has_text="viewer").or_(page.locator(".viewer summary")).first.click()
    page.locator(".viewer .value:not(:empty)").first.wait_for()
    assert page.evaluate(f"typeof {RAN}") == "undefined"


def test_no_figure_holds_a_script(output):
    figures = list(output.glob("node-*/figures/*.svg"))
    assert figures
    for path in figures:
        names = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
        assert "path" in names
        assert not names & {"script", "foreignObject", "iframe"}
        assert not [key for element in ElementTree.parse(path).iter() for key in element.attrib if key.startswith("on")]
