"""Examples in docstrings hold; modules without any are not imported."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import galaxyml

ROOT = Path(galaxyml.__file__).parent
MODULES = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("galaxyml"):
            raise
        pytest.skip(f"{error.name} is not installed")
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed
