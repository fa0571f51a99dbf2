"""The command line: one file a verb, each of which parses, calls one public function and prints.

Nothing is imported before `main` runs, so that a Ctrl-C ends the program in the same way from its
first moment on.

In: words. Out: a public function's result in sentences and tables, and an exit status.
Imported by nothing; imports everything.
"""

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; always ends in `SystemExit`: 0 done, 1 failed, 2 wrong usage.

    As in a shell, 130 says that it was interrupted, and 143 that it was terminated.
    """
    try:
        from .verbs import run

        run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt as stopped:
        sys.stderr.write("stopped.\n")
        sys.exit(128 + (stopped.args[0] if stopped.args else 2))
