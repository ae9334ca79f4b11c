"""Answers take turns and have a time limit; whatever goes wrong, a visitor gets a sentence."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from pathlib import Path
from typing import Any, TypeVar

from galaxyml.page import markup
from galaxyml.runs.errors import UserError

log = logging.getLogger(__name__)
Result = TypeVar("Result")

SECONDS = 30.0  # that an answer may take
# Of Gradio: what a visitor asks for waits until all others' is done, since all use the same processor.
TURNS: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "answers", "show_progress": "minimal"}


class Patience:
    """Does what visitors ask for, one after the other, and gives up waiting when it takes too long.

    Args:
        seconds: That an answer may take.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="answers")

    def __call__(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """What the function gives.

        Raises:
            UserError: If it takes too long, or something before it still does.
        """
        begun = threading.Event()

        def run() -> Result:
            begun.set()
            return function(*arguments)

        waiting = self.worker.submit(run)
        try:
            return waiting.result(self.seconds)
        except TimeoutError:
            waiting.cancel()
            what = "This takes" if begun.is_set() else "What somebody asked before still takes"
            raise UserError(
                f"{what} longer than {self.seconds:g} s, which is the limit. Try a smaller file, or try again later."
            ) from None


def refused(error: Exception, *paths: Path) -> str:
    """What a visitor is told of an error: a sentence, without names of this machine's folders, and no traceback."""
    if not isinstance(error, UserError):
        log.error("The page could not answer.", exc_info=error)
        return markup.refusal("Something went wrong here, and it is not your fault. The reason is in the page's log.")
    message = str(error)
    for path in paths:
        message = message.replace(str(path), path.name)
    return markup.refusal(message)
