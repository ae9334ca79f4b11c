"""The simulated sky: galaxies whose truth is known, seen through a survey and judged by volunteers."""

from galaxyml.sky.population import population
from galaxyml.sky.render import render
from galaxyml.sky.sheet import contact_sheet
from galaxyml.sky.volunteers import expected_fractions
from galaxyml.sky.votes import turnout, vote
from galaxyml.sky.writers import write_galaxyzoo

__all__ = ["contact_sheet", "expected_fractions", "population", "render", "turnout", "vote", "write_galaxyzoo"]
