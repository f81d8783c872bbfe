"""python -m showtell: the command line, as torchrun wants it. Of several processes one speaks."""

import os
import sys

from showtell.cli import main

SHARED = ("train", "score")  # what several processes do together


def run() -> int:
    """The exit code; of several processes the first prints, errors aside."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and command not in SHARED:
        print(
            f'"{command}" under torchrun with {os.environ["WORLD_SIZE"]} processes; wanted '
            f'{" or ".join(SHARED)}: run "showtell {command}" itself, in one process',
            file=sys.stderr,
        )
        return 2
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        sys.stderr.isatty = lambda: False  # type: ignore[method-assign]  # no second progress bar
    return main()


if __name__ == "__main__":
    sys.exit(run())
