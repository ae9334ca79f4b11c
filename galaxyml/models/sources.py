"""Encoders by name: `hf-hub:OWNER/NAME[@REVISION]` on the Hugging Face hub, `local-dir:FOLDER` in the same format."""

import re
from dataclasses import dataclass
from typing import Any, Self

from galaxyml.runs.errors import UserError

_SOURCE = re.compile(r"(hf[-_]hub|local-dir):(.*)", re.DOTALL)
_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@(.+))?", re.ASCII)


@dataclass(frozen=True)
class Source:
    """A repository of the hub, or a folder with the files of one.

    Attributes:
        place: `OWNER/NAME`, or the folder.
        revision: A branch, a tag or a commit; None for the main branch, and for a folder.
        is_folder: Whether it is a folder.
    """

    place: str
    revision: str | None = None
    is_folder: bool = False

    @classmethod
    def read(cls, text: Any) -> Self | None:
        """The source that a text names; None if it names none, as `resnet50` does.

        Raises:
            UserError: If it begins like one, and is none.

        >>> Source.read("hf_hub:mwalmsley/zoobot-encoder-convnext_nano@main")
        Source(place='mwalmsley/zoobot-encoder-convnext_nano', revision='main', is_folder=False)
        """
        match = _SOURCE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            return None
        if match[1] == "local-dir":
            if not match[2]:
                raise UserError(f"'{text}': give the folder of config.json and weights, as in local-dir:FOLDER.")
            return cls(match[2], is_folder=True)
        if (named := _REPOSITORY.fullmatch(match[2])) is None:
            raise UserError(
                f"'{text}' is no repository of the hub: give hf-hub:OWNER/NAME or hf-hub:OWNER/NAME@REVISION."
            )
        return cls(named[1], named[2])

    def __str__(self) -> str:
        if self.is_folder:
            return f"local-dir:{self.place}"
        return f"hf-hub:{self.place}" + (f"@{self.revision}" if self.revision else "")
