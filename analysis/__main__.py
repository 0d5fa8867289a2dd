"""`python -m analysis FILE` writes a report; see `cli.py`."""

import sys

from analysis.cli import main

if __name__ == "__main__":
    sys.exit(main())
