"""One message to one service, in a process of its own: `python -m worker.notify.post`, asked and answering in JSON.

apprise speaks to a hundred services by as many libraries, which read whatever a service answers, however long it takes
and however large it is. So that no answer outlives its time, or takes the memory of a process that trades, a message
has a process, which is ended, and may have so much memory and no more.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys

#: Seconds that a message may take, the start of its process among them; and bytes of memory that it may have.
WITHIN_S, MOST_MEMORY = 20.0, 512 * 2**20


def post(url: str, title: str, body: str, urgency: str, within_s: float = WITHIN_S) -> str | None:
    """Have a process tell a service; returns why it was not taken, with whatever the service said, else None."""
    asked = json.dumps([url, title, body, urgency])
    command = [sys.executable, "-m", "worker.notify.post"]  # the URL is a secret, so it is no argument
    try:
        done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=within_s, check=False)
    except subprocess.TimeoutExpired:
        return f"it took longer than {within_s:g} s"
    try:
        said: str | None = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().rpartition("\n")[2]
        return f"the process that tells it ended with {done.returncode}: {last}"
    return said


def main() -> None:
    """Tell the service that the standard input names."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    from worker.notify.sending import notify

    json.dump(notify(*json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
