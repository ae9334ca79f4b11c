"""What all events of the page share: answers take turns, and whatever goes wrong, a visitor gets a sentence."""

import logging
from pathlib import Path
from typing import Any

from galaxyml.page import markup
from galaxyml.runs.errors import UserError

log = logging.getLogger(__name__)

# Of Gradio: what a visitor asks for waits until all others' is done, since all use the same processor.
TURNS: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "answers", "show_progress": "minimal"}


def refusal(error: Exception, *paths: Path) -> str:
    """The HTML of an error: a sentence, without names of this machine's folders, and no traceback."""
    if not isinstance(error, UserError):
        log.error("The page could not answer.", exc_info=error)
        return markup.refusal("Something went wrong here, and it is not your fault. The reason is in the page's log.")
    message = str(error)
    for path in paths:
        message = message.replace(str(path), path.name)
    return markup.refusal(message)
