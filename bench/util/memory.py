"""Memory that is freed stays with the process, ready for the next tensor."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's <malloc.h>


def keep_freed_memory() -> None:
    """Ask glibc not to hand freed blocks back to the system after every layer.

    Large tensors otherwise come back page by page, each with a fault: a third of the time of a small network on one core
    (docs/speed.md). Does nothing under other allocators, or where the user has tuned glibc's.
    """
    if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
