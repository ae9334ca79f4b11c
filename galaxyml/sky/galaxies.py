"""Elliptical galaxies and disks: face-on to edge-on, with arms, bars, rings and bulges."""

import math

import numpy as np
import torch
from torch import Tensor

from galaxyml.sky import profiles
from galaxyml.sky.camera import Frame
from galaxyml.sky.population import Galaxy
from galaxyml.sky.profiles import edge_on_disk, elliptical_radius, fall, sersic, turned

# Sersic indices, and the Petrosian R90 of round galaxies over their half-light radius: the radius of 90 percent of the
# light within two Petrosian radii (ratio 0.2; Blanton et al. 2001, AJ 121, 2358).
R90_OVER_RE = ((0.5, 1.0, 2.0, 3.0, 4.0, 6.0), (1.82, 2.27, 2.67, 2.62, 2.39, 1.81))


def half_light_radius(r90: float, index: float, axis_ratio: float = 1.0) -> float:
    """Half-light radius of a Sersic galaxy along its major axis, in the unit of its R90, measured in circles."""
    return r90 / float(np.interp(index, *R90_OVER_RE)) / math.sqrt((1 + axis_ratio**2) / 2)


def unit(brightness: Tensor, frame: Frame) -> Tensor:
    """Scaled to a flux of 1."""
    return brightness / (brightness.sum() * frame.pixel**2).clamp_min(1e-12)


def spheroid(
    frame: Frame,
    radius: float,
    index: float,
    ratio: float,
    angle: float,
    x: float = 0.0,
    y: float = 0.0,
    boxiness: float = 2.0,
) -> Tensor:
    """Surface brightness of a Sersic body for a flux of 1, shape (P, P).

    Args:
        frame: Whose pixels it is drawn on.
        radius: Half-light radius along the major axis, arcsec.
        index: Sersic index.
        ratio: Minor over major axis.
        angle: Of the major axis, radians.
        x: Of its centre, arcsec.
        y: Likewise.
        boxiness: Exponent of the ellipses, 2 for plain ones.
    """
    u, v = turned(frame.x - x, frame.y - y, angle)
    # Never nearer than what a pixel averages over, lest a cusp depend on where a pixel's centre lies.
    distance = torch.sqrt(elliptical_radius(u, v, ratio, boxiness).square() + (0.3 * frame.pixel) ** 2)
    return sersic(distance, radius, index, ratio)


def draw_smooth(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    """Adds an elliptical galaxy."""
    radius = half_light_radius(galaxy.r90, galaxy.sersic, galaxy.axis_ratio)
    light = spheroid(frame, radius, galaxy.sersic, galaxy.axis_ratio, math.radians(galaxy.angle))
    # Ellipticals grow bluer outwards: half of the light is bluer and more extended.
    wide = spheroid(frame, 1.25 * radius, galaxy.sersic, galaxy.axis_ratio, math.radians(galaxy.angle))
    frame.add(light, 0.65 * flux, galaxy.color + 0.03)
    frame.add(wide, 0.35 * flux, galaxy.color - 0.07)


def draw_disk(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    """Adds a disk that is not seen from its side: plain, with arms or with a ring; with its bar and its bulge."""
    angle = math.radians(galaxy.angle)
    radius, azimuth = profiles.disk_plane(frame.x, frame.y, angle, galaxy.inclination, galaxy.thickness)
    flat = profiles.disk_axis_ratio(galaxy.inclination, galaxy.thickness)
    body = torch.exp(-radius / galaxy.scale) * fall(radius, 1.25 * galaxy.r90, 0.12 * galaxy.r90)
    if galaxy.lopsided:
        side = torch.cos(azimuth - float(rng.uniform(0, 2 * math.pi)))
        body = body * (1 + galaxy.lopsided * side * (radius / galaxy.r90).clamp_max(1.3))
    body = unit(body, frame)
    disk_flux = flux * (1 - galaxy.bulge)
    if galaxy.arms:
        _add_arms(galaxy, frame, body, radius, azimuth, (1 - galaxy.bar) * disk_flux, rng)
    elif galaxy.ring:
        _add_ring(galaxy, frame, body, radius, azimuth, (1 - galaxy.bar) * disk_flux, rng)
    else:
        frame.add(body, (1 - galaxy.bar) * disk_flux, _disk_color(galaxy))
    if galaxy.bar:
        shape = profiles.bar(radius, azimuth, math.radians(galaxy.bar_angle), galaxy.bar_length, 0.3)
        frame.add(unit(shape, frame), galaxy.bar * disk_flux, galaxy.color - 0.02)
    if galaxy.bulge:
        ratio = max(galaxy.bulge_ratio, flat)
        bulge = spheroid(frame, galaxy.bulge_radius, 1.0 + 4 * galaxy.bulge, min(ratio, 1.0), angle)
        frame.add(bulge, galaxy.bulge * flux, galaxy.color + 0.05)


def _disk_color(galaxy: Galaxy) -> float:
    """Colour (g - r) of a disk outside its arms: three quarters of the way from old to young stars."""
    return float(galaxy.color - 0.75 * (galaxy.color - galaxy.young_color))


def _add_ring(
    galaxy: Galaxy, frame: Frame, body: Tensor, radius: Tensor, azimuth: Tensor, flux: float, rng: np.random.Generator
) -> None:
    """The disk with a gap, and around it the ring and its knots of young stars."""
    width = float(rng.uniform(0.09, 0.17)) * galaxy.ring_radius
    uneven = 1 + float(rng.uniform(0, 0.4)) * torch.cos(azimuth - float(rng.uniform(0, 2 * math.pi)))
    band = profiles.ring(radius, galaxy.ring_radius, width) * uneven
    band = unit(band * torch.exp(0.35 * profiles.patches(radius, azimuth, 20.0, rng)), frame)
    gap = 1 - 0.75 * profiles.ring(radius, 0.62 * galaxy.ring_radius, 0.2 * galaxy.ring_radius)
    frame.add(unit(body * gap, frame), (1 - galaxy.ring) * flux, _disk_color(galaxy))
    frame.add(band, 0.92 * galaxy.ring * flux, galaxy.young_color + 0.05)
    radii = galaxy.ring_radius * rng.normal(1, 0.07, int(galaxy.knots))
    add_knots(galaxy, frame, radii, rng.uniform(0, 2 * math.pi, len(radii)), 0.08 * galaxy.ring * flux, rng)


def _add_arms(
    galaxy: Galaxy, frame: Frame, body: Tensor, radius: Tensor, azimuth: Tensor, flux: float, rng: np.random.Generator
) -> None:
    """The disk's light with a part of it moved into arms, and knots of young stars along these."""
    start = galaxy.bar_length or 0.22 * galaxy.r90
    first = math.radians(galaxy.bar_angle) if galaxy.bar else rng.uniform(0, 2 * math.pi)
    field = profiles.patches(radius, azimuth, galaxy.pitch, rng)
    phase = profiles.arm_phase(radius, azimuth - first, int(galaxy.arms), galaxy.pitch, start)
    phase = phase + 0.3 * galaxy.patchiness * field
    pattern = profiles.arm_pattern(phase, galaxy.sharpness)
    pattern = pattern * torch.exp(galaxy.patchiness * (0.8 * field - 0.3 * galaxy.patchiness))
    reach = (1 - fall(radius, start, 0.16 * start)) * fall(radius, 1.05 * galaxy.r90, 0.12 * galaxy.r90)
    share = galaxy.contrast * reach
    spread = galaxy.color - galaxy.young_color
    knots = 0.10 * galaxy.contrast
    left = flux * (1 - knots)
    frame.add(body * (1 - share), left, galaxy.color - 0.5 * spread)
    lit = body * share * pattern * torch.exp(0.35 * (radius - start).clamp_min(0) / galaxy.r90)
    in_arms = float((body * share).sum()) * frame.pixel**2
    frame.add(unit(lit, frame), in_arms * left, galaxy.young_color)
    # Dust on the inner edges of the arms.
    lane = profiles.arm_pattern(phase - math.copysign(0.7, galaxy.pitch), 6.0) * share
    frame.obscure(0.10 * lane)
    number = int(galaxy.knots)
    radii = start + (galaxy.r90 - start) * rng.beta(1.3, 1.6, number)
    turn = np.log(radii / start) / math.tan(math.radians(galaxy.pitch)) + first
    turn = turn + 2 * math.pi * (rng.integers(0, galaxy.arms, number) + rng.normal(0, 0.11, number)) / galaxy.arms
    add_knots(galaxy, frame, radii, turn, knots * flux, rng)


def add_knots(
    galaxy: Galaxy, frame: Frame, radius: np.ndarray, azimuth: np.ndarray, flux: float, rng: np.random.Generator
) -> None:
    """Adds clusters of young stars at places in a disk, which share a flux.

    Args:
        galaxy: Its disk and the colour of its stars.
        frame: Field to add to.
        radius: In the disk, arcsec, shape (K,).
        azimuth: Radians, shape (K,).
        flux: Of all of them in r, nanomaggies.
        rng: Source of their brightness.
    """
    if not len(radius):
        return
    flat = galaxy.axis_ratio or profiles.disk_axis_ratio(galaxy.inclination, galaxy.thickness)
    angle = math.radians(galaxy.angle)
    u, v = radius * np.cos(azimuth), flat * radius * np.sin(azimuth)
    each = rng.lognormal(0, 0.8, len(radius)) * np.exp(-radius / (1.5 * galaxy.r90))
    colors = np.array(frame.survey.fluxes(1.0, galaxy.young_color - 0.15))[:, None]
    frame.add_points(
        u * math.cos(angle) - v * math.sin(angle),
        u * math.sin(angle) + v * math.cos(angle),
        colors * flux * each / each.sum(),
    )


def draw_edge_on(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    """Adds a disk seen from its side: thick and thin disk, bulge, and the dust in its plane."""
    angle = math.radians(galaxy.angle)
    x, z = turned(frame.x, frame.y, angle)
    # An outer warp, as most disks have it.
    z = z - rng.normal(0, 0.025) * galaxy.r90 * torch.tanh(x / galaxy.r90) ** 3
    scale = galaxy.scale
    height = scale * (0.5 * galaxy.thickness + 0.5 * math.cos(math.radians(galaxy.inclination))) * 1.8
    body = edge_on_disk(x, z, scale, height) * fall(x.abs(), 1.2 * galaxy.r90, 0.16 * galaxy.r90)
    thin = edge_on_disk(x, z, 1.1 * scale, 0.5 * height) * fall(x.abs(), 1.2 * galaxy.r90, 0.16 * galaxy.r90)
    patchy = torch.exp(0.25 * profiles.clouds(x, 3 * z, 0.35 * galaxy.r90, rng))
    frame.add(body, 0.6 * (1 - galaxy.bulge) * flux, galaxy.color - 0.05)
    frame.add(unit(thin * patchy, frame), 0.4 * (1 - galaxy.bulge) * flux, galaxy.young_color)
    if galaxy.bulge:
        ratio = galaxy.bulge_ratio if galaxy.boxiness == 2 else 0.66
        radius = galaxy.bulge_radius * (1.25 if galaxy.boxiness == 2 else 1.55)
        index = 1.6 if galaxy.boxiness == 2 else 0.6
        bulge = spheroid(frame, radius, index, ratio, angle, boxiness=galaxy.boxiness)
        frame.add(unit(bulge, frame), galaxy.bulge * flux, galaxy.color + 0.06)
    if galaxy.dust:
        off = height * 0.9 * math.cos(math.radians(galaxy.inclination)) / 0.1
        lane = torch.exp(-x.abs() / (1.6 * scale)) * torch.exp(-0.5 * ((z - 0.2 * off) / (0.6 * height)) ** 2)
        frame.obscure(galaxy.dust * lane * torch.exp(0.3 * profiles.clouds(x, 2 * z, 0.2 * galaxy.r90, rng)))
