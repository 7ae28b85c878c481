"""Runs the command line: `python -m bench`."""

import os
import sys

# GNU OpenMP, which PyTorch uses on Linux: threads that wait for each other look only briefly, then sleep.
# Where others need the cores
# too, looking on costs minutes; where none do, this costs nothing (docs/speed.md). Before torch is imported;
# workers inherit it.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

try:
    from bench.cli.main import main
    from bench.util.memory import keep_freed_memory

    keep_freed_memory()
    status = main()
except KeyboardInterrupt:  # also while importing
    status = 130
sys.exit(status)
