"""SIGINT and SIGTERM end a run where nothing is lost, with the status that shells expect; a second one does at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = [signal.SIGINT, signal.SIGTERM]  # a cluster may have one more


class Stop(BaseException):
    """The end of the work, asked for by a signal.

    Args:
        number: The signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number

    @property
    def status(self) -> int:
        """Exit status, as shells have it: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number


class _Handler:
    """The handler of all signals that end a process."""

    pending: int | None = None  # number of the signal that came while it was held back
    holding = False  # whether signals are held back

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.holding and self.pending is None:
            self.pending = number
            return
        raise Stop(number)


_handler = _Handler()


def install() -> None:
    """Makes the signals end this process's work by `Stop`; a library's handlers, if there are any, go."""
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            signal.signal(number, _handler)


@contextmanager
def watched() -> Iterator[None]:
    """Within, a signal raises `Stop` in the main thread; afterwards the handlers are those of before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    install()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def held() -> Iterator[None]:
    """Within, the first signal only waits (`pending_signal`), for the work to end where it is best; a second raises.

    Raises:
        Stop: At the end of the block, if a signal came that nobody answered.
    """
    _handler.pending, _handler.holding = None, True
    try:
        yield
        if _handler.pending is not None:
            raise Stop(_handler.pending)
    finally:
        _handler.pending, _handler.holding = None, False


def pending_signal() -> int | None:
    """Number of the signal that came while signals were held back; None if none did."""
    return _handler.pending
