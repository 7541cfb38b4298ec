"""How the C library hands out the memory of large activations on a CPU."""

from __future__ import annotations

import ctypes
from typing import Callable, Optional


def keep_freed_memory() -> None:
    """Lets glibc's allocator keep freed memory in the process.

    By default it takes every large activation afresh from the kernel and gives it back, depending on what was
    allocated before; the page faults double the time of a 5 MB activation in one network and cost nothing in the
    next. Elsewhere than with glibc this does nothing.
    """
    mallopt = glibc_mallopt()
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)


def glibc_mallopt() -> Optional[Callable[[int, int], int]]:
    """glibc's function; None in other systems."""
    try:
        return ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return None
