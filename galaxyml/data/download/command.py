"""Public data, fetched, checked and put where the tasks read them: `python -m galaxyml fetch NAME…`."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from galaxyml.data.download import hub, manifest
from galaxyml.data.download.download import Remote, file_digest
from galaxyml.data.download.manifest import Dataset, File
from galaxyml.data.download.remotes import Remotes
from galaxyml.data.download.server import RetryPolicy, open_session
from galaxyml.data.download.store import State, Store, holding
from galaxyml.runs.errors import DataError
from galaxyml.runs.files import check_space, file_lock, free_space
from galaxyml.runs.options import Parser
from galaxyml.runs.progress import heartbeat

if TYPE_CHECKING:
    from requests import Session

EXAMPLES = """\
examples:
  python -m galaxyml fetch --list
  python -m galaxyml fetch galaxy10
  python -m galaxyml fetch spirals surveys-sdss --to /big/data
  python -m galaxyml fetch galaxyzoo                  (needs a Kaggle account and galaxyml[kaggle])
  python -m galaxyml fetch gz_ukidss-tiny             (of the Hugging Face hub; HF_TOKEN where it asks for one)
  python -m galaxyml fetch gz_evo --shards 2
  python -m galaxyml fetch --check

Run the same command again after a break: it goes on where it was."""

RETRIES = RetryPolicy()
MIRROR = "GALAXYML_MIRROR"
ADVICE = "Free some space, or choose another folder by --to."
THERE = (State.WHOLE, State.OWN)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, and fetches, lists or checks."""
    parser = Parser(
        prog="galaxyml fetch",
        description="Fetches public data into the folder that tasks read as data_dir.",
        epilog=EXAMPLES,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to fetch, or to check; --list has the names")
    parser.add_argument("--to", type=Path, default=Path("data"), help="folder of all data (default: data)")
    parser.add_argument(
        "--mirror",
        default=os.environ.get(MIRROR) or None,
        metavar="URL",
        help=f"address where an institute keeps the files under their own names (default: ${MIRROR})",
    )
    parser.add_argument(
        "--shards", type=int, metavar="N", help="of a data set of the hub the first N parts to train on and to test on"
    )
    parser.add_argument("--list", action="store_true", help="what there is, and what of it is here")
    parser.add_argument("--check", action="store_true", help="read all that is here and name what is damaged")
    given = parser.parse_args(arguments)
    if not (given.names or given.list or given.check):
        parser.error("give a NAME, --list or --check")
    if given.shards is not None and given.shards < 1:
        parser.error("--shards: it must be 1 or more")
    store = Store(given.to.expanduser())
    try:
        datasets = manifest.load()
        chosen = manifest.select(datasets, given.names or datasets)
        if given.list:
            show(store, chosen)
        elif given.check:
            check(store, chosen)
        else:
            with heartbeat(lambda: f"fetching {', '.join(given.names)}"):
                fetch(store, chosen, datasets, given.mirror, given.shards)
    except KeyboardInterrupt:
        print("Interrupted; what was downloaded is kept, and the same command goes on from there.", file=sys.stderr)
        sys.exit(130)


def fetch(
    store: Store,
    chosen: Sequence[Dataset],
    datasets: dict[str, Dataset],
    mirror: str | None,
    shards: int | None = None,
) -> None:
    """Fetches what is missing of some datasets, and says which command comes next.

    Args:
        store: The folder of all data.
        chosen: What is wanted.
        datasets: All there is: what another of them has fetched is not fetched again.
        mirror: Address of a mirror, or None.
        shards: How many parts of each split are wanted of data sets of the hub; None for all.

    Raises:
        UserError: If a file cannot be had, is not what was published, or does not fit the disk.
    """
    with open_session() as session, hub.open_session() as hub_session:
        chosen, licences = _resolved(store, chosen, hub_session, shards)
        lacking = _lacking(store, chosen)
        everywhere = manifest.places([*datasets.values(), *chosen])
        if lacking:
            remotes = Remotes(session, RETRIES, mirror, hub_session, licences)
            wanted = [file for file in lacking if holding(store, file, everywhere[file]) is None]
            remote_of = {file: remotes.find(file) for file in wanted}
            if remote_of:
                _announce(store, chosen, remote_of)
            for file, places in lacking.items():
                with file_lock(store.download_path(file)):
                    origin = holding(store, file, everywhere[file])  # another process may have brought it meanwhile
                    if origin is None:
                        origin = _bring(store, remotes, remote_of.get(file) or remotes.find(file), file, places[0])
                    _share(store, file, origin, places)
    for dataset in chosen:
        some = (
            f": the first {shards} of the parts of each split are there."
            if dataset.hub and shards
            else " is all there."
        )
        print(dataset.name + some + (f" {dataset.note}" if dataset.note else ""))
        if dataset.next:
            data_dir = shlex.quote(f"data_dir={store.root / dataset.data_dir}")
            print(f"Next: python -m galaxyml {dataset.next} {data_dir}")


def show(store: Store, datasets: Sequence[Dataset]) -> None:
    """Prints what there is: name, task, size, licence, and what of it is here."""
    rows = [("name", "task", "download", "state", "licence", "what")]
    for dataset in _known(store, datasets):
        files = set(dataset.places.values())
        about = dataset.hub.about if dataset.hub is not None else None
        sizes = [file.roughly for file in files] or [int(about) if about else None]
        size = _bytes(sum(count for count in sizes if count)) if any(sizes) else "?"
        sources = {dataset.hub.source} if dataset.hub is not None else {file.source for file in files}
        licences = sorted({source.licence for source in sources})
        rows.append(
            (
                dataset.name,
                dataset.task,
                size if all(sizes) or size == "?" else f"{size} + ?",
                _state(store, dataset),
                "; ".join(licences),
                dataset.what,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def check(store: Store, datasets: Sequence[Dataset]) -> None:
    """Reads all that is there of some datasets.

    Raises:
        DataError: If something is damaged; it is named.
    """
    damaged, seen = [], 0
    for file, places in manifest.places(_known(store, datasets)).items():
        for place in places:
            state = store.state(place, file)
            if state in (State.MISSING, State.PART):
                continue
            seen += 1
            if wrong := store.damage(place, file):
                damaged.append(place)
                print(f"{place}: {wrong}")
            else:
                unknown = state is State.OWN and (file.digest is None or file.unpack is not None)
                print(f"{place}: {'put by hand, and no digest is known' if unknown else 'whole'}")
    if damaged:
        _refuse_changed(store, damaged)
    if not seen:
        print(f"Nothing of that is in {store.root}.")


def _known(store: Store, datasets: Sequence[Dataset]) -> list[Dataset]:
    """Data sets with those of the hub as they were when it was asked for them, without asking it."""
    known = []
    for dataset in datasets:
        found = hub.listing(store.root, dataset.hub, None, RETRIES) if dataset.hub is not None else None
        known.append(hub.resolved(dataset, found) if found is not None else dataset)
    return known


def _resolved(
    store: Store, chosen: Sequence[Dataset], session: "Session", shards: int | None
) -> tuple[list[Dataset], dict[str, str | None]]:
    """Data sets with those of the hub as it has them, and what it says of the licence of each of its repositories."""
    resolved, licences = [], {}
    for dataset in chosen:
        found = hub.listing(store.root, dataset.hub, session, RETRIES) if dataset.hub is not None else None
        if dataset.hub is not None and found is not None:
            licences[dataset.hub.repo] = found.licence
        resolved.append(hub.resolved(dataset, found, shards) if found is not None else dataset)
    return resolved, licences


def _lacking(store: Store, chosen: Sequence[Dataset]) -> dict[File, list[str]]:
    """Missing files of some datasets with their places; raises DataError if one is not what was fetched."""
    lacking: dict[File, list[str]] = {}
    changed = []
    for file, places in manifest.places(chosen).items():
        states = {place: store.state(place, file) for place in places}
        changed += [place for place, state in states.items() if state is State.CHANGED]
        if missing := [place for place, state in states.items() if state in (State.MISSING, State.PART)]:
            lacking[file] = missing
    if changed:
        _refuse_changed(store, changed)
    return lacking


def _refuse_changed(store: Store, changed: Sequence[str]) -> NoReturn:
    paths = ", ".join(str(store.root / place) for place in changed)
    raise DataError(f"{paths}: not what was fetched. Move or delete it, then fetch it again by the same name.")


def _bring(store: Store, remotes: Remotes, remote: Remote, file: File, place: str) -> str:
    """Downloads a file to a place, which is returned."""
    path = store.download_path(file)
    if path.is_file():  # whole and checked, but a kill came before it was unpacked
        digest = file_digest(path, (remote.digest or "sha256:").partition(":")[0])
        if remote.digest not in (None, digest):
            path.unlink()
    if not path.is_file():
        digest = remotes.download(remote, file, path)
    store.put(path, digest, file, place)
    print(f"{store.root / place}: whole ({digest if remote.digest else 'no digest is published; kept for --check'}).")
    return place


def _share(store: Store, file: File, origin: str, places: Sequence[str]) -> None:
    """Makes what is at one place be at others, too."""
    for place in places:
        if store.state(place, file) not in THERE:
            store.link(place, origin)
            what = "a link to" if (store.root / place).is_symlink() else "a copy of"
            print(f"{store.root / place} is {what} {store.root / origin}.")


def _announce(store: Store, chosen: Sequence[Dataset], remote_of: dict[File, Remote]) -> None:
    """Says what will be fetched, under which licence, and what is to be cited; raises DataError if it does not fit."""
    print(f"To be fetched for {', '.join(dataset.name for dataset in chosen)}:")
    peak = final = 0
    for source in dict.fromkeys(file.source for file in remote_of):
        files = {file: remote for file, remote in remote_of.items() if file.source == source}
        print(f"  {source.title}, {source.page}")
        for file, remote in files.items():
            size = remote.size or remote.about or 0
            partial = store.partial_size(file)
            progress = f", {_bytes(partial)} of it are here" if partial else ""
            print(f"    {file.name}  {_bytes(size) if size else 'size unknown'}{progress}")
            becomes = int(file.unpacked or size) if file.unpack else 0
            peak = max(peak, final + size - partial + becomes)
            final += becomes or size
        licence = next(iter(files.values())).licence
        if source.hub is not None:
            print(f"    licence: {source.licence}{f' (the hub says {licence})' if licence else ''}")
        else:
            print(f"    licence: {f'{licence} (says Zenodo)' if licence else source.licence}")
        print(f"    to cite: {source.cite}")
    free = _bytes(free_space(store.root / ".fetch"))
    print(f"  {_bytes(final)} in the end, at most {_bytes(peak)} on the way; {free} are free.", flush=True)
    check_space(store.root / ".fetch", peak, ADVICE)


def _state(store: Store, dataset: Dataset) -> str:
    states = [store.state(place, file) for place, file in dataset.places.items()]
    if State.CHANGED in states:
        return "changed"
    complete = sum(state in THERE for state in states)
    if states and complete == len(states):
        return "whole"
    return f"part ({complete} of {len(states)})" if complete or State.PART in states else "missing"


def _bytes(count: int) -> str:
    """A number of bytes as people read it.

    >>> _bytes(3_400_000_000), _bytes(370_350)
    ('3.4 GB', '0.4 MB')
    """
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
