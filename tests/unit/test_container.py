"""Containers leave traces inside: variables of Apptainer and Singularity, files of Docker and Podman."""

from bids_group.outputs.container import IMAGE_VARIABLE, describe_container


def test_no_trace_is_no_container(tmp_path):
    assert describe_container({}, root=tmp_path) is None
    assert describe_container({"APPTAINER_CONTAINER": "", IMAGE_VARIABLE: "x"}, root=tmp_path) is None


def test_docker_and_podman_are_told_by_their_files(tmp_path):
    (tmp_path / ".dockerenv").touch()
    assert describe_container({}, root=tmp_path) == {"Type": "docker"}
    tagged = describe_container({IMAGE_VARIABLE: "bids_group:0.3.0"}, root=tmp_path)
    assert tagged == {"Type": "docker", "Tag": "bids_group:0.3.0"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".containerenv").touch()
    assert describe_container({}, root=tmp_path) == {"Type": "podman"}


def test_an_apptainer_image_inside_of_docker_is_apptainer_with_its_file(tmp_path):
    (tmp_path / ".dockerenv").touch()
    environment = {"APPTAINER_CONTAINER": "/images/my group.sif", "SINGULARITY_CONTAINER": "/images/my group.sif"}
    expected = {"Type": "apptainer", "URI": "file:///images/my%20group.sif"}
    assert describe_container(environment, root=tmp_path) == expected
    environment = {"SINGULARITY_CONTAINER": "docker://bids_group"}
    assert describe_container(environment, root=tmp_path) == {"Type": "singularity", "URI": "docker://bids_group"}
