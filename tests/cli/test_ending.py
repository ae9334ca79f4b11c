"""How the command's own process ends: with its status, all that it printed, and what was left to be done at its end."""

import subprocess
import sys

import pytest

RUN = """
import atexit, sys, threading
from galaxyml import __main__
atexit.register(lambda: print("left at the end"))
def main():
    print("printed")
    {does}
__main__.main = main
__main__.command()
"""


@pytest.mark.parametrize(
    ("does", "status", "errors"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(2)", 2, ""),
        ("sys.exit('error: no')", 1, "error: no\n"),
        ("threading.Timer(0.2, lambda: print('worked on')).start(); sys.exit(3)", 3, ""),
    ],
)
def test_the_process_ends_with_the_commands_status_and_loses_nothing(does: str, status: int, errors: str) -> None:
    ran = subprocess.run([sys.executable, "-c", RUN.format(does=does)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (status, errors)
    assert ran.stdout.startswith("printed\n")
    assert ran.stdout.endswith("left at the end\n")
    assert ("worked on" in ran.stdout) == ("Timer" in does)


def test_an_error_of_the_programs_own_keeps_its_traceback() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", RUN.format(does="raise KeyError('x')")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.endswith("KeyError: 'x'\n")
