"""What integration and chaos tests stand on: a whole corro in a temporary directory, as real processes."""

from tests.kit.postgres import PostgresServer
from tests.kit.process import ROOT, clean_environment, environment, tail
from tests.kit.waiting import eventually, never
from tests.kit.world import World, events_of, outcomes_of

__all__ = [
    "ROOT",
    "PostgresServer",
    "World",
    "clean_environment",
    "environment",
    "events_of",
    "eventually",
    "never",
    "outcomes_of",
    "tail",
]
