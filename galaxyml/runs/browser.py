"""The user's browser, and the port of a page for it."""

import argparse
import os
import sys
import webbrowser


def open_browser(address: str) -> bool:
    """Opens a page in the user's browser; returns whether there is one."""
    return _has_screen() and webbrowser.open(address)


def port(text: str) -> int:
    """The number of a port, as an option of a command has it.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text}: it must be a whole number from 1 to 65535.")
    return int(text)


def _has_screen() -> bool:
    """Whether a browser would have a window; those of a terminal would take it over."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
