"""The simulated market as a process of its own, and the control of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.kit.process import ROOT, clean_environment, end
from worker.sandbox.control import SandboxControl


class SimulatedMarket:
    """The sandbox with the doors of some brokers.

    Args:
        home: where it keeps its ledger and its log.
        brokers: whose doors are open.
        fill_delay: seconds until it fills a marketable order.
        variables: of its environment, beyond a clean one.
    """

    def __init__(self, home: Path, brokers: Sequence[str], fill_delay: float, variables: Mapping[str, str]) -> None:
        arguments = ["--home", str(home), "--ports-any", "--fill-delay", str(fill_delay), "--doors", ",".join(brokers)]
        self._log = (home / "sandbox.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "worker.sandbox.server", *arguments],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env={**clean_environment(), **variables},
            cwd=ROOT,
            start_new_session=True,
        )  # fmt: skip
        try:
            self.control = SandboxControl.at(home)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        end(self.process)
        self._log.close()
