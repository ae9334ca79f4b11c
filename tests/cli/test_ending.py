"""How the command's own process ends: with its status, all that it printed, and what was left to be done at its end."""

import subprocess
import sys

import pytest

from galaxyml.__main__ import starts_command

OWN, PROFILED = ["python", "-m", "galaxyml"], ["python", "-m", "cProfile", "-m", "galaxyml"]
RUN = """
import atexit, sys, threading
from galaxyml import __main__
atexit.register(lambda: print("left at the end"))
def main():
    print("printed")
    {does}
__main__.main = main
sys.orig_argv = {words}
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
    ran = subprocess.run(
        [sys.executable, "-c", RUN.format(does=does, words=OWN)], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (status, errors)
    assert ran.stdout.startswith("printed\n")
    assert ran.stdout.endswith("left at the end\n")
    assert ("worked on" in ran.stdout) == ("Timer" in does)


def test_an_error_of_the_programs_own_keeps_its_traceback() -> None:
    line = [sys.executable, "-c", RUN.format(does="raise KeyError('x')", words=OWN)]
    ran = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.endswith("KeyError: 'x'\n")


def test_where_another_program_runs_the_command_it_goes_on() -> None:
    code = RUN.format(does="pass", words=PROFILED) + "\nprint('the profile')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "printed\nthe profile\nleft at the end\n")


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["python", "-m", "galaxyml", "task=galaxyzoo", "-m", "fold=0,1"], True),
        (["python", "-W", "ignore", "-I", "-m", "galaxyml"], True),
        (["python", ".venv/bin/galaxyml", "-m", "fold=0"], True),
        (["python.exe", "galaxyml.exe"], True),
        (["python", "-m", "ipykernel_launcher", "-f", "kernel.json"], False),
        (["python", "/usr/bin/coverage", "run", "-m", "galaxyml"], False),
        (["python", "-c", "import galaxyml"], False),
        (["python"], False),
    ],
)
def test_the_process_is_its_own_if_python_was_started_for_it(words: list[str], own: bool) -> None:
    assert starts_command(words) == own
