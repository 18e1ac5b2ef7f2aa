"""The entry of `corro`: imports are most of the time that a command takes, so most Ctrl-C come during them."""

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
