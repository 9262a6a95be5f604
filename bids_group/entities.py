"""The entities of file names, a leaf that the query, the spec reader and the naming of outputs share."""

import re

# Entities in the order in which BIDS writes them, long name of pybids to short name in the file.
ENTITY_SHORT_NAMES = {
    "subject": "sub",
    "session": "ses",
    "sample": "sample",
    "task": "task",
    "tracksys": "tracksys",
    "acquisition": "acq",
    "nucleus": "nuc",
    "volume": "voi",
    "ceagent": "ce",
    "tracer": "trc",
    "staining": "stain",
    "reconstruction": "rec",
    "direction": "dir",
    "run": "run",
    "modality": "mod",
    "echo": "echo",
    "flip": "flip",
    "inv": "inv",
    "mt": "mt",
    "part": "part",
    "proc": "proc",
    "hemi": "hemi",
    "space": "space",
    "recording": "recording",
    "chunk": "chunk",
    "segmentation": "seg",
    "atlas": "atlas",
    "roi": "roi",
    "model": "model",
    "subset": "subset",
    "res": "res",
    "den": "den",
    "label": "label",
    "contrast": "contrast",
    "stat": "stat",
    "desc": "desc",
}

# What pybids calls entities though it is no key-value pair of the file name.
FILE_PARTS = ("suffix", "extension", "datatype")

# What a map can be selected by.
QUERY_KEYS = (*ENTITY_SHORT_NAMES, *FILE_PARTS)


def to_label(name: str) -> str:
    """Drop every character that BIDS does not allow in a label.

    Examples
    --------
    >>> to_label("group[patient]")
    'grouppatient'
    """
    return re.sub(r"[^a-zA-Z0-9]", "", name)
