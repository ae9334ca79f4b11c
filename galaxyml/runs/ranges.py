"""Ranges of a configuration's numbers that several rooms check."""

from typing import Any

from galaxyml.runs.errors import UserError


def is_whole(value: Any) -> bool:
    """Whether it is a whole number; truths are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_whole(key: str, value: Any, lowest: int) -> None:
    """Raises UserError if a key's value is no whole number, or less than the lowest."""
    if not is_whole(value) or value < lowest:
        raise UserError(f"{key}={shown(value)}: it must be a whole number, {lowest} or more.")


def check_fold(fold: Any, folds: int) -> None:
    """Raises UserError if there is no such fold among so many."""
    if not is_whole(fold) or not 0 <= fold < folds:
        raise UserError(
            f"fold={shown(fold)}: with folds={folds} it must be a whole number from 0 to {folds - 1}. "
            "folds=… changes how many there are."
        )


def shown(value: Any) -> str:
    """A value in a message, nothing as it is typed.

    >>> shown(None), shown(0.5)
    ('null', '0.5')
    """
    return "null" if value is None else str(value)
