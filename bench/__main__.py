"""`python -m bench`."""

import sys

try:
    from bench.cli import main

    status = main()
except KeyboardInterrupt:  # also while importing
    status = 130
sys.exit(status)
