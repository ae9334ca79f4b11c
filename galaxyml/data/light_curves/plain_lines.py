"""Plain lines of light curves, read by a compiled loop; whatever else a line may hold is left to a slower parser.

numba compiles it when this module is imported: 0.5 s of processor time, 2.5 s the first time, with 150 MB of memory.
"""

from collections.abc import Sequence

import numba
import numpy as np

from galaxyml.data.light_curves.reader import BANDS, COLUMNS, HEADER, MJD, Rows

_COMMA, _NEWLINE, _RETURN, _MINUS, _PLUS, _POINT, _ZERO, _E, _LETTER_CASE = b",\n\r-+.0E "
_OBJECT, _MJD, _BAND, _FLUX, _ERROR, _DETECTED = range(len(HEADER))
_OTHER = -1  # a column that is not in HEADER
_BANDS = len(BANDS)
_EARLIEST, _LATEST = MJD

# Whole numbers below 2^53 and these powers of ten are exact as float64, so that one quotient or product of them is
# rounded correctly (Clinger 1990, "How to read floating point numbers accurately"). pandas computes the same one.
_EXACT = 2**53
_POWERS = 10.0 ** np.arange(23)
_WHOLE_POWERS = 10 ** np.arange(19)
_MOST_DIGITS = 18  # that an int64 holds, whatever they are
# Of longer numbers, pandas takes the first 17 digits, and rounds more than once.
_PANDAS_DIGITS = 17
_ROUNDED = 2.0**-50

_u = np.uint64  # in numba, a uint64 and an int64 make a float64: no other integers may come near
_ZEROS, _TO_TOP, _TOPS, _ONES = (_u(0x0101010101010101 * byte) for byte in (_ZERO, 0x76, 0x80, 0x01))


@numba.njit(inline="always")
def _eight(text, start):
    """Eight bytes as one number, the first the lowest; zeros after the end of the text."""
    i = _u(start)  # LLVM makes one load of these where no index can be negative
    if start + 8 <= len(text):
        return (
            _u(text[i])
            | _u(text[i + _u(1)]) << _u(8)
            | _u(text[i + _u(2)]) << _u(16)
            | _u(text[i + _u(3)]) << _u(24)
            | _u(text[i + _u(4)]) << _u(32)
            | _u(text[i + _u(5)]) << _u(40)
            | _u(text[i + _u(6)]) << _u(48)
            | _u(text[i + _u(7)]) << _u(56)
        )
    word = _u(0)
    for byte in range(len(text) - start):
        word |= _u(text[i + _u(byte)]) << _u(8 * byte)
    return word


@numba.njit(inline="always")
def _up_to_eight_digits(text, start):
    """The number that the digits from here on make, up to eight of them, and how many there are.

    All at once: Lemire 2022, "Parsing 8-digit numbers", after Wojciech Mula's SWAR arithmetic.
    """
    word = _eight(text, start) ^ _ZEROS  # digits become 0 to 9
    no_digit = ((word + _TO_TOP) | word) & _TOPS
    below = (no_digit & (~no_digit + _u(1))) - _u(1)  # all bits below the first byte that is no digit
    count = (((below & _TOPS) >> _u(7)) * _ONES) >> _u(56)
    word <<= _u(64) - _u(8) * count
    word = ((word * _u(10 * 2**8 + 1)) >> _u(8)) & _u(0x00FF00FF00FF00FF)
    word = ((word * _u(100 * 2**16 + 1)) >> _u(16)) & _u(0x0000FFFF0000FFFF)
    word = (word * _u(10_000 * 2**32 + 1)) >> _u(32)
    return np.int64(word), np.int64(count)


@numba.njit(inline="always")
def _digits(text, start):
    """The number that the digits from here on make, and how many there are; only right up to `_MOST_DIGITS`."""
    value, count = _up_to_eight_digits(text, start)
    more = count
    while more == 8 and count <= _MOST_DIGITS:
        following, more = _up_to_eight_digits(text, start + count)
        if more:
            value = value * _WHOLE_POWERS[_u(more)] + following
            count += more
    return value, count


@numba.njit(inline="always")
def _is(text, index, letter):
    return index < len(text) and text[_u(index)] == letter


@numba.njit(inline="always")
def _number(text, start):
    """A number without its sign, the relative error that any parser may make of it, and where it ends.

    Returns:
        The error is 0 where the number is exact up to one rounding. The end is 0 if it is not written plainly.
    """
    whole, digits = _digits(text, start)
    if digits == 0 or digits > _MOST_DIGITS:
        return 0.0, 0.0, 0
    end = start + digits
    exponent = 0
    if _is(text, end, _POINT):
        fraction, decimals = _digits(text, end + 1)
        if decimals == 0 or decimals > _MOST_DIGITS or (whole > 0 and digits + decimals > _MOST_DIGITS):
            return 0.0, 0.0, 0
        whole = whole * _WHOLE_POWERS[_u(decimals)] + fraction
        end += 1 + decimals
        digits += decimals
        exponent = -decimals
    if end < len(text) and text[_u(end)] & ~_LETTER_CASE == _E:
        end += 1
        lowers = _is(text, end, _MINUS)
        if lowers or _is(text, end, _PLUS):
            end += 1
        power, count = _digits(text, end)
        if count == 0 or count > 2:
            return 0.0, 0.0, 0
        exponent += -power if lowers else power
        end += count
    if abs(exponent) >= len(_POWERS):
        return 0.0, 0.0, 0
    value = whole * _POWERS[_u(exponent)] if exponent > 0 else whole / _POWERS[_u(-exponent)]
    error = 0.0
    if whole >= _EXACT or digits > _PANDAS_DIGITS:
        error = _ROUNDED
        if digits > _PANDAS_DIGITS:
            error += _POWERS[_u(digits - _PANDAS_DIGITS)] / max(whole, 1)
    return value, error, end


def _read(text, columns, ids, mjd, band, flux, error, detected):
    """Fills the columns; returns whether all lines are plain and all values allowed.

    Args:
        text: Bytes, uint8.
        columns: Which of `HEADER` each column of the file is, or `_OTHER`.
        ids: To be filled, as long as there are lines; so the others.
        mjd: The dates.
        band: The passbands.
        flux: The fluxes.
        error: Their standard errors.
        detected: The flags.
    """
    i, last = 0, len(columns) - 1
    for row in range(len(ids)):
        for place in range(len(columns)):
            column = columns[place]
            if column == _OTHER:
                while i < len(text) and text[_u(i)] not in (_COMMA, _NEWLINE, ord('"')):
                    i += 1
            elif i >= len(text):
                return False
            elif column in (_BAND, _DETECTED):
                digit = np.int64(text[_u(i)]) - _ZERO
                if digit < 0 or digit >= (_BANDS if column == _BAND else 2):
                    return False
                if column == _BAND:
                    band[row] = digit
                else:
                    detected[row] = digit == 1
                i += 1
            else:
                negative = text[_u(i)] == _MINUS
                i += negative
                if column == _OBJECT:
                    whole, count = _digits(text, i)
                    if count == 0 or count > _MOST_DIGITS:
                        return False
                    ids[row] = -whole if negative else whole
                    i += count
                else:
                    value, may_err, i = _number(text, i)
                    if i == 0:
                        return False
                    value = -value if negative else value
                    if column == _MJD:
                        if may_err > 0 or not _EARLIEST <= value <= _LATEST:
                            return False
                        mjd[row] = value
                    else:
                        single = np.float32(value)
                        if not np.isfinite(single) or (column == _ERROR and not single > 0):
                            return False
                        # In single precision it is the same for all parsers, but next to the middle of two.
                        if may_err > 0 and np.float32(value * (1 - may_err)) != np.float32(value * (1 + may_err)):
                            return False
                        if column == _FLUX:
                            flux[row] = single
                        else:
                            error[row] = single
            if place == last and _is(text, i, _RETURN):
                i += 1
            if i < len(text):
                if text[_u(i)] != (_NEWLINE if place == last else _COMMA):
                    return False
                i += 1
            elif place < last or text[_u(i - 1)] == _RETURN:
                return False
    return i == len(text)


def _compiled():
    def fixed(kind: numba.types.Type) -> numba.types.Array:
        return numba.types.Array(kind, 1, "C", readonly=True)

    filled = [numba.from_dtype(np.dtype(kind))[::1] for kind in COLUMNS.values()]
    signature = numba.boolean(fixed(numba.uint8), fixed(numba.int64), *filled)
    try:
        return numba.njit(signature, nogil=True, error_model="numpy", cache=True)(_read)
    except RuntimeError:  # there is no folder that numba may keep it in
        return numba.njit(signature, nogil=True, error_model="numpy")(_read)


_read_compiled = _compiled()


def read_plain(text: bytes, names: Sequence[str], rows: int) -> Rows | None:
    """The observations of some lines, the same to the bit as of `reader.parse`.

    Args:
        text: The lines.
        names: Columns of the file.
        rows: How many lines there are.

    Returns:
        As `COLUMNS` says; None if a line is blank, has quotes or blanks, a number too long to be exact or not written
        in digits, too few or too many values, or one that is not allowed.
    """
    columns = np.array([HEADER.index(name) if name in HEADER else _OTHER for name in names], np.int64)
    found = {name: np.empty(rows, kind) for name, kind in COLUMNS.items()}
    return found if _read_compiled(np.frombuffer(text, np.uint8), columns, *found.values()) else None
