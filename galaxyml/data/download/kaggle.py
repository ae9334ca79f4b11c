"""Files of Kaggle's competitions, by kagglehub and the user's own token."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from galaxyml.data.download.download import ADVICE, given_up
from galaxyml.data.download.server import RetryPolicy, TransientError, retried
from galaxyml.runs.errors import UserError
from galaxyml.runs.files import unwritable

TOKEN = (
    "Make one at https://www.kaggle.com/settings/api (a free account will do) and put it into the variable "
    "KAGGLE_API_TOKEN or into ~/.kaggle/access_token; an older kaggle.json belongs into ~/.kaggle."
)


def check_credentials() -> None:
    """Makes sure, before anything is asked for, that there are kagglehub and a token.

    Raises:
        UserError: If there are not.
    """
    if find_spec("kagglehub") is None:
        raise UserError("Kaggle's data need its client: pip install 'galaxyml[kaggle]'.")
    from kagglehub.config import get_kaggle_credentials

    try:
        credentials = get_kaggle_credentials()
    except ValueError as error:  # of a kaggle.json
        raise UserError(f"{error}. {TOKEN}") from None
    if credentials is None:
        raise UserError(f"Kaggle's data need a token of yours, and there is none. {TOKEN}")


def partial_folder(path: Path) -> Path:
    """Folder in which kagglehub keeps its part of a file that is downloaded to a path."""
    return path.with_name(path.name + ".kaggle")


def partial_size(path: Path) -> int:
    """Bytes that are there of a file that is downloaded to a path."""
    return sum(file.stat().st_size for file in partial_folder(path).rglob("*") if file.is_file())


def download(competition: str, path: Path, policy: RetryPolicy) -> None:
    """Downloads a file of a competition, going on with what an earlier attempt has left.

    Args:
        competition: As in the address of its page.
        path: Where the file appears when it is whole; its name is the file's name at Kaggle.
        policy: How long Kaggle is waited for.

    Raises:
        UserError: If Kaggle cannot be reached or does not give the file to this user, or the disk is full.
    """
    import kagglehub

    logging.getLogger("kagglehub").setLevel(logging.WARNING)  # it names its own cache folder
    cache = partial_folder(path)

    def attempt() -> str:
        with _refusals(competition):
            return kagglehub.competition_download(competition, path=path.name)

    try:
        # kagglehub 1.0 resumes in its cache, but not in a folder that is given as `output_dir`.
        os.environ["KAGGLEHUB_CACHE"] = str(cache)
        downloaded = retried(attempt, path.name, policy, lambda: partial_size(path))
        os.replace(downloaded, path)
        shutil.rmtree(cache)
    except TransientError as error:
        raise UserError(given_up(path.name, partial_size(path), error)) from None
    except OSError as error:
        raise unwritable(path, error, ADVICE) from error


@contextmanager
def _refusals(competition: str) -> Iterator[None]:
    """Turns what Kaggle refuses into a sentence."""
    import requests
    from kagglehub.exceptions import DataCorruptionError

    page = f"https://www.kaggle.com/competitions/{competition}"
    try:
        yield
    except DataCorruptionError:
        raise TransientError("what came was damaged on the way") from None
    except requests.exceptions.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        sentences = {
            401: f"Kaggle does not know the token (401). {TOKEN}",
            403: f"Kaggle does not give you the files of {competition} (403). Open {page}/rules, log in, join the "
            "competition and accept its rules, then run the same command.",
            404: f"Kaggle has no such file in {competition} (404); {page}/data lists them.",
        }
        if status in sentences:
            raise UserError(sentences[status]) from None
        raise TransientError(f"Kaggle answers {status}") from None
