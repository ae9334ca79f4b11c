"""Decoders without their warnings, in many threads at once."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

_lock = Lock()
_inside = 0
_filters = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps warnings of astropy and Pillow about headers silent: the pixels are what counts.

    Filters belong to the process, not to a thread: the first of several threads sets them, and the last one restores
    what was before, where `warnings.catch_warnings` in each would restore what another has set.
    """
    from astropy.utils.exceptions import AstropyWarning
    from PIL.Image import DecompressionBombWarning

    global _inside
    with _lock:
        if not _inside:
            _filters.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", AstropyWarning)
            warnings.simplefilter("ignore", DecompressionBombWarning)
            warnings.filterwarnings("ignore", module=r"(astropy|PIL)\.")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _filters.close()
