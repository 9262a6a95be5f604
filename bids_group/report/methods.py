"""The methods section of a paper, from the settings that were used and what was found about them; never from defaults.

What all models share is said once, what all models of a node share once for the node, the rest for each model.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bids_group.outputs import naming
from bids_group.report.citations import (
    Paragraph,
    Sentence,
    list_cited,
    write_bibtex,
    write_latex,
    write_markdown,
    write_plain,
    write_reference,
)
from bids_group.report.collect import INCLUDED, INCLUDED_COLUMN
from bids_group.report.methods_inference import describe_corrections, describe_multiplicity, join_words
from bids_group.report.methods_model import (
    describe_atlases,
    describe_clusters,
    describe_conjunctions,
    describe_contrasts,
    describe_design,
    describe_effect_sizes,
    describe_error_term,
    write_weights,
)
from bids_group.report.records import ModelRecord, NodeRecord, RunRecord
from bids_group.report.region_wording import describe_regions
from bids_group.report.wording import describe_voxel_size, format_count, format_plain

REASON_COLUMN = "reason"  # of inputs.tsv
MOST_REASONS = 8
PACKAGE_CITATIONS = {
    "numpy": ("NumPy", "harris2020"),
    "scipy": ("SciPy", "virtanen2020"),
    "nibabel": ("NiBabel", "nibabel"),
    "nilearn": ("nilearn", "abraham2014"),
    "pybids": ("PyBIDS", "yarkoni2019"),
    "numba": ("Numba", "lam2015"),
}


@dataclass(frozen=True)
class MethodsText:
    """The methods section in all its forms.

    Attributes
    ----------
    plain : tuple of (str, str)
        The heading and text of each paragraph, citations by author and year.
    references : tuple of str
        What is cited, in words.
    markdown, latex, bibtex : str
        To be copied; the files of the same names hold them.
    """

    plain: tuple[tuple[str, str], ...]
    references: tuple[str, ...]
    markdown: str
    latex: str
    bibtex: str


def write_methods(run: RunRecord) -> MethodsText:
    """Write the methods section of a run.

    Parameters
    ----------
    run : RunRecord

    Returns
    -------
    MethodsText
    """
    paragraphs = describe_methods(run)
    keys, title = list_cited(paragraphs), f"Methods: {run.model}"
    references = sorted((write_reference(key, run.version) for key in keys), key=str.casefold)
    return MethodsText(
        plain=tuple((paragraph.title, write_plain(paragraph)) for paragraph in paragraphs),
        references=tuple(references),
        markdown=write_markdown(paragraphs, title),
        latex=write_latex(paragraphs, title),
        bibtex=write_bibtex(keys, run.version),
    )


def list_methods_files(run: RunRecord) -> dict[str, str]:
    """Return the content of the files of the methods section by their names, relative to the output folder."""
    text = write_methods(run)
    contents = {"md": text.markdown, "tex": text.latex, "bib": text.bibtex}
    return {naming.methods_name(run.model, kind): content for kind, content in contents.items()}


def describe_methods(run: RunRecord) -> tuple[Paragraph, ...]:
    """Describe how a run was done, in sentences with citations.

    Parameters
    ----------
    run : RunRecord

    Returns
    -------
    tuple of Paragraph
        By topic what all models share, then what each node has of its own, then each model.
    """
    told = [(node, model, _describe_model(run, node, model)) for node in run.nodes for model in node.models]
    shared = _find_common([sentences for _, _, sentences in told])
    paragraphs = [Paragraph("Software", _describe_software(run))]
    paragraphs += [
        Paragraph(topic, sentences)
        for topic in TOPICS
        if (sentences := tuple(one for key, one in shared if key == topic))
    ]
    for node in run.nodes:
        paragraphs += _describe_node(node, [sentences for owner, _, sentences in told if owner is node], shared)
    return tuple(paragraphs)


_Told = list[tuple[str, Sentence]]  # sentences with their topics


def _describe_node(node: NodeRecord, told: Sequence[_Told], shared: _Told) -> list[Paragraph]:
    """Say what a node has of its own, and what each of its models has."""
    own = [one for one in _find_common(told) if one not in shared]
    paragraphs = [Paragraph(f"Model {node.name}", tuple(one for _, one in own))] if own else []
    for model, sentences in zip(node.models, told, strict=True):
        rest = tuple(one for topic, one in sentences if (topic, one) not in own and (topic, one) not in shared)
        if rest:
            paragraphs.append(Paragraph(f"Model {node.name}, input {model.input_contrast}", rest))
    return paragraphs


def _find_common(told: Sequence[_Told]) -> _Told:
    """Return the sentences that stand in all texts, in the order of the first."""
    return [one for one in told[0] if all(one in other for other in told[1:])] if told else []


def _describe_model(run: RunRecord, node: NodeRecord, model: ModelRecord) -> _Told:
    data = [*_describe_maps(run, model), *_describe_exclusions(node), *_describe_preparation(model)]
    parts = {
        "Data": [*data, *_describe_mask(model)],
        "Model": [*describe_design(model), *describe_error_term(model)],
        "Contrasts": [*describe_contrasts(model), *describe_effect_sizes(model)],
        "Inference": [*describe_corrections(model), *describe_conjunctions(model), *describe_multiplicity(model)],
        "Clusters and atlases": [*describe_clusters(model), *describe_atlases(model)],
        "Regions of interest": describe_regions(model),
    }
    assert tuple(parts) == TOPICS
    return [(topic, sentence) for topic in TOPICS for sentence in parts[topic]]


TOPICS = ("Data", "Model", "Contrasts", "Inference", "Clusters and atlases", "Regions of interest")


def _describe_software(run: RunRecord) -> tuple[Sentence, ...]:
    used = [
        (name, run.packages[package], key)
        for package, (name, key) in PACKAGE_CITATIONS.items()
        if package in run.packages
    ]
    versions = join_words([f"{name} {version}" for name, version, _ in used])
    under = f"It ran under Python {run.python}" + (f" with {versions}" if versions else "")
    return (
        Sentence(f"The group analysis (model {run.model}) was done with bids_group {run.version}", ("bidsgroup",)),
        Sentence(under, tuple(key for _, _, key in used)),
    )


def _describe_maps(run: RunRecord, model: ModelRecord) -> list[Sentence]:
    maps = f"{format_count(model.n_maps, 'effect map')} of {format_count(len(model.subjects), 'subject')}"
    shared = ", ".join(f"{name} {value}" for name, value in model.entities.items())
    datasets = f"the BIDS {'dataset' if len(run.datasets) == 1 else 'datasets'} {join_words(list(run.datasets))}"
    said = f"{maps} ({shared})" if shared else maps
    sentences = [Sentence(f"The models were fitted to {said}, from {datasets}", ("gorgolewski2016",))]
    if model.quality is not None:
        n_flagged = model.quality.n_flagged
        flagged = (
            f"{format_count(n_flagged, 'map')} {'was' if n_flagged == 1 else 'were'}" if n_flagged else "No map was"
        )
        left = "; none was left out for it" if n_flagged else ""
        sentences.append(Sentence(f"{flagged} flagged by automatic checks of quality{left}"))
    return sentences


def _describe_exclusions(node: NodeRecord) -> list[Sentence]:
    """Count the maps that were found but not analysed, by their reasons."""
    columns = node.inputs.columns
    if INCLUDED_COLUMN not in columns or REASON_COLUMN not in columns:
        return []
    included, reason = columns.index(INCLUDED_COLUMN), columns.index(REASON_COLUMN)
    reasons = Counter(row[reason] for row in node.inputs.rows if row[included] != INCLUDED)
    if not reasons:
        return [Sentence("No map that was found was left out")]
    listed = [f"{count:,} ({text})" for text, count in reasons.most_common(MOST_REASONS)]
    n_other = reasons.total() - sum(count for _, count in reasons.most_common(MOST_REASONS))
    listed += [f"{n_other:,} (other reasons)"] if n_other else []
    verb = "was" if reasons.total() == 1 else "were"
    return [Sentence(f"{format_count(reasons.total(), 'map')} {verb} left out: {join_words(listed)}")]


def _describe_preparation(model: ModelRecord) -> list[Sentence]:
    """Say how maps were combined within subjects and smoothed, and variables transformed."""
    sentences = []
    for one in model.combinations:
        few, many = one["FewestFiles"], one["MostFiles"]
        number = format_count(many, "map") if few == many else f"{few:,} to {many:,} maps"
        how = "" if not one["Weights"] else f" (in sum {write_weights(one['Weights'])})"
        if one["ByVariance"]:
            how = ", weighted by the inverse of their variances (fixed effects)"
        made = f"Each of {format_count(one['Maps'], 'map')} of {one['Contrast']}"
        sentences.append(Sentence(f"{made} was combined from {number} of the subject{how}"))
    if model.smoothing_fwhm:
        kernel = f"a Gaussian kernel of {format_plain(model.smoothing_fwhm)} mm FWHM"
        sentences.append(Sentence(f"Each map was smoothed over its own voxels with {kernel}", ("knutsson1993",)))
    else:
        sentences.append(Sentence("Maps were not smoothed at the group level"))
    if model.transformations:
        done = [f"{one['Name']} of {join_words(one['Input'])}" for one in model.transformations]
        sentences.append(Sentence(f"Variables were transformed: {'; '.join(done)}"))
    return sentences


def _describe_mask(model: ModelRecord) -> list[Sentence]:
    mask = model.mask
    size = f"{format_count(mask.n_voxels, 'voxel')} of {describe_voxel_size(mask.voxel_size)}"
    said = f"The search volume was {size} ({format_plain(mask.volume)} mL): the voxels {mask.source}"
    sentences = [Sentence(said)]
    lost = {"for missing data": mask.n_missing, **mask.untestable, "for a constant value": mask.n_constant}
    left = [f"{format_count(count, 'voxel')} ({why})" for why, count in lost.items() if count]
    if left:
        sentences.append(Sentence(f"Of the voxels of the mask these were left out: {join_words(left)}"))
    if mask.n_partly:
        where = f"In {format_count(mask.n_partly, 'voxel')} some maps were missing"
        how = "there the model was fitted to the maps at hand, each voxel with its own degrees of freedom"
        sentences.append(Sentence(f"{where}; {how}"))
    return sentences
