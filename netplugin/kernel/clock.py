"""Whether the host's clock goes by others. Source: adjtimex(2), linux/timex.h."""

from __future__ import annotations

import ctypes

_TIME_ERROR = 5
_STA_UNSYNC = 0x40


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("frequency", ctypes.c_long),
        ("max_error", ctypes.c_long),
        ("estimated_error", ctypes.c_long),
        ("status", ctypes.c_int),
        # The kernel writes more than is of interest here.
        ("_rest", ctypes.c_byte * 256),
    )


def is_synchronised() -> bool:
    """Tell whether a program keeps the clock right; also if the kernel does not tell, as some containers' do not."""
    answer = _Timex()
    # No modes: nothing is changed.
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(answer))
    return bool(state != _TIME_ERROR and not answer.status & _STA_UNSYNC)
