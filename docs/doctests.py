"""Shows the examples of docstrings, which the reference would take for quotations, as code: an extension of griffe."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^>>> .*\n?(?:^(?!>>> ).+\n?)*)+", re.MULTILINE)  # up to an empty line


class Doctests(griffe.Extension):
    """Puts fences around what begins with `>>>`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Changes the docstring of a module, class or function."""
        if (docstring := obj.docstring) is not None:
            docstring.value = EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", docstring.value)
