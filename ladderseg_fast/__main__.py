"""`python -m ladderseg_fast`: the command `ladderseg`, for launchers that start modules."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
