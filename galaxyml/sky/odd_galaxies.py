"""Galaxies that volunteers call odd: mergers, disturbed and irregular ones, dust lanes, lensed arcs, and artifacts."""

import math

import numpy as np
import torch

from galaxyml.sky import profiles
from galaxyml.sky.camera import Frame
from galaxyml.sky.galaxies import add_knots, draw_disk, draw_smooth, half_light_radius, spheroid, unit
from galaxyml.sky.population import Galaxy
from galaxyml.sky.profiles import fall
from galaxyml.sky.surroundings import add_bad_frame, add_bright_star, add_trail


def draw_merger(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    """Adds two galaxies that overlap, the bridge between them, and their tidal tails."""
    turn = math.radians(galaxy.separation_angle)
    away = np.array([math.cos(turn), math.sin(turn)]) * galaxy.separation
    # The survey centres on the brighter of the two more often than between them.
    centres = (-away * galaxy.companion * 0.6, away * (1 - 0.6 * galaxy.companion))
    for number, (share, centre) in enumerate(zip((1 - galaxy.companion, galaxy.companion), centres, strict=True)):
        radius = 0.85 * half_light_radius(galaxy.r90, 1.5) * math.sqrt(share / 0.6)
        index = galaxy.sersic if number == 0 else float(rng.uniform(1.2, 2.8))
        ratio = galaxy.axis_ratio if number == 0 else float(rng.uniform(0.5, 0.95))
        angle = math.radians(galaxy.angle) if number == 0 else float(rng.uniform(0, math.pi))
        x, y = frame.x - float(centre[0]), frame.y - float(centre[1])
        clumps = torch.exp(0.22 * profiles.clouds(x, y, 0.5 * galaxy.r90, rng))
        core = spheroid(frame, radius, index, ratio, angle, *map(float, centre))
        envelope = spheroid(frame, 1.7 * radius, 1.0, ratio, angle + 0.3, *map(float, centre)) * clumps
        mixed = 0.5 * (galaxy.color + galaxy.young_color) if rng.random() < 0.5 else galaxy.color
        frame.add(core, 0.6 * share * flux, mixed)
        frame.add(envelope, 0.4 * share * flux, mixed - 0.08)
        if number < galaxy.tails:
            # A tail leaves on the side away from the other galaxy.
            leave = turn + (math.pi if number == 0 else 0) + rng.normal(0, 0.5)
            pitch = float(rng.uniform(28, 50)) * rng.choice((-1, 1))
            light = profiles.tail(x, y, 1.2 * radius, 1.5 * galaxy.r90, leave, pitch)
            frame.add(light / (2 * math.pi * radius**2 * ratio), 0.18 * galaxy.tail_light * share * flux, mixed - 0.12)
    bridge_u, bridge_v = profiles.turned(frame.x, frame.y, turn)
    middle = float(np.dot(centres[0] + centres[1], away) / (2 * galaxy.separation))
    bridge = torch.exp(
        -0.5 * ((bridge_u - middle) / (0.4 * galaxy.separation)) ** 2 - 0.5 * (bridge_v / (0.13 * galaxy.r90)) ** 2
    )
    frame.add(unit(bridge, frame), 0.05 * flux, galaxy.color - 0.1)


def draw_disturbed(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    """Adds a lopsided disk with tidal tails and shells."""
    draw_disk(galaxy, frame, 0.85 * flux, rng)
    radius = torch.hypot(frame.x, frame.y)
    azimuth = torch.atan2(frame.y, frame.x)
    peak = flux / (2 * math.pi * galaxy.scale**2)
    for _ in range(int(galaxy.tails)):
        leave, pitch = rng.uniform(0, 2 * math.pi), float(rng.uniform(25, 45)) * rng.choice((-1, 1))
        light = profiles.tail(frame.x, frame.y, 0.55 * galaxy.r90, 1.9 * galaxy.r90, leave, pitch)
        frame.add(light, 0.17 * galaxy.tail_light * peak, galaxy.young_color + 0.1)
    side = rng.uniform(0, 2 * math.pi)
    for number in range(int(galaxy.shells)):
        edge = galaxy.r90 * float(rng.uniform(0.8, 1.35))
        light = profiles.shell(radius, azimuth, edge, side + math.pi * number, float(rng.uniform(0.5, 0.9)))
        frame.add(light, 0.07 * peak, galaxy.color - 0.1)


def draw_irregular(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    """Adds a bent, clumpy body with complexes of young stars off its centre."""
    angle = math.radians(galaxy.angle)
    u, v = profiles.turned(frame.x, frame.y, angle)
    bent = profiles.clouds(frame.x, frame.y, 1.1 * galaxy.r90, rng, waves=8)
    aside = profiles.clouds(frame.x, frame.y, 0.9 * galaxy.r90, rng, waves=8)
    u, v = u + 0.16 * galaxy.r90 * bent, v + 0.13 * galaxy.r90 * aside
    radius = torch.hypot(u, v / galaxy.axis_ratio)
    body = torch.exp(-((radius / (0.48 * galaxy.r90)) ** 1.3))
    body = body * torch.exp(0.32 * profiles.clouds(frame.x, frame.y, 0.55 * galaxy.r90, rng))
    frame.add(unit(body, frame), 0.85 * flux, galaxy.color)
    # Star formation comes in a few complexes, off the centre.
    complexes = rng.normal(0, 0.28 * galaxy.r90, (2, 4))
    where = rng.integers(0, 4, int(galaxy.knots))
    u_knots, v_knots = complexes[:, where] + rng.normal(0, 0.13 * galaxy.r90, (2, len(where)))
    azimuth = np.arctan2(v_knots, u_knots)
    add_knots(galaxy, frame, np.hypot(u_knots, v_knots), azimuth, 0.15 * flux, rng)


def draw_dust_lane(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    """Adds an elliptical with a lane of dust before it."""
    draw_smooth(galaxy, frame, flux, rng)
    u, v = profiles.turned(frame.x, frame.y, math.radians(galaxy.angle) + rng.normal(0, 0.15))
    # The near half of a thin ring of dust that is seen almost from its side.
    reach = galaxy.r90 * float(rng.uniform(0.55, 0.85))
    near = float(rng.uniform(0.03, 0.10)) * galaxy.r90
    v = v - near * torch.sqrt((1 - (u / reach) ** 2).clamp_min(0)) - 0.05 * u * torch.tanh(u / reach) * rng.normal()
    width = 0.045 * galaxy.r90 * (1.2 - 0.5 * (u / reach).abs().clamp_max(1))
    lane = torch.exp(-0.5 * (v / width) ** 2) * fall(u.abs(), 0.9 * reach, 0.1 * reach)
    frame.obscure(galaxy.dust * lane * torch.exp(0.3 * profiles.clouds(u, v, 0.25 * galaxy.r90, rng)))


def draw_lensed_arc(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    """Adds a red elliptical, the blue arc of a galaxy behind it, and that galaxy's second image."""
    draw_smooth(galaxy, frame, flux, rng)
    side = rng.uniform(-math.pi, math.pi)
    u, v = profiles.turned(frame.x, frame.y, side)
    radius, azimuth = torch.hypot(u, v * 1.06), torch.atan2(v, u)
    half = math.radians(galaxy.arc_angle)
    line = profiles.ring(radius, galaxy.arc_radius, 0.045 * galaxy.arc_radius)
    arc = line * torch.exp(-((azimuth / half) ** 4))
    counter = profiles.ring(radius, 0.72 * galaxy.arc_radius, 0.06 * galaxy.arc_radius)
    opposite = torch.remainder(azimuth + rng.normal(0, 0.2), 2 * math.pi) - math.pi
    counter = counter * torch.exp(-((opposite / 0.3) ** 2))
    frame.add(unit(arc, frame), galaxy.arc * flux, galaxy.young_color)
    frame.add(unit(counter, frame), 0.15 * galaxy.arc * flux, galaxy.young_color)


def draw_artifact(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    """Adds a star in a galaxy's place, or a galaxy with a trail across it or in a bad frame."""
    if galaxy.blemish == "star":
        add_bright_star(frame, 0.0, 0.0, float(rng.uniform(12.0, 14.5)), float(rng.uniform(0.2, 1.2)), rng)
        return
    draw_smooth(galaxy, frame, flux, rng)
    (add_trail if galaxy.blemish == "trail" else add_bad_frame)(frame, rng)
