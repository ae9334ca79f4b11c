"""Draws one galaxy of each kind into a frame."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from galaxyml.sky import disks, encounters, surroundings
from galaxyml.sky.profiles import edge_on_disk, elliptical_radius, fall, sersic
from galaxyml.sky.survey import Frame, band_fluxes

# A row of the population, by attribute.
Galaxy = Any
# R90 in units of the half-light radius for Sersic indices 0.5, 1, 2, 3, 4, 6, within the Petrosian aperture
# (Graham et al. 2005, AJ 130, 1535, table 1: R90 = concentration x R50).
R90_OVER_RE = ((0.5, 1.0, 2.0, 3.0, 4.0, 6.0), (1.6, 1.95, 2.2, 2.2, 2.1, 1.9))


def draw(galaxy: Galaxy, frame: Frame, rng: np.random.Generator) -> None:
    """Adds a galaxy in the middle of the frame.

    Args:
        galaxy: A row of the population.
        frame: Field to add to.
        rng: Source of what its parameters leave open: knots, patches, places of tails.
    """
    flux = 10 ** (0.4 * (22.5 - galaxy.magnitude))
    _DRAWN[galaxy.kind](galaxy, frame, flux, rng)


def half_light_radius(r90: float, index: float) -> float:
    """Half-light radius of a Sersic galaxy from its Petrosian R90, same unit."""
    return r90 / float(np.interp(index, *R90_OVER_RE))


def _softened(radius: Tensor, frame: Frame) -> Tensor:
    """The radius, never below what a pixel averages over; without it a cusp depends on where the pixel's centre lies."""
    return torch.sqrt(radius.square() + (0.3 * frame.pixel) ** 2)


def _unit(brightness: Tensor, frame: Frame) -> Tensor:
    """Scaled to a flux of 1."""
    return brightness / (brightness.sum() * frame.pixel**2).clamp_min(1e-12)


def _spheroid(
    frame: Frame, radius: float, index: float, ratio: float, angle: float, x: float = 0.0, y: float = 0.0, boxiness: float = 2.0
) -> Tensor:
    u, v = disks.turned(frame.x - x, frame.y - y, angle)
    return sersic(_softened(elliptical_radius(u, v, ratio, boxiness), frame), radius, index, ratio)


def _smooth(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    radius = half_light_radius(galaxy.r90, galaxy.sersic)
    light = _spheroid(frame, radius, galaxy.sersic, galaxy.axis_ratio, math.radians(galaxy.angle))
    # Ellipticals grow bluer outwards: half of the light is bluer and more extended.
    wide = _spheroid(frame, 1.25 * radius, galaxy.sersic, galaxy.axis_ratio, math.radians(galaxy.angle))
    frame.add(light, 0.65 * flux, galaxy.color + 0.03)
    frame.add(wide, 0.35 * flux, galaxy.color - 0.07)


def _disk(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    angle = math.radians(galaxy.angle)
    x, y = frame.x, frame.y
    radius, azimuth = disks.disk_plane(x, y, angle, galaxy.inclination, galaxy.thickness)
    flat = disks.disk_axis_ratio(galaxy.inclination, galaxy.thickness)
    body = torch.exp(-radius / galaxy.scale) * fall(radius, 1.25 * galaxy.r90, 0.12 * galaxy.r90)
    if galaxy.lopsided:
        body = body * (1 + galaxy.lopsided * torch.cos(azimuth - rng.uniform(0, 2 * math.pi)) * (radius / galaxy.r90).clamp_max(1.3))
    body = _unit(body, frame)
    disk_flux = flux * (1 - galaxy.bulge)
    spread = galaxy.color - galaxy.young_color
    disk_color = galaxy.color - 0.75 * spread
    if galaxy.arms:
        _arms(galaxy, frame, body, radius, azimuth, disk_flux, rng)
    elif galaxy.ring:
        band = disks.ring(radius, galaxy.ring_radius, 0.13 * galaxy.ring_radius)
        band = _unit(band * torch.exp(0.35 * disks.patches(radius, azimuth, 20.0, rng)), frame)
        frame.add(body * (1 - 0.75 * disks.ring(radius, 0.62 * galaxy.ring_radius, 0.2 * galaxy.ring_radius)), (1 - galaxy.ring) * disk_flux, disk_color)
        frame.add(band, galaxy.ring * disk_flux, galaxy.young_color + 0.05)
        at = galaxy.ring_radius * rng.normal(1, 0.07, int(galaxy.knots))
        _knots(galaxy, frame, at, rng.uniform(0, 2 * math.pi, len(at)), 0.08 * disk_flux, flat, rng)
    else:
        frame.add(body, (1 - galaxy.bar) * disk_flux, disk_color)
    if galaxy.bar:
        shape = disks.bar(radius, azimuth, math.radians(galaxy.bar_angle), galaxy.bar_length, 0.3)
        frame.add(_unit(shape, frame), galaxy.bar * disk_flux, galaxy.color - 0.02)
    if galaxy.bulge:
        ratio = max(galaxy.bulge_ratio, flat)
        bulge = _spheroid(frame, galaxy.bulge_radius, 1.0 + 4 * galaxy.bulge, min(ratio, 1.0), angle)
        frame.add(bulge, galaxy.bulge * flux, galaxy.color + 0.05)


def _arms(
    galaxy: Galaxy, frame: Frame, body: Tensor, radius: Tensor, azimuth: Tensor, flux: float, rng: np.random.Generator
) -> None:
    """The disk's light with a part of it moved into arms, and knots of young stars along these."""
    start = galaxy.bar_length or 0.22 * galaxy.r90
    first = math.radians(galaxy.bar_angle) if galaxy.bar else rng.uniform(0, 2 * math.pi)
    field = disks.patches(radius, azimuth, galaxy.pitch, rng)
    phase = disks.arm_phase(radius, azimuth - first, int(galaxy.arms), galaxy.pitch, start) + 0.3 * galaxy.patchiness * field
    pattern = disks.arm_pattern(phase, galaxy.sharpness)
    pattern = pattern * torch.exp(galaxy.patchiness * (0.8 * field - 0.3 * galaxy.patchiness))
    reach = (1 - fall(radius, start, 0.16 * start)) * fall(radius, 1.05 * galaxy.r90, 0.12 * galaxy.r90)
    share = galaxy.contrast * reach
    spread = galaxy.color - galaxy.young_color
    frame.add(body * (1 - share), flux * (1 - galaxy.bar), galaxy.color - 0.5 * spread)
    lit = body * share * pattern * torch.exp(0.35 * (radius - start).clamp_min(0) / galaxy.r90)
    frame.add(lit, flux * (1 - galaxy.bar), galaxy.young_color)
    # Dust on the inner edges of the arms.
    lane = disks.arm_pattern(phase + math.copysign(0.7, galaxy.pitch) , 6.0) * share
    frame.obscure(0.10 * lane)
    at = start + (galaxy.r90 - start) * rng.beta(1.3, 1.6, int(galaxy.knots))
    turn = np.log(at / start) / math.tan(math.radians(galaxy.pitch)) + first
    turn = turn + 2 * math.pi * (rng.integers(0, galaxy.arms, len(at)) + rng.normal(0, 0.11, len(at))) / galaxy.arms
    flat = disks.disk_axis_ratio(galaxy.inclination, galaxy.thickness)
    _knots(galaxy, frame, at, turn, 0.10 * galaxy.contrast * flux, flat, rng)


def _knots(
    galaxy: Galaxy, frame: Frame, radius: np.ndarray, azimuth: np.ndarray, flux: float, flat: float, rng: np.random.Generator
) -> None:
    """Clusters of young stars at places in the disk, which share a flux."""
    if not len(radius):
        return
    angle = math.radians(galaxy.angle)
    u, v = radius * np.cos(azimuth), flat * radius * np.sin(azimuth)
    each = rng.lognormal(0, 0.8, len(radius)) * np.exp(-radius / (1.5 * galaxy.r90))
    colors = np.array(band_fluxes(1.0, galaxy.young_color - 0.15))[:, None]
    frame.add_points(
        u * math.cos(angle) - v * math.sin(angle), u * math.sin(angle) + v * math.cos(angle), colors * flux * each / each.sum()
    )


def _edge_on(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    angle = math.radians(galaxy.angle)
    x, z = disks.turned(frame.x, frame.y, angle)
    # An outer warp, as most disks have it.
    z = z - rng.normal(0, 0.025) * galaxy.r90 * torch.tanh(x / galaxy.r90) ** 3
    scale = 1.15 * galaxy.scale
    height = scale * (0.5 * galaxy.thickness + 0.5 * math.cos(math.radians(galaxy.inclination))) * 1.6
    body = edge_on_disk(x, z, scale, height) * fall(x.abs(), 1.2 * galaxy.r90, 0.16 * galaxy.r90)
    thin = edge_on_disk(x, z, 1.1 * scale, 0.5 * height) * fall(x.abs(), 1.2 * galaxy.r90, 0.16 * galaxy.r90)
    patchy = torch.exp(0.25 * encounters.clouds(x, 3 * z, 0.35 * galaxy.r90, rng))
    frame.add(body, 0.6 * (1 - galaxy.bulge) * flux, galaxy.color - 0.05)
    frame.add(_unit(thin * patchy, frame), 0.4 * (1 - galaxy.bulge) * flux, galaxy.young_color)
    if galaxy.bulge:
        ratio = galaxy.bulge_ratio if galaxy.boxiness == 2 else 0.62
        radius = galaxy.bulge_radius * (1.0 if galaxy.boxiness == 2 else 1.25)
        index = 1.6 if galaxy.boxiness == 2 else 0.8
        bulge = _spheroid(frame, radius, index, ratio, angle, boxiness=galaxy.boxiness)
        frame.add(_unit(bulge, frame), galaxy.bulge * flux, galaxy.color + 0.06)
    if galaxy.dust:
        off = height * 0.9 * math.cos(math.radians(galaxy.inclination)) / 0.1
        lane = torch.exp(-x.abs() / (1.6 * scale)) * torch.exp(-0.5 * ((z - 0.25 * off) / (0.38 * height)) ** 2)
        frame.obscure(galaxy.dust * lane * torch.exp(0.3 * encounters.clouds(x, 2 * z, 0.2 * galaxy.r90, rng)))


def _merger(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    turn = math.radians(galaxy.separation_angle)
    away = np.array([math.cos(turn), math.sin(turn)]) * galaxy.separation
    # The survey centres on the brighter of the two more often than between them.
    places = (-away * galaxy.companion * 0.6, away * (1 - 0.6 * galaxy.companion))
    for number, (share, place) in enumerate(zip((1 - galaxy.companion, galaxy.companion), places, strict=True)):
        radius = 0.75 * half_light_radius(galaxy.r90, 1.5) * math.sqrt(share / 0.6)
        index = float(rng.uniform(1.2, 2.8))
        ratio = float(rng.uniform(0.5, 0.95))
        angle = math.radians(galaxy.angle) if number == 0 else rng.uniform(0, math.pi)
        x, y = frame.x - float(place[0]), frame.y - float(place[1])
        clumps = torch.exp(0.22 * encounters.clouds(x, y, 0.5 * galaxy.r90, rng))
        core = _spheroid(frame, radius, index, ratio, angle, *map(float, place))
        envelope = _spheroid(frame, 1.7 * radius, 1.0, ratio, angle + 0.3, *map(float, place)) * clumps
        mixed = 0.5 * (galaxy.color + galaxy.young_color) if rng.random() < 0.5 else galaxy.color
        frame.add(core, 0.6 * share * flux, mixed)
        frame.add(envelope, 0.4 * share * flux, mixed - 0.08)
        if number < galaxy.tails:
            # A tail leaves on the side away from the other galaxy.
            leave = turn + (math.pi if number == 0 else 0) + rng.normal(0, 0.5)
            light = encounters.tail(x, y, 1.2 * radius, 1.5 * galaxy.r90, leave, float(rng.uniform(28, 50)) * rng.choice((-1, 1)))
            frame.add(light / (2 * math.pi * radius**2 * ratio), 0.18 * galaxy.tail_light * share * flux, mixed - 0.12)
    bridge_u, bridge_v = disks.turned(frame.x - float(places[0].mean() * 0), frame.y, turn)
    middle = float(np.dot(places[0] + places[1], away) / (2 * galaxy.separation))
    bridge = torch.exp(-0.5 * ((bridge_u - middle) / (0.4 * galaxy.separation)) ** 2 - 0.5 * (bridge_v / (0.13 * galaxy.r90)) ** 2)
    frame.add(_unit(bridge, frame), 0.05 * flux, galaxy.color - 0.1)


def _disturbed(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    _disk(galaxy, frame, 0.85 * flux, rng)
    radius = torch.hypot(frame.x, frame.y)
    azimuth = torch.atan2(frame.y, frame.x)
    peak = flux / (2 * math.pi * galaxy.scale**2)
    for _ in range(int(galaxy.tails)):
        light = encounters.tail(
            frame.x, frame.y, 0.55 * galaxy.r90, 1.9 * galaxy.r90, rng.uniform(0, 2 * math.pi), float(rng.uniform(25, 45)) * rng.choice((-1, 1))
        )
        frame.add(light, 0.17 * galaxy.tail_light * peak, galaxy.young_color + 0.1)
    side = rng.uniform(0, 2 * math.pi)
    for number in range(int(galaxy.shells)):
        at = galaxy.r90 * float(rng.uniform(0.8, 1.35))
        light = encounters.shell(radius, azimuth, at, side + math.pi * number, float(rng.uniform(0.5, 0.9)))
        frame.add(light, 0.07 * peak, galaxy.color - 0.1)


def _irregular(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    angle = math.radians(galaxy.angle)
    u, v = disks.turned(frame.x, frame.y, angle)
    bent = encounters.clouds(frame.x, frame.y, 1.1 * galaxy.r90, rng, waves=8)
    u, v = u + 0.16 * galaxy.r90 * bent, v + 0.13 * galaxy.r90 * encounters.clouds(frame.x, frame.y, 0.9 * galaxy.r90, rng, waves=8)
    radius = torch.hypot(u, v / galaxy.axis_ratio)
    body = torch.exp(-((radius / (0.48 * galaxy.r90)) ** 1.3))
    body = body * torch.exp(0.38 * encounters.clouds(frame.x, frame.y, 0.5 * galaxy.r90, rng))
    frame.add(_unit(body, frame), 0.85 * flux, galaxy.color)
    # Star formation comes in a few complexes, off the centre.
    complexes = rng.normal(0, 0.28 * galaxy.r90, (2, 4))
    where = rng.integers(0, 4, int(galaxy.knots))
    u_knots, v_knots = complexes[:, where] + rng.normal(0, 0.13 * galaxy.r90, (2, len(where)))
    azimuth = np.arctan2(v_knots, u_knots)
    _knots(galaxy, frame, np.hypot(u_knots, v_knots), azimuth, 0.15 * flux, galaxy.axis_ratio, rng)


def _dust_lane(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    _smooth(galaxy, frame, flux, rng)
    u, v = disks.turned(frame.x, frame.y, math.radians(galaxy.angle) + rng.normal(0, 0.15))
    # The near half of a thin ring of dust that is seen almost from its side.
    reach = galaxy.r90 * float(rng.uniform(0.55, 0.85))
    near = float(rng.uniform(0.03, 0.10)) * galaxy.r90
    v = v - near * torch.sqrt((1 - (u / reach) ** 2).clamp_min(0)) - 0.05 * u * torch.tanh(u / reach) * rng.normal()
    width = 0.045 * galaxy.r90 * (1.2 - 0.5 * (u / reach).abs().clamp_max(1))
    lane = torch.exp(-0.5 * (v / width) ** 2) * fall(u.abs(), 0.9 * reach, 0.1 * reach)
    frame.obscure(galaxy.dust * lane * torch.exp(0.3 * encounters.clouds(u, v, 0.25 * galaxy.r90, rng)))


def _lensed_arc(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    _smooth(galaxy, frame, flux, rng)
    side = rng.uniform(-math.pi, math.pi)
    u, v = disks.turned(frame.x, frame.y, side)
    radius, azimuth = torch.hypot(u, v * 1.06), torch.atan2(v, u)
    half = math.radians(galaxy.arc_angle)
    line = disks.ring(radius, galaxy.arc_radius, 0.045 * galaxy.arc_radius)
    arc = line * torch.exp(-((azimuth / half) ** 4))
    counter = disks.ring(radius, 0.72 * galaxy.arc_radius, 0.06 * galaxy.arc_radius)
    opposite = torch.remainder(azimuth + rng.normal(0, 0.2), 2 * math.pi) - math.pi
    counter = counter * torch.exp(-((opposite / 0.3) ** 2))
    frame.add(_unit(arc, frame), galaxy.arc * flux, galaxy.young_color)
    frame.add(_unit(counter, frame), 0.15 * galaxy.arc * flux, galaxy.young_color)


def _artifact(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    if galaxy.blemish == "star":
        surroundings.add_bright_star(frame, 0.0, 0.0, float(rng.uniform(11.5, 14.0)), float(rng.uniform(0.2, 1.2)), rng)
        return
    _smooth(galaxy, frame, flux, rng)
    (surroundings.add_trail if galaxy.blemish == "trail" else surroundings.add_bad_frame)(frame, rng)


_DRAWN: dict[str, Callable[[Galaxy, Frame, float, np.random.Generator], None]] = {
    "smooth": _smooth,
    "disk": _disk,
    "spiral": _disk,
    "ring": _disk,
    "edge-on": _edge_on,
    "merger": _merger,
    "disturbed": _disturbed,
    "irregular": _irregular,
    "dust lane": _dust_lane,
    "lensed arc": _lensed_arc,
    "artifact": _artifact,
}
