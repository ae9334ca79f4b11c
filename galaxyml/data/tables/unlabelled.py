"""What a command leaves open that ranks images without labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from galaxyml.data.tables.contents import RGB
from galaxyml.data.tables.labels import LABELS, table_path
from galaxyml.runs.errors import DataError, UserError

FOLDER = Path("data/anomalies")  # where no other is given
OTHER_SIZE = "128"  # pixels that a net of one's own sees
MOST_TRIED = 20  # images that are opened to find how many channels they have


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
    from galaxyml.data.images.decode import channels_of  # here, as it takes a while
    from galaxyml.data.images.decoding import Decoding
    from galaxyml.data.inputs import find_blocks

    path = table_path(root, labels) if root.is_dir() else root
    decoding = Decoding(hdu=int(hdu) if str(hdu).isdecimal() else hdu)
    tried = 0
    try:
        for _, block in find_blocks([path if path.exists() else root]):
            for location in block.locations:
                try:
                    return channels_of(Path(location), decoding)
                except DataError:
                    tried += 1
                if tried == MOST_TRIED:
                    return RGB
    except UserError:
        return RGB
    return RGB
