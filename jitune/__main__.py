"""`python -m jitune` is the command `jitune`."""

import sys

from jitune.cli import main

if __name__ == "__main__":
    sys.exit(main())
