"""python -m showtell.cli: the verbs, without what __main__ of the package does for torchrun."""

import sys

from showtell.cli import main

sys.exit(main())
