"""Errors that the user can put right, each in one message."""

import difflib
from collections.abc import Iterable, Mapping, Sequence


class UserError(ValueError):
    """An error that the user can put right: the message names the value, what is allowed and what to do next."""


class UsageError(UserError):
    """An error in what was typed, found before any work is done: the command's status is 2, as argparse has it."""


class DataError(UserError):
    """A file that cannot be used as it is; every run on the same files would fail alike."""


def diverged(path: object) -> UserError:
    """The error of a run whose model outputs NaN or infinity."""
    return UserError(
        f"{path}: the net's predictions are not finite, so training has diverged. "
        "Lower optim.lr or set trainer.gradient_clip_val=1, under another name=…."
    )


def shorten(items: Sequence[object], separator: str = ", ", shown: int = 5) -> str:
    """The first few of many, for a message.

    >>> shorten([1, 2, 3], shown=2)
    '1, 2 and 1 more'
    """
    rest = len(items) - shown
    return separator.join(map(str, items[:shown])) + (f" and {rest} more" if rest > 0 else "")


def near(name: str, choices: Iterable[str]) -> list[str]:
    """The choices nearest to a misspelt name, at most three; see `did_you_mean`.

    >>> near("sprial", ["disk", "spiral"]), near("nope", ["disk", "spiral"])
    (['spiral'], [])
    """
    choices = sorted(choices)
    swapped = {name[:i] + name[i + 1] + name[i] + name[i + 2 :] for i in range(len(name) - 1)}
    return sorted(swapped.intersection(choices)) or difflib.get_close_matches(name, choices, n=3, cutoff=0.7)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """The choices nearest to a misspelt name, as the end of an error message.

    Args:
        name: What the user wrote.
        choices: What there is.

    Returns:
        "Did you mean a or b?", or "There are: a, b, c." where nothing is near. Where two letters have changed places,
        only what they make when they change back.

    >>> did_you_mean("kagle", ["decals", "kaggle"])
    'Did you mean kaggle?'
    >>> did_you_mean("nope", ["decals", "kaggle"])
    'There are: decals, kaggle.'
    >>> did_you_mean("modle", ["mode", "model", "module"])
    'Did you mean model?'
    """
    choices = sorted(choices)
    close = near(name, choices)
    return f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(choices)}."


def config_error(error: Exception) -> str:
    """Hydra's error about a command in one line, with near names for a key that does not exist."""
    key, siblings = (getattr(error.__cause__, name, None) for name in ("full_key", "parent_node"))
    if "Could not override" not in str(error) or not key:
        text = str(error).replace(", set env var HYDRA_FULL_ERROR=1 to see chained exception", "")
        return " ".join(f"{text} {error.__cause__ or ''}".split())
    names = [str(name) for name in (siblings if isinstance(siblings, Mapping) else ()) if not str(name).startswith("_")]
    above, _, last = key.rpartition(".")
    if not names:
        return f"There is no key '{key}'. '{above}' is a value without keys."
    return f"There is no key '{key}'. {did_you_mean(last, names)} A new one takes a +: +{key}=…"
