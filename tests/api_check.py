"""`make api-check`: schemathesis drives the page's server over a sandbox by what its OpenAPI document says.

It looks for answers that the document does not have, and for what no request may cause: a status of 500. The stream of
events is left out, as it does not end; that a valid object may be refused is no fault here, for prices have to fit the
type of an order.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from models.messages import OrderRequest
from models.settings import load_settings
from producers import OrderClient
from tests.foreign.environments import ROOT, built
from tests.unit.page_server import serving
from worker.control.keys import add
from worker.local.processes import Fleet

#: Judged elsewhere, or not so: what is valid may be refused, this machine may read without a token, /login is a page as
#: well, which the document of what programs ask has not.
_NOT_JUDGED = "positive_data_acceptance,ignored_auth,unsupported_method,allow_header_conformance"


def main() -> int:
    """Run it; returns the exit status of schemathesis."""
    python = built(ROOT / ".venv-api" / "schemathesis", [ROOT / "requirements" / "api.lock"])
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(home=Path(folder))
        with Fleet(settings, sandbox=True, any_port=True) as fleet:
            fleet.wait_ready()
            with OrderClient(load_settings(home=Path(folder))) as client, serving(client) as port:
                client.submit(OrderRequest(client_order_id="0", symbol="KO", side="buy", quantity=1))
                _, token = add(client.database, "check", "token", by="api-check", owner="api-check", operator=True)
                command = [
                    str(python.with_name("schemathesis")), "run", f"http://127.0.0.1:{port}/api/openapi.json",
                    "-H", f"Authorization: Bearer {token}", "-n", "20", "--phases", "examples,coverage,fuzzing",
                    "--exclude-checks", _NOT_JUDGED, "--exclude-path", "/api/v1/events", "--continue-on-failure",
                    "--seed", "1", "--no-color",
                ]  # fmt: skip
                return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
