"""Rings: messages that only say "look at the database". What kombu spends on messages is not spent on them.

The bell marks its messages: everything in them has a row that was committed before. Losing one costs the two seconds
until the sweep, so a ring is not written to Redis a second time for its acknowledgement (docs/facts/celery.md#4.2: half
the cost of a message), and where many wait in a queue they are taken together, one claim for all of them. A message
without the mark, from a producer that is not ours, may be all there is of an order: it keeps kombu's acknowledgement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import redis
import structlog
from kombu.message import Message
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from models import encoding
from models.troubles import trouble
from producers.bell import RING, SINGLE_RING
from worker.messaging.handover import Handover, handover

if TYPE_CHECKING:
    from redis.commands.core import Script

log = structlog.get_logger()

#: Characters of a message in the log.
_SHOWN = 2_000
#: Rings taken beside the first one; a claim takes a hundred orders.
_MORE = 99
#: A reply this soon after the question means that more was waiting, seconds.
_AT_ONCE_S = 0.001
#: What only a message with the mark has in it, and the task of rings for orders.
_MARK, _SUBMIT = f'"{RING}":'.encode(), "orders.submit"
#: Takes rings of one order from the end of a queue that is served next, and stops at anything else.
_TAKE = """
local taken = {}
while #taken < tonumber(ARGV[1]) do
  local item = redis.call('LINDEX', KEYS[1], -1)
  if not item or not string.find(item, ARGV[2], 1, true) then break end
  taken[#taken + 1] = redis.call('RPOP', KEYS[1])
end
return taken
"""


class Rings(kombu_redis.QoS):
    """Kombu's bookkeeping of unacknowledged messages, which rings do without.

    So does a message that the queue would not note: BRPOP has taken it, and may have taken the only copy, so it is
    worked on from memory.
    """

    channel: Any  # kombu's private names are used of it

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._unnoted: set[str] = set()

    def append(self, message: Message, delivery_tag: str) -> None:
        """Remember a message; a ring only in this process."""
        if RING not in message.headers:
            try:
                super().append(message, delivery_tag)
                return
            except Exception as error:
                self.channel.sick = error
                self._unnoted.add(delivery_tag)
                log.warning("message_not_noted", id=message.headers.get("id"), error=trouble(error))
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Forget a message that was worked on; one that stays noted comes back, and finds nothing to claim."""
        try:
            if not self._is_in_memory(delivery_tag):
                super().ack(delivery_tag)
                return
        except Exception as error:
            self.channel.sick = error
        self._forget(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Forget a message, or give it back."""
        try:
            if not self._is_in_memory(delivery_tag):
                super().reject(delivery_tag, requeue=requeue)
                return
            if requeue:
                self.restore_by_tag(delivery_tag, leftmost=True)
        except Exception as error:
            self.channel.sick = error
            if requeue and delivery_tag in self._unnoted:
                log.error("message_not_given_back", message=repr(self._message(delivery_tag)._raw)[:_SHOWN])
        self._forget(delivery_tag)

    def restore_by_tag(self, tag: str, client: object = None, leftmost: bool = False) -> None:
        """Give a message back to its queue."""
        if not self._is_in_memory(tag):
            super().restore_by_tag(tag, client, leftmost)
            return
        message = self._message(tag)
        info = message.delivery_info
        with self.channel.conn_or_acquire(client) as connected:
            self.channel._do_restore_message(message._raw, info["exchange"], info["routing_key"], connected, leftmost)

    def _forget(self, tag: str) -> None:
        self._unnoted.discard(tag)
        virtual.QoS.ack(self, tag)

    def _is_in_memory(self, tag: str) -> bool:
        message = self._message(tag)
        return message is not None and (RING in message.headers or tag in self._unnoted)

    def _message(self, tag: str) -> Any:
        delivered: Any = self._delivered
        return delivered.get(tag)


class Gather:
    """Takes more rings along with one, where more are waiting.

    Args:
        channel: the channel that reads the queue.
        readable: checks a message; None means that it was set aside.
        set_aside: keeps a message that can be neither taken nor given back.
    """

    def __init__(
        self,
        channel: Any,
        readable: Callable[[bytes, bytes], bytes | None],
        set_aside: Callable[[bytes, bytes, str], None],
    ) -> None:
        self.channel, self.readable, self.set_aside = channel, readable, set_aside
        self._script: Script | None = None

    def __call__(self, queue: bytes, item: bytes) -> bytes:
        """Return the ring, with the orders of those that waited behind it."""
        if SINGLE_RING not in item or not self._is_busy():
            return item
        client = self.channel._create_client()
        try:
            self._script = self._script or client.register_script(_TAKE)
            waiting = self._script(keys=[queue], args=[_MORE, SINGLE_RING], client=client)
        except redis.RedisError:
            return item  # those that were taken have rows: the sweep finds them
        found = [item]
        others: list[bytes] = []
        for one in waiting:
            ring = self.readable(queue, one)
            if ring is not None:
                (found if SINGLE_RING in ring else others).append(ring)
        self._give_back(client, queue, others)
        return together(found)

    def _give_back(self, client: redis.Redis, queue: bytes, others: Sequence[bytes]) -> None:
        """Put messages that only looked like rings back to where they are read next, in their order."""
        if not others:
            return
        try:
            client.rpush(queue, *reversed(others))
        except redis.RedisError as error:
            for one in others:
                self.set_aside(
                    queue, one, f"taken along with rings, and the queue would not have it back: {trouble(error)}"
                )

    def _is_busy(self) -> bool:
        """Tell whether more is likely to wait: taking one alone is quicker where it is alone."""
        qos = self.channel.qos
        at_once = time.monotonic() - (self.channel._brpop_sent_at or 0.0) < _AT_ONCE_S
        return at_once or handover.is_busy or len(qos._delivered) > len(qos._dirty)


def hand_over(queue: str, item: bytes, to: Handover = handover) -> bool:
    """Hand a ring for orders to those who send, past Celery; False for any other message, and while they are busy."""
    if _MARK not in item:
        return False
    message = encoding.loads(item)
    headers = message["headers"]
    if headers["task"] != _SUBMIT or not headers.get(RING):
        return False
    return to.offer(queue, encoding.loads(message["body"])[1]["orders"])


def together(rings: Sequence[bytes]) -> bytes:
    """Make one message of several that submit orders; the guard has seen each."""
    if len(rings) == 1:
        return rings[0]
    message = encoding.loads(rings[0])
    orders = [order for one in rings for order in encoding.loads(encoding.loads(one)["body"])[1]["orders"]]
    message["body"] = encoding.text([[], {"orders": orders}, {}])
    message["headers"][RING] = len(orders)
    return encoding.dumps(message)
