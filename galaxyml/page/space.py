"""Serves an exported folder, at home or as a Hugging Face Space."""

import os
import sys
from pathlib import Path

from galaxyml.page.serving import LOOPBACK, serve
from galaxyml.runs.errors import UserError


def serve_folder(folder: Path) -> None:
    """Serves the bundles of a folder until it is interrupted.

    Args:
        folder: As `galaxyml.page.export` writes it. A Space says by `GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT` where
            it listens; elsewhere it is this machine alone.
    """
    on_space = "SPACE_ID" in os.environ  # which Hugging Face sets
    host = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0" if on_space else LOOPBACK)
    try:
        bundles = sorted(folder.glob("runs/*/model.zip"))
        if not bundles:
            raise UserError(
                f"{folder} has no runs/*/model.zip. Export it again: python -m galaxyml page RUN --export …"
            )
        serve(bundles, host)
    except UserError as error:
        sys.exit(f"error: {error}")
