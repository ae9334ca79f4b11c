"""Decision trees of Galaxy Zoo: the questions as data (one YAML file a campaign), the rules in code."""

from galaxyml.trees.projection import CONSTRAINTS, constrain, project
from galaxyml.trees.rules import TreeHead, gaps, normalise, violation
from galaxyml.trees.tree import DecisionTree, Question, columns, count, tree_names

__all__ = [
    "CONSTRAINTS",
    "DecisionTree",
    "Question",
    "TreeHead",
    "columns",
    "constrain",
    "count",
    "gaps",
    "normalise",
    "project",
    "tree_names",
    "violation",
]
