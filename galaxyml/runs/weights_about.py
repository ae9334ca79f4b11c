"""What a file of weights that galaxyml has written says of itself: in its header, or in a `config.json` beside it."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

KEY = "galaxyml"  # of the header, and of config.json


def about(weights: Path) -> dict[str, Any] | None:
    """The description of a `.safetensors` file; None if it has none, as those of other programs.

    Returns:
        `version`, `task`, `net` (its `class`, and its arguments by name), `size` and `channels` of its images, `scores`
        (what its outputs mean) and `head` (the class of what makes outputs of scores).
    """
    with suppress(OSError, SafetensorError, ValueError), safe_open(weights, framework="numpy") as file:
        if text := (file.metadata() or {}).get(KEY):
            return _mapping(json.loads(text))
    with suppress(OSError, ValueError):
        content = json.loads(weights.with_name("config.json").read_text(encoding="utf-8"))
        return _mapping(content.get(KEY) if isinstance(content, dict) else None)
    return None


def _mapping(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None
