"""The keys that a search varies, read from a configuration and a command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from galaxyml.runs.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

NOT_SEARCHED = ("task", "name", "seed", "folds")  # no properties of a good model


@dataclass(frozen=True)
class Space:
    """The keys that a search varies, and those that it leaves as they are.

    Attributes:
        keys: What each trial chooses: key -> what it may be.
        fixed: Overrides that all its runs have.
        folds: Whose mean a trial's value is; none where the user has swept none.
    """

    keys: "dict[str, BaseDistribution]"
    fixed: list[str]
    folds: list[str]

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """A trial's choices, as they are typed."""
        return [f"{key}={params[key]!s}" for key in self.keys]

    def runs(self, chosen: Sequence[str]) -> list[list[str]]:
        """The overrides of each run of a trial, by fold."""
        return [[*self.fixed, *chosen, *([f"fold={fold}"] if fold else [])] for fold in self.folds or [""]]


def read_space(params: Mapping[str, Any], arguments: Sequence[str], loader: ConfigLoader | None = None) -> Space:
    """The space that a configuration and a command line name; the command line wins.

    Args:
        params: Key -> what it may be, such as `choice(32,64)`.
        arguments: What the user typed, sweeps and plain values.
        loader: Of Hydra, for groups by `glob(*)`.

    Raises:
        UserError: If nothing is left to be searched, or something that cannot be.
    """
    parser = OverridesParser.create(config_loader=loader)
    try:
        parsed = parser.parse_overrides([*(f"{key}={value}" for key, value in params.items()), *arguments])
    except HydraException as error:
        raise UserError(f"hydra.sweeper.params: {error}") from error
    keys, fixed, folds = {}, [], []
    for name, override in {override.key_or_group: override for override in parsed}.items():
        if not override.is_sweep_override():
            fixed.append(override.input_line or "")
        elif name == "fold":
            folds = list(override.sweep_string_iterator())
        elif name in NOT_SEARCHED:
            raise UserError(f"{override.input_line}: a search cannot choose a {name}; give it a single value.")
        else:
            keys[override.get_key_element()] = _distribution(override)
    if not keys:
        raise UserError(
            "There is nothing to search. Give hparams=…, which names a space, or say what a key may be: "
            "'optim.lr=tag(log,interval(1e-4,1e-2))' 'batch_size=choice(32,64)'."
        )
    return Space(keys, fixed, folds)


def _distribution(override: Override) -> "BaseDistribution":
    """Optuna's distribution for a sweep of Hydra's. The end of a range is not part of it, as in a plain sweep.

    Raises:
        UserError: If there is no such number.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep: Any = override.value()
    try:
        if isinstance(sweep, IntervalSweep):
            kind: Any = IntDistribution if isinstance(sweep.start, int) else FloatDistribution
            return kind(sweep.start, sweep.end, log="log" in sweep.tags)
        if isinstance(sweep, RangeSweep) and isinstance(values := sweep.range(), range) and values.step > 0:
            return IntDistribution(values[0], values[-1], log="log" in sweep.tags, step=values.step)
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except (ValueError, IndexError) as error:
        raise UserError(f"{override.input_line}: {error}") from error
