"""What a command leaves open that ranks images without labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from galaxyml.data.tables.contents import RGB, channels_of_first
from galaxyml.data.tables.labels import LABELS, table_path
from galaxyml.runs.errors import UserError

FOLDER = Path("data/anomalies")  # where no other is given
OTHER_SIZE = "128"  # pixels that a net of one's own sees


def settings(given: Mapping[str, Any]) -> dict[str, str | None]:
    """Settings that a command leaves open: `start` and `size` of a net of the user's own, and `channels`.

    Args:
        given: The user's values, by key: text, lists of texts, None where something is left open.
    """
    answers: dict[str, str | None] = {}
    if given.get("model") is not None and "start" not in given:
        answers["start"] = None
    if given.get("model") is not None and given.get("start") is None and "size" not in given:
        answers["size"] = OTHER_SIZE
    if "channels" in given:
        return answers
    if (bands := given.get("bands")) is not None:
        return answers | {"channels": str(1 if isinstance(bands, str) else len(bands))}
    folder = Path(given["data_dir"]).expanduser() if given.get("data_dir") is not None else FOLDER
    if given.get("source") != "simulated" and folder.exists():
        answers["channels"] = str(_channels(folder, given.get("labels") or LABELS, given.get("hdu")))
    return answers


def _channels(root: Path, labels: str, hdu: Any) -> int:
    """Channels of the first image that can be read; 3 where none of the first few can, which is told later."""
    from galaxyml.data.inputs import find_blocks  # here, as it takes a while

    path = table_path(root, labels) if root.is_dir() else root
    blocks = find_blocks([path if path.exists() else root])
    try:
        return channels_of_first((Path(location) for _, block in blocks for location in block.locations), hdu)
    except UserError:  # of the blocks, which `setup` tells
        return RGB
