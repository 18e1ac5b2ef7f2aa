"""`python -m worker.cli`: the same as `corro`."""

from worker.cli.main import main

main()
