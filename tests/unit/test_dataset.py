"""What dataset_description.json says of the program that wrote the dataset, and of its container."""

import pytest

from bids_group import __version__
from bids_group.outputs.dataset import IMAGE_VARIABLE, describe_generator

APP = {"Name": "bids_group", "Version": __version__}


@pytest.mark.parametrize("environment", [{}, {IMAGE_VARIABLE: ""}, {"APPTAINER_CONTAINER": "other.sif"}])
def test_outside_its_image_the_app_names_no_container(environment):
    assert describe_generator(environment) == APP


def test_in_its_image_the_app_names_the_container_as_bids_does():
    container = {"Type": "docker", "Tag": "lab/bids_group:9"}
    assert describe_generator({IMAGE_VARIABLE: "lab/bids_group:9"}) == {**APP, "Container": container}


@pytest.mark.parametrize("variable", ["APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"])
def test_an_image_that_apptainer_runs_is_told_from_one_that_docker_runs(variable):
    described = describe_generator({IMAGE_VARIABLE: "bids_group:9", variable: "bids_group.sif"})
    assert described["Container"] == {"Type": "apptainer", "Tag": "bids_group:9"}
