"""The page's server of this process, over a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from producers import OrderClient
from tests.kit import eventually
from worker.page.serving import server


@contextmanager
def serving(client: OrderClient) -> Iterator[int]:
    """Serve, and yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = server(client.settings, client)
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        eventually(lambda: made.started, 10)
        try:
            yield int(listener.getsockname()[1])
        finally:
            made.should_exit = True
            thread.join(10)
