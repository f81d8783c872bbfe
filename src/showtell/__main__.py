"""python -m showtell: the command line, as torchrun wants it."""

import sys

from showtell.cli import main

if __name__ == "__main__":
    sys.exit(main())
