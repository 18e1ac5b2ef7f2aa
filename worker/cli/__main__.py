"""The entry of `corro` and of `python -m worker.cli`: imports are most of a command's time, so most Ctrl-C come then."""

import sys

#: As shells call an end by SIGINT.
INTERRUPTED = 130


def main() -> None:
    """Run the command line; Ctrl-C ends it without a word, from the first import on."""
    try:
        from worker.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
