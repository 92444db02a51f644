"""The synthetic "regions of the world": their crops, buildings, water, light and sensor settings.

Colours are (red, green, blue) as displayed in full sun, 0..1; backscatter is in dB.
"""

from dataclasses import dataclass

from mm_ovseg.errors import ConfigError

__all__ = ["DOMAINS", "BlockStyle", "Crop", "Domain", "get_domain"]

RGBColor = tuple[float, float, float]


@dataclass(frozen=True)
class Crop:
    """How the fields of one crop look. ``rows`` is the relative brightness of the rows, ``row_spacing`` in pixels."""

    color: RGBColor
    share: float
    rows: float
    row_spacing: float
    backscatter: float


@dataclass(frozen=True)
class BlockStyle:
    """How the blocks of a city are built. Plots in pixels, heights in metres, ``share`` of the blocks."""

    share: float
    plot: tuple[float, float]
    filling: tuple[float, float]
    heights: tuple[float, float]
    ridge: float
    roofs: tuple[RGBColor, ...]
    ground: RGBColor
    trees: float
    courtyard: bool = False


@dataclass(frozen=True)
class Domain:
    """A kind of region, with its sensors."""

    crops: tuple[Crop, ...]
    strip_width: tuple[float, float]
    strip_length: tuple[float, float]
    blocks: tuple[BlockStyle, ...]
    street_spacing: tuple[tuple[float, float], tuple[float, float]]
    street: RGBColor
    asphalt: RGBColor
    trees: tuple[RGBColor, RGBColor]
    grass: RGBColor
    bank: RGBColor
    deep_water: RGBColor
    shallow_water: RGBColor
    sun_elevation: tuple[float, float]
    rgb_gain: RGBColor
    haze: float
    sar_gain: float
    speckle_looks: float
    incidence_angle: float


_TILES = ((0.64, 0.38, 0.29), (0.57, 0.34, 0.27), (0.70, 0.46, 0.35), (0.47, 0.40, 0.37), (0.60, 0.55, 0.50))
_FLAT_ROOFS = ((0.70, 0.69, 0.66), (0.58, 0.57, 0.55), (0.78, 0.77, 0.75), (0.49, 0.48, 0.48), (0.63, 0.59, 0.53))
_METAL_ROOFS = ((0.36, 0.50, 0.68), (0.42, 0.56, 0.70), (0.74, 0.76, 0.77), (0.60, 0.36, 0.31), (0.55, 0.63, 0.60))

DOMAINS: dict[str, Domain] = {
    # Temperate, early summer: large fields, tiled houses, C-band SAR of four looks.
    "a": Domain(
        crops=(
            Crop((0.42, 0.53, 0.27), 0.26, 0.05, 2.4, -13.5),  # cereals, green
            Crop((0.71, 0.64, 0.41), 0.20, 0.06, 2.4, -12.0),  # cereals, ripe
            Crop((0.30, 0.44, 0.22), 0.18, 0.10, 3.0, -11.0),  # maize
            Crop((0.53, 0.44, 0.34), 0.14, 0.09, 3.2, -15.0),  # ploughed soil
            Crop((0.71, 0.67, 0.30), 0.09, 0.04, 2.6, -10.0),  # rapeseed in bloom
            Crop((0.63, 0.56, 0.43), 0.08, 0.08, 4.0, -14.5),  # stubble
            Crop((0.45, 0.56, 0.33), 0.05, 0.00, 3.0, -14.0),  # meadow
        ),
        strip_width=(13.0, 28.0),
        strip_length=(38.0, 75.0),
        blocks=(
            BlockStyle(0.50, (8.5, 9.5), (0.62, 0.60), (5.0, 8.0), 2.6, _TILES, (0.44, 0.50, 0.34), 0.30),
            BlockStyle(
                0.22, (11.0, 9.0), (1.0, 1.0), (12.0, 19.0), 2.2, _TILES, (0.50, 0.49, 0.44), 0.25, courtyard=True
            ),
            BlockStyle(0.14, (19.0, 11.0), (0.82, 0.50), (14.0, 30.0), 0.0, _FLAT_ROOFS, (0.52, 0.55, 0.45), 0.18),
            BlockStyle(0.14, (30.0, 22.0), (0.74, 0.66), (7.0, 12.0), 0.0, _FLAT_ROOFS, (0.53, 0.53, 0.52), 0.03),
        ),
        street_spacing=((32.0, 52.0), (22.0, 32.0)),
        street=(0.50, 0.50, 0.49),
        asphalt=(0.41, 0.41, 0.42),
        trees=((0.27, 0.38, 0.19), (0.17, 0.28, 0.17)),
        grass=(0.44, 0.52, 0.31),
        bank=(0.68, 0.62, 0.50),
        deep_water=(0.13, 0.25, 0.31),
        shallow_water=(0.33, 0.42, 0.38),
        sun_elevation=(42.0, 58.0),
        rgb_gain=(1.0, 1.0, 1.0),
        haze=0.015,
        sar_gain=1.0,
        speckle_looks=4.0,
        incidence_angle=38.0,
    ),
    # Drier, late in the season: narrow strips and paddies, slabs and blue metal roofs, SAR of two looks and more gain.
    "b": Domain(
        crops=(
            Crop((0.36, 0.42, 0.27), 0.22, 0.03, 2.2, -17.0),  # flooded paddy
            Crop((0.62, 0.58, 0.36), 0.24, 0.05, 2.2, -12.5),  # ripening rice
            Crop((0.62, 0.50, 0.38), 0.20, 0.10, 2.8, -14.0),  # bare loess
            Crop((0.35, 0.46, 0.25), 0.14, 0.14, 3.4, -10.5),  # vegetables
            Crop((0.78, 0.79, 0.78), 0.08, 0.16, 3.6, -8.0),  # plastic tunnels
            Crop((0.40, 0.43, 0.26), 0.12, 0.20, 4.2, -9.5),  # orchards
        ),
        strip_width=(6.0, 12.0),
        strip_length=(30.0, 55.0),
        blocks=(
            BlockStyle(0.22, (8.0, 8.0), (0.74, 0.70), (5.0, 9.0), 1.2, _METAL_ROOFS, (0.54, 0.51, 0.46), 0.14),
            BlockStyle(0.46, (24.0, 12.0), (0.84, 0.42), (18.0, 36.0), 0.0, _FLAT_ROOFS, (0.50, 0.52, 0.45), 0.24),
            BlockStyle(0.32, (32.0, 14.0), (0.88, 0.74), (8.0, 13.0), 1.5, _METAL_ROOFS, (0.57, 0.56, 0.54), 0.02),
        ),
        street_spacing=((44.0, 64.0), (30.0, 44.0)),
        street=(0.58, 0.57, 0.54),
        asphalt=(0.50, 0.49, 0.48),
        trees=((0.33, 0.37, 0.20), (0.23, 0.30, 0.19)),
        grass=(0.52, 0.51, 0.34),
        bank=(0.70, 0.63, 0.51),
        deep_water=(0.29, 0.33, 0.28),
        shallow_water=(0.45, 0.44, 0.35),
        sun_elevation=(34.0, 46.0),
        rgb_gain=(1.03, 0.98, 0.91),
        haze=0.05,
        sar_gain=1.35,
        speckle_looks=2.0,
        incidence_angle=30.0,
    ),
}


def get_domain(name: str) -> Domain:
    """Look up a domain; a ConfigError lists those that exist."""
    if name not in DOMAINS:
        raise ConfigError(f"There is no synthetic domain '{name}'; choose one of {', '.join(DOMAINS)}.")
    return DOMAINS[name]
