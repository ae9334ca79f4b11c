"""The trials of a search, kept where several commands find them, on several machines; and who runs which.

A trial belongs to the command that has asked for it. A command gives a sign of life every minute; when it is gone, by
its process or for want of such signs, the next command takes its trials over, with the same numbers and parameters.

Optuna's own heartbeat does not do: it belongs to `study.optimize`, not to trials that are asked for; a lost trial comes
back under another number, and so in another folder, at the beginning; and it waits even where the process is known to
be gone. Files have none.
"""

import os
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galaxyml.runs.errors import UserError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial

BEAT = 60.0  # seconds between two signs of life
DEAD_AFTER = 5 * BEAT  # the clocks of machines may differ by a part of it

# What the trials and the study keep for us.
OWNER, OVERRIDES, PRUNED = "owner", "overrides", "pruned"  # of a trial
SPACE, FOLDS, ALIVE = "space", "folds", "alive"  # of the study


def require_optuna() -> Any:
    """Optuna, without what it says of itself.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError("A search needs Optuna, which is not installed: pip install 'galaxyml[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def open_storage(url: str | None, folder: Path) -> "BaseStorage":
    """Opens the storage of a study.

    Args:
        url: Of a database; None for the file `search.log` in `folder`, which may lie on a network's file system.
        folder: The sweep's.

    Raises:
        UserError: If the database cannot be opened.
    """
    require_optuna()
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if url is None:
        return JournalStorage(JournalFileBackend(str(folder / "search.log")))
    from sqlalchemy.exc import SQLAlchemyError

    # SQLite gives up after 5 s where another process writes.
    patient = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    try:
        return RDBStorage(url, engine_kwargs=patient)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise UserError(
            f"hydra.sweeper.storage={url} cannot be opened: {str(error).splitlines()[0]} "
            "It must be a database that SQLAlchemy reaches, such as sqlite:///search.db, or null for a file."
        ) from error


def check_same_study(study: "Study", direction: str, space: dict[str, str], folds: list[str]) -> None:
    """Keeps how a study is made, and makes sure that it is not carried on otherwise.

    Args:
        study: New or old.
        direction: `minimize` or `maximize`.
        space: What each key may be, as text.
        folds: Whose mean a trial's value is.

    Raises:
        UserError: If it is an old one that was made otherwise.
    """
    begun = study.user_attrs
    if SPACE not in begun:
        study.set_user_attr(FOLDS, folds)
        study.set_user_attr(SPACE, space)  # last: the others are there with it
        return
    direction_before = study.direction.name.lower()
    before = {**begun[SPACE], "fold": ",".join(begun[FOLDS]) or "one", "direction": direction_before}
    now = {**space, "fold": ",".join(folds) or "one", "direction": direction}
    for key in sorted(before | now):
        if before.get(key) != now.get(key):
            raise UserError(
                f"The study {study.study_name} was begun otherwise: {key} ({before.get(key, 'not there')} then, "
                f"{now.get(key, 'not there')} now). Choose another name=…, or give the same space to carry it on."
            )


@contextmanager
def alive(study: "Study") -> Iterator[str]:
    """Gives signs of life while the block runs.

    Yields:
        What this command is called as the owner of trials.
    """
    me = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:8]}"
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            study.set_user_attr(f"{ALIVE} {me}", time.time())

    study.set_user_attr(f"{ALIVE} {me}", time.time())
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield me
    finally:
        ended.set()
        thread.join()


def is_alive(owner: str | None, signs: dict[str, Any]) -> bool:
    """Whether the command that a trial belongs to still runs.

    Args:
        owner: Its name, as `alive` gave it, not the asking one's own; None if it was stopped before it had written it.
        signs: The study's attributes, among them the times of the last signs of life.
    """
    if owner is None or time.time() - signs.get(f"{ALIVE} {owner}", 0) > DEAD_AFTER:
        return False
    host, process, _ = owner.split()
    if host != socket.gethostname():
        return True
    if int(process) == os.getpid():  # the number was given anew, as it happens in containers
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextmanager
def file_lock(folder: Path) -> Iterator[None]:
    """One command at a time, of those that share a sweep's folder, hands out trials."""
    from optuna.storages.journal import JournalFileSymlinkLock

    # It is taken from one that was killed; asking for many trials may take minutes.
    lock = JournalFileSymlinkLock(str(folder / "search"), grace_period=600)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def orphaned_trials(study: "Study", me: str) -> "list[FrozenTrial]":
    """Takes over the trials whose commands are gone; one that never got as far as to be launched has failed."""
    from optuna.trial import TrialState

    orphans = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get(OWNER)
        if owner == me or is_alive(owner, study.user_attrs):
            continue
        if OVERRIDES not in trial.user_attrs:
            study.tell(trial.number, state=TrialState.FAIL)
            continue
        handle(study, trial.number).set_user_attr(OWNER, me)
        orphans.append(trial)
    return orphans


def launched(study: "Study") -> "list[FrozenTrial]":
    """The trials that were launched, in the order of their numbers."""
    return [trial for trial in study.get_trials(deepcopy=False) if OVERRIDES in trial.user_attrs]


def handle(study: "Study", number: int) -> "Trial":
    """A trial to report to, which another process has asked for."""
    from optuna.trial import Trial

    # A trial of another process is made from its id in the storage, which has no public name.
    return Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
