"""`python -m monsal.cli`, where the console script is not on the path."""

import sys

from monsal.cli.entry import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
