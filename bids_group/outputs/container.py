"""Which container the app runs in, as far as it can be told from inside."""

import os
from collections.abc import Mapping
from pathlib import Path

IMAGE_VARIABLE = "BIDS_GROUP_IMAGE"  # the Dockerfile sets it: an image cannot see its own name
_BY_VARIABLE = {"APPTAINER_CONTAINER": "apptainer", "SINGULARITY_CONTAINER": "singularity"}
_BY_FILE = {"run/.containerenv": "podman", ".dockerenv": "docker"}


def describe_container(environment: Mapping[str, str] = os.environ, *, root: Path = Path("/")) -> dict[str, str] | None:
    """Return what BIDS calls ``GeneratedBy.Container``: its type and, where known, its tag and address.

    Parameters
    ----------
    environment : Mapping of str to str
    root : Path
        Of the file system.

    Returns
    -------
    dict of str to str, or None
        None outside of containers.
    """
    for variable, kind in _BY_VARIABLE.items():
        if image := environment.get(variable):
            address = {"URI": Path(image).as_uri()} if image.startswith("/") else {"URI": image}
            return {"Type": kind, **_name_image(environment), **address}
    for name, kind in _BY_FILE.items():
        if (root / name).exists():
            return {"Type": kind, **_name_image(environment)}
    return None


def _name_image(environment: Mapping[str, str]) -> dict[str, str]:
    image = environment.get(IMAGE_VARIABLE)
    return {"Tag": image} if image else {}
