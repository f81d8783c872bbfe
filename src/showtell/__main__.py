"""The command ``showtell``, and ``python -m showtell`` as torchrun wants it: of several processes
one speaks."""

import _signal  # without the enum that signal makes of its numbers: this is to be there at once
import os
import sys

# Ctrl-C while modules are imported would end in a traceback.
_signal.signal(_signal.SIGINT, lambda number, frame: os._exit(130))

SHARED = "train"  # what several processes do together


def run() -> int:
    """The exit code; of several processes the first prints, errors aside."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # "showtell recipes >&-"
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and command != SHARED:
        print(
            f'"{command}" under torchrun with {os.environ["WORLD_SIZE"]} processes; wanted '
            f'{SHARED}: run "showtell {command}" itself, in one process',
            file=sys.stderr,
        )
        return 2
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        sys.stderr.isatty = lambda: False  # type: ignore[method-assign]  # no second progress bar
    from showtell.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
