"""The simulated sky: galaxies whose truth is known, seen through a survey and judged by volunteers."""

from galaxyml.sky.anomalies import write_anomalies
from galaxyml.sky.galaxy10 import write_galaxy10
from galaxyml.sky.galaxyzoo import write_galaxyzoo
from galaxyml.sky.images import write_images
from galaxyml.sky.plasticc import write_plasticc
from galaxyml.sky.population import population
from galaxyml.sky.render import render
from galaxyml.sky.spirals import write_spirals
from galaxyml.sky.surveys import write_surveys

__all__ = [
    "population",
    "render",
    "write_anomalies",
    "write_galaxy10",
    "write_galaxyzoo",
    "write_images",
    "write_plasticc",
    "write_spirals",
    "write_surveys",
]
