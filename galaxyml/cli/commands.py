"""The subcommands of `galaxyml`; without one of these words it trains."""

from importlib import import_module

# The module whose `main(arguments)` answers, and what it does, in a line.
COMMANDS = {
    "predict": ("galaxyml.inference.predict", "what a finished run predicts for new images or light curves"),
    "report": ("galaxyml.reports.run_report", "the report of a run or a sweep again, finished or not"),
    "compare": ("galaxyml.reports.compare", "which of several runs is better, on the same objects"),
    "ensemble": ("galaxyml.inference.ensemble", "the mean of several runs, as one"),
    "bundle": ("galaxyml.inference.bundle", "a finished run as one file"),
    "page": ("galaxyml.page.command", "a web page to try a finished run on"),
    "fetch": ("galaxyml.data.download.command", "public data, put where tasks read them"),
    "sky": ("galaxyml.sky.command", "pictures of the simulated sky, or a folder of labelled images"),
}


def subcommand(arguments: list[str]) -> bool:
    """Answers a command line that begins with one of `COMMANDS`; returns whether it did."""
    if not arguments or arguments[0] not in COMMANDS:
        return False
    import_module(COMMANDS[arguments[0]][0]).main(arguments[1:])
    return True
