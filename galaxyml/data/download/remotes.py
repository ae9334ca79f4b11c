"""Addresses, sizes and digests of files: on Zenodo, in a bucket, on a mirror, with Kaggle, or on the hub."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from galaxyml.data.download import hub, kaggle
from galaxyml.data.download.download import Remote, download, file_digest
from galaxyml.data.download.manifest import File
from galaxyml.data.download.server import RetryPolicy, answer, content_length, retried, transient_errors
from galaxyml.runs.errors import DataError, UserError, shorten

if TYPE_CHECKING:
    from requests import Session

ZENODO = "https://zenodo.org"


@dataclass
class Remotes:
    """Finds files.

    Attributes:
        session: From `open_session`.
        policy: How long servers are waited for.
        mirror: Address that the files' names are joined to, or None. It is asked for all files but Kaggle's, as each
            user has to accept their rules, and the hub's, which has mirrors of its own.
        hub_session: From `hub.open_session`, for the hub's files.
        licences: What the hub says of the licence of each of its data sets.
    """

    session: "Session"
    policy: RetryPolicy
    mirror: str | None = None
    hub_session: "Session | None" = None
    licences: dict[str, str | None] = field(default_factory=dict)
    _records: dict[int, dict[str, Any] | None] = field(default_factory=dict, init=False)

    def find(self, file: File) -> Remote:
        """Finds a file.

        Raises:
            UserError: If there is none of its name, or there is no token for Kaggle.
        """
        source = file.source
        if source.kaggle is not None:
            kaggle.check_credentials()
            return Remote(file.name, lambda: source.page, about=file.roughly)
        if source.hub is not None:
            path = hub.address(source.hub, str(file.commit), file.name.removeprefix(f"{source.hub}/"))
            return Remote(file.name, lambda: path, file.size, file.digest, licence=self.licences.get(source.hub))
        if self.mirror is not None:
            return self._at(file, f"{self.mirror.rstrip('/')}/{quote(file.name)}")
        if source.zenodo is not None:
            return self._of_zenodo(file, source.zenodo)
        return self._at(file, f"{source.address}{quote(file.name)}")

    def _at(self, file: File, address: str) -> Remote:
        size = file.size or self._size(address)
        return Remote(file.name, lambda: address, size, file.digest, file.roughly)

    def _size(self, address: str) -> int | None:
        """Bytes of a file, if its server tells them; what is wrong with it is told better by the download."""
        try:
            with transient_errors(), answer(self.session, address, self.policy, "HEAD") as response:
                return content_length(response)
        except UserError:
            return None

    def _of_zenodo(self, file: File, number: int) -> Remote:
        address = f"{ZENODO}/records/{number}/files/{quote(file.name)}?download=1"
        if number not in self._records:
            self._records[number] = self._ask_zenodo(number)
        record = self._records[number]
        if record is None:
            return Remote(file.name, lambda: address, file.size, file.digest, file.roughly)
        try:
            listed = {entry["key"]: (int(entry["size"]), str(entry["checksum"])) for entry in record["files"]}
            licence = record["metadata"].get("license", {}).get("id")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"Zenodo describes record {number} in a way that is not understood ({error!r}).") from None
        if file.name not in listed:
            raise DataError(f"Record {number} of Zenodo has no {file.name}; it has {shorten(sorted(listed))}.")
        size, digest = listed[file.name]
        # What the publisher says counts before what others have said of the file, unless it is of another kind.
        if file.digest and not file.digest.startswith("md5:"):
            digest = file.digest
        return Remote(file.name, lambda: address, size, digest, size, licence)

    def _ask_zenodo(self, number: int) -> dict[str, Any] | None:
        """A record's description, or None if Zenodo does not tell now."""

        def ask() -> Any:
            with answer(self.session, f"{ZENODO}/api/records/{number}", self.policy) as response:
                return response.json()

        try:
            record = retried(ask, f"Zenodo's record {number}", replace(self.policy, tries=self.policy.unreached))
        except UserError as error:
            print(f"Zenodo does not describe record {number} now ({error}): sizes and digests are galaxyml's own.")
            return None
        return record if isinstance(record, dict) else None

    def download(self, remote: Remote, file: File, path: Path) -> str:
        """Downloads a file, and gives its digest; see `galaxyml.data.download.download.download`."""
        if file.source.hub is not None and self.hub_session is not None:
            with hub.refusals(file.source):
                return download(self.hub_session, remote, path, self.policy)
        if file.source.kaggle is None:
            return download(self.session, remote, path, self.policy)
        kaggle.download(file.source.kaggle, path, self.policy)
        return file_digest(path, "sha256")
