"""Edges between nodes: which maps a node takes from which Subject-level node."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from bids_group.errors import SpecError
from bids_group.inputs.settings import read_entity_filter
from bids_group.inputs.strict import Place
from bids_group.vocabulary import Level


@dataclass(frozen=True)
class Edge:
    """The maps of one node that another takes.

    Attributes
    ----------
    source, destination : str
        Names of nodes; the source is of the Subject level.
    filter : Mapping of str to tuple of str
        The values an entity, or the contrast, of the maps may have.
    path : str
    """

    source: str
    destination: str
    filter: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    path: str = "Edges"


def link_in_order(levels: Mapping[str, Level]) -> tuple[Edge, ...]:
    """Link each node to the Subject-level node that stands last before it.

    Parameters
    ----------
    levels : Mapping of str to str
        The level of each node, by its name, in the order of the spec.
    """
    edges, last = [], None
    for name, level in levels.items():
        if last is not None:
            edges.append(Edge(last, name))
        last = name if level == "Subject" else last
    return tuple(edges)


def read_edges(place: Place, levels: Mapping[str, Level]) -> tuple[Edge, ...]:
    """Read the list `Edges`.

    Parameters
    ----------
    place : Place
    levels : Mapping of str to str
        The level of each node, by its name.

    Raises
    ------
    SpecError
        If an edge leads from or to no node, from a Dataset-level node, or in a circle.
    """
    edges = tuple(_read_edge(item, levels) for item in place.items())
    seen: set[tuple[str, str]] = set()
    for edge in edges:
        if (edge.source, edge.destination) in seen:
            raise SpecError(edge.path, "two edges join the same nodes; put their filters together")
        seen.add((edge.source, edge.destination))
    try:
        sort_nodes(tuple(levels), edges)
    except CycleError as error:
        raise SpecError(place.path, f"the edges go in a circle: {' -> '.join(error.args[1])}") from error
    return edges


def _read_edge(place: Place, levels: Mapping[str, Level]) -> Edge:
    fields = place.fields(("Source", "Destination", "Filter"), required=("Source", "Destination"))
    source, destination = (fields[key].choice(levels) for key in ("Source", "Destination"))
    if levels[source] != "Subject":
        fields["Source"].fail(
            f"{source!r} is a Dataset-level node: its results are of the group, and only maps of subjects are passed on"
        )
    kept = read_entity_filter(fields["Filter"]) if "Filter" in fields else {}
    return Edge(source, destination, kept, place.path)


def sort_nodes(names: tuple[str, ...], edges: tuple[Edge, ...]) -> list[str]:
    """Return the names of nodes, each after those that it takes maps from.

    Raises
    ------
    CycleError
    """
    sources = {name: {edge.source for edge in edges if edge.destination == name} for name in names}
    return list(TopologicalSorter(sources).static_order())
