"""The options of subcommands, with an answer to those that there are not."""

import argparse
from collections.abc import Sequence
from typing import Any

from galaxyml.runs.errors import UsageError, did_you_mean


class Parser(argparse.ArgumentParser):
    """Argparse's own, shown as it is laid out, that names an option which there is not, with near ones."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override] # argparse has overloads
        """As argparse's.

        Raises:
            UsageError: If there is no such option.
        """
        known = [option for option in self._option_string_actions if option.startswith("--")]
        for word in args or ():
            if word == "--":
                break
            name = word.partition("=")[0]
            if name.startswith("--") and not any(option.startswith(name) for option in known):
                raise UsageError(f"{self.prog} has no option {name}. {did_you_mean(name, known)}")
        return super().parse_args(args, namespace)
