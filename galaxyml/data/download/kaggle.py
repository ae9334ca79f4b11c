"""Kaggle's competitions, by Kaggle's own client and the user's own token."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galaxyml.data.download.server import TransientError, passing
from galaxyml.runs.errors import UserError

if TYPE_CHECKING:
    from kagglesdk import KaggleClient

TOKEN = (
    "Make one at https://www.kaggle.com/settings/api (a free account will do) and put it into the variable "
    "KAGGLE_API_TOKEN or into ~/.kaggle/access_token; an older kaggle.json belongs into ~/.kaggle."
)


class Competition:
    """The files of one competition.

    Args:
        name: As in the address of its page.

    Raises:
        UserError: If Kaggle's client is not installed.
    """

    def __init__(self, name: str) -> None:
        if find_spec("kagglesdk") is None:
            raise UserError("Kaggle's data need its client: pip install 'galaxyml[kaggle]'.")
        self.name = name

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, roughly: Kaggle packs some of them on the way.

        Raises:
            UserError: If Kaggle cannot be reached, or does not give the files to this user.
        """
        from kagglesdk.competitions.types.competition_api_service import ApiListDataFilesRequest

        request = ApiListDataFilesRequest()
        request.competition_name, request.page_size = self.name, 200
        try:
            with self._allowed():
                listed = self._client.competitions.competition_api_client.list_data_files(request)
        except TransientError as trouble:
            raise UserError(f"Kaggle cannot be asked for {self.name} now: {trouble}. Try again later.") from None
        return {file.name: int(file.total_bytes) for file in listed.files}

    def address(self, file: str) -> str:
        """The address of a file, which holds for a few minutes.

        Raises:
            TransientError: If Kaggle cannot be reached now.
            UserError: If it does not give the file to this user.
        """
        from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFileRequest

        request = ApiDownloadDataFileRequest()
        request.competition_name, request.file_name = self.name, file
        with self._allowed(), self._client.competitions.competition_api_client.download_data_file(request) as response:
            return str(response.url)  # Kaggle's client has followed a redirect to a bucket

    @cached_property
    def _client(self) -> "KaggleClient":
        from kagglesdk import KaggleClient, get_access_token_from_env

        if get_access_token_from_env()[0]:
            return KaggleClient()
        username, key = _old_key()
        if not (username and key):
            raise UserError(f"Kaggle's data need a token of yours, and there is none. {TOKEN}")
        return KaggleClient(username=username, password=key)

    @contextmanager
    def _allowed(self) -> Iterator[None]:
        """Turns what Kaggle refuses into a sentence."""
        import requests

        with passing():
            try:
                yield
            except requests.exceptions.HTTPError as error:
                raise self._refused(error.response.status_code if error.response is not None else 0) from None

    def _refused(self, status: int) -> UserError:
        page = f"https://www.kaggle.com/competitions/{self.name}"
        if status == 401:
            return UserError(f"Kaggle does not know the token (401). {TOKEN}")
        if status == 403:
            return UserError(
                f"Kaggle does not give you the files of {self.name} (403). Open {page}/rules, log in, join the "
                "competition and accept its rules, then run the same command."
            )
        if status == 404:
            return UserError(f"Kaggle has no such file in {self.name} (404); {page}/data lists them.")
        return TransientError(f"Kaggle answers {status}")


def _old_key() -> tuple[str | None, str | None]:
    """User name and key of the older kind, from the environment or a kaggle.json where Kaggle's command looks."""
    found: dict[str, Any] = {}
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    folders = [os.environ.get("KAGGLE_CONFIG_DIR"), "~/.kaggle", f"{config}/kaggle"]
    for path in [Path(folder).expanduser() / "kaggle.json" for folder in folders if folder]:
        if path.is_file():
            try:
                found = dict(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                raise UserError(f"{path} cannot be read ({error}). {TOKEN}") from None
            break
    return os.environ.get("KAGGLE_USERNAME") or found.get("username"), os.environ.get("KAGGLE_KEY") or found.get("key")
