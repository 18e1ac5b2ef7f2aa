"""The command line, `corro`: the commands of `producers.cli`, and those that need the worker. Starts in `main`."""
