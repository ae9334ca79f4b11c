"""Kinds of target: classes, fractions, votes, numbers, anomalies; one folder each."""

from galaxyml.kinds.kind import CombiningStage, Kind, Stage, load_scored, of_config, of_run, stages_of

__all__ = ["CombiningStage", "Kind", "Stage", "load_scored", "of_config", "of_run", "stages_of"]
