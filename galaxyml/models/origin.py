"""Origin of a net's weights: where they come from, which images they expect, their licence, and whom to cite."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import PurePath
from typing import Any

import yaml
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from galaxyml.models.sources import Source
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError

SCALINGS = ("unit", "imagenet", "checkpoint")
GIVEN = "given"


@dataclass(frozen=True)
class Origin:
    """Where weights come from and which images they expect.

    Attributes:
        weights: A repository, a folder or a file; None for weights drawn at random.
        commit: Of the repository.
        scaling: `unit` for images in [0, 1] as they are, `imagenet` or `checkpoint` for images normalised by the mean
            and deviation of ImageNet or of the weights' own configuration, `given` for others.
        mean: Subtracted from each channel.
        std: What each channel is divided by then.
        channels: Of the images that the weights have seen, where it is known.
        size: Side in pixels of the images that the weights have seen, where it is known.
        licence: Of the weights, where it is known.
        terms: The licence's, in a few words.
        cite: References.
    """

    weights: str | None
    scaling: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    commit: str | None = None
    channels: int | None = None
    size: int | None = None
    licence: str | None = None
    terms: str | None = None
    cite: Sequence[str] = ()

    def record(self) -> dict[str, Any]:
        """Plain values, as a run's provenance has them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def sentence(self) -> str:
        """Weights and scaling in one line."""
        details = [
            *([f"commit {self.commit[:8]}"] if self.commit else []),
            *([f"licence {self.licence}{f' ({self.terms})' if self.terms else ''}"] if self.licence else []),
            *([f"learnt at {self.size} px"] if self.size else []),
        ]
        images = "images stay in [0, 1], not normalised"
        if self.scaling != "unit":
            mean, std = (", ".join(f"{number:.4g}" for number in constants) for constants in (self.mean, self.std))
            images = f"images are normalised by mean {mean} and standard deviation {std}"
        how = "model.mean, model.std" if self.scaling == GIVEN else f"model.scaling={self.scaling}"
        return f"weights of {', '.join([str(self.weights), *details])}; {images} ({how})"


def known_weights(*sources: str | None) -> dict[str, Any]:
    """What `conf/known_weights.yaml` says of weights: an encoder's source, or a file; the first of which it knows any.

    >>> known_weights("hf-hub:mwalmsley/zoobot-encoder-convnext_nano")["scaling"]
    'unit'
    """
    for text in sources:
        for entry in _entries() if text else ():
            if any(_fits(str(text), pattern) for pattern in entry["repositories"]):
                return {key: value for key, value in entry.items() if key != "repositories"}
    return {}


def _fits(text: str, pattern: str) -> bool:
    source = Source.read(text)
    if source is not None and not source.is_folder:
        return fnmatchcase(source.place, pattern)
    path = PurePath(source.place if source is not None else text)
    in_cache = (part for part in path.parts if part.startswith("models--"))  # models--OWNER--NAME/snapshots/COMMIT
    names = (*path.parts[-2:], path.stem, *(part.rpartition("--")[2] for part in in_cache))
    return any(fnmatchcase(name, pattern.partition("/")[2]) for name in names)


@cache
def _entries() -> list[dict[str, Any]]:
    return list(yaml.safe_load((CONF / "known_weights.yaml").read_text(encoding="utf-8")))


def input_scaling(
    published: Mapping[str, Any], known: str | None, scaling: str | None, mean: Any, std: Any
) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """How images are scaled for a net: a word for it, and mean and deviation of each channel.

    Args:
        published: `mean` and `std` of the weights' own configuration.
        known: What is known of the weights, one of `SCALINGS`.
        scaling: The user's choice of these, which wins.
        mean: The user's own mean, one number or one a channel; it wins over both.
        std: The user's own deviation, likewise.

    Raises:
        UserError: If the user's values are no such.
    """
    if mean is not None or std is not None:
        if mean is None or std is None:
            raise UserError("model.mean and model.std go together: give both, as in model.mean=0.5 model.std=0.25.")
        return GIVEN, _numbers("mean", mean), _numbers("std", std)
    word = scaling or known or "checkpoint"
    if word not in SCALINGS:
        raise UserError(f"model.scaling={word}: there are {', '.join(SCALINGS)}.")
    if word == "unit":
        return word, (0.0,), (1.0,)
    if word == "imagenet":
        return word, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    return word, _numbers("mean", published["mean"]), _numbers("std", published["std"])


def _numbers(name: str, given: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, given if isinstance(given, Sequence) and not isinstance(given, str) else [given]))
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or (name == "std" and min(numbers) <= 0):
        kind = "a number above 0" if name == "std" else "a number"
        raise UserError(f"model.{name}={given}: give {kind}, or one a channel, as in model.{name}=[0.5,0.5,0.5].")
    return numbers
