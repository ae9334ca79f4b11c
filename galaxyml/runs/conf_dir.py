"""The folder of the configuration's YAML files."""

from pathlib import Path

_PACKED = Path(__file__).parents[1] / "conf"  # in an installed wheel
CONF = _PACKED if _PACKED.is_dir() else Path(__file__).parents[2] / "conf"
