"""Keeps freed memory in the process, ready for the next tensor."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's <malloc.h>


def keep_freed_memory() -> None:
    """Ask glibc not to return freed blocks to the system after every layer.

    Otherwise large tensors need new pages each time, with a page fault for each. On one core this takes a
    third of the time of a small network (docs/speed.md). It has no effect under other allocators, or where
    the user has tuned glibc's.
    """
    if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
