"""How fast predictions are projected onto a decision tree, against its divisive normalisation.

Both are run alternately in one process, and medians are compared, so that a noisy machine is unfair to none:

    .venv/bin/python benchmarks/projection.py

As many rows as the Kaggle challenge's test set has, in double precision: random numbers, predictions that are off by
0.1, values in the hundreds, and what obeys the tree already. The goal is below 2 s on two threads.
"""

from collections.abc import Callable
from unittest.mock import patch

import torch
from data_path import ROUNDS, alternate
from torch import Tensor

from galaxyml.trees import DecisionTree, normalise, project, violation
from galaxyml.trees.projection import _Rules

ROWS = 80_000
TREE = DecisionTree.load("kaggle")


def passes(values: Tensor) -> tuple[float, int]:
    """Newton steps that a row takes, after the first that takes all for positive: mean and most."""
    newton, sizes = _Rules.newton, []

    def counted(rules: _Rules, active: list[Tensor], gaps: list[Tensor]) -> list[Tensor]:
        sizes.append(len(active[0]))
        return newton(rules, active, gaps)

    most, total = 0, 0
    with patch.object(_Rules, "newton", counted):
        for part in values.split(8000):
            sizes.clear()
            project(part, TREE)
            most, total = max(most, len(sizes) - 1), total + sum(sizes[1:])
    return total / len(values), most


def on(values: Tensor, way: Callable[[Tensor, DecisionTree], Tensor]) -> Callable[[], None]:
    """One run of a way over all values."""

    def run() -> None:
        way(values, TREE)

    return run


def main() -> None:
    """Times both on each set."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(ROWS, len(TREE.columns), generator=generator, dtype=torch.double)
    uniform = torch.rand(noise.shape, generator=generator, dtype=torch.double)
    truth = normalise(uniform, TREE)
    sets = {"uniform": uniform, "off by 0.1": truth + 0.1 * noise, "far out": 300 * noise, "consistent": truth}
    print(f"{torch.get_num_threads()} threads, {ROWS:,} rows of {len(TREE.columns)}, medians of {ROUNDS} rounds")
    for name, values in sets.items():
        mean, most = passes(values)
        found = alternate({"project": on(values, project), "normalise": on(values, normalise)})
        print(
            f"  {name:<12}{found['project']:6.2f} s, {found['project'] / found['normalise']:4.1f} times normalise; "
            f"{mean:.1f} passes a row, {most} at most; largest gap {violation(project(values, TREE), TREE):.0e}"
        )


if __name__ == "__main__":
    main()
