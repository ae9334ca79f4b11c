"""A web page to try a trained run on: `python -m galaxyml page RUN`."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from galaxyml.runs.browser import port
from galaxyml.runs.errors import UsageError, UserError
from galaxyml.runs.options import Parser
from galaxyml.runs.packaged import packaged

EXAMPLES = """\
examples:
  python -m galaxyml page multirun/galaxyzoo/demo
  python -m galaxyml page multirun/galaxy10/mine multirun/plasticc/mine --open
  python -m galaxyml page model.zip --host 0.0.0.0 --port 8000
  python -m galaxyml page multirun/galaxyzoo/demo --among images/
  python -m galaxyml page multirun/galaxyzoo/demo --export space/

The page is for this machine alone unless --host says otherwise, and it fetches nothing from elsewhere."""
NEEDED = ("gradio", "captum")


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, and serves the page or exports it."""
    parser = Parser(
        prog="galaxyml page",
        description="Serves a web page on which people try finished runs on images or light curves of their own.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "runs",
        nargs="*",
        type=packaged,
        metavar="RUN",
        default=[packaged("sky")],
        help="folder of a run or of a sweep, or a bundle of it (.zip); without one sky, which comes with the package",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    parser.add_argument(
        "--port", type=port, help="port to listen on, from 1 to 65535 (default: the next free one from 7860)"
    )
    parser.add_argument(
        "--among",
        action="append",
        metavar="SET",
        default=[],
        help="a set whose most alike objects are shown, too, as galaxyml alike finds them; its images are shown to "
        "whoever can open the page",
    )
    parser.add_argument("--open", action="store_true", help="open a browser, if there is one")
    parser.add_argument(
        "--export", type=Path, metavar="FOLDER", help="write a folder that a Hugging Face Space can serve, and end"
    )
    given = parser.parse_args(arguments)
    _check(given.runs)
    if given.export is not None:
        if given.among:
            raise UsageError("--among is of a page that is served here; leave it out of --export.")
        from galaxyml.page.export import export

        export(given.runs, given.export)
    else:
        from galaxyml.page.serving import serve

        serve(given.runs, given.host, given.port, given.open, given.among)


def _check(runs: Sequence[Path]) -> None:
    """Makes sure, before anything heavy is loaded, that the page can be made.

    Raises:
        UserError: If a package or a run is not there.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UserError(f"The page needs {' and '.join(missing)}: pip install 'galaxyml[demo]'")
    for run in runs:
        if not run.exists():
            raise UsageError(f"{run} is not there. Give the folder of a finished run or sweep, or a bundle (.zip).")
