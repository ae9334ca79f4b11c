"""Decision trees of Galaxy Zoo: the questions as data (one YAML file a campaign), the rules in code."""

from galaxyml.trees.projection import project
from galaxyml.trees.rules import TreeHead, constrain, gaps, violation
from galaxyml.trees.tree import DecisionTree, Question, columns, count

__all__ = ["DecisionTree", "Question", "TreeHead", "columns", "constrain", "count", "gaps", "project", "violation"]
