"""The subcommands of `galaxyml`; without one of these words it trains."""

from importlib import import_module

# The module whose `main(arguments)` answers, what it takes, and what it does.
COMMANDS = {
    "predict": ("galaxyml.inference.predict", "RUN IMAGES… --out FILE", "predict new images or light curves"),
    "summary": (
        "galaxyml.inference.summary.command",
        "FOLDER",
        "what is in a folder of predictions: counts, distributions, the sky, examples",
    ),
    "alike": (
        "galaxyml.inference.alike.command",
        "RUN IMAGE… --among SET",
        "the objects of any set that are most like some",
    ),
    "report": ("galaxyml.cli.report", "FOLDER…", "write the report of a run or a sweep again, finished or not"),
    "compare": ("galaxyml.reports.compare", "RUN RUN…", "which run is better, on the objects that all predicted"),
    "ensemble": ("galaxyml.inference.ensemble", "RUN… --out FOLDER", "average finished runs: folds and models"),
    "bundle": ("galaxyml.inference.bundle", "RUN FILE.zip", "pack a finished run into one file that predicts anywhere"),
    "publish": (
        "galaxyml.inference.publish",
        "RUN OWNER/NAME",
        "put a finished run on the Hugging Face hub, with a model card",
    ),
    "label": (
        "galaxyml.labelling.command",
        "RUN FOLDER",
        "label images in a web page, those first that teach most; a table to train on",
    ),
    "page": ("galaxyml.page.command", "RUN…", "serve a web page on which people try finished runs"),
    "fetch": ("galaxyml.data.download.command", "NAME…", "fetch public data to where tasks read them (--list)"),
    "sky": ("galaxyml.sky.command", "FILE", "draw the simulated sky, or write a folder of labelled images"),
    "job": ("galaxyml.sweeps.run_job", "FOLDER", "run or continue the run whose configuration lies in a folder"),
}


def subcommand(arguments: list[str]) -> bool:
    """Answers a command line that begins with one of `COMMANDS`; returns whether it did.

    Raises:
        UserError: If the command cannot be carried out.
    """
    word = arguments[0] if arguments else ""
    if word in COMMANDS:
        import_module(COMMANDS[word][0]).main(arguments[1:])
    return word in COMMANDS
