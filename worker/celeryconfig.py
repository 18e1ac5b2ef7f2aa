"""Celery's settings, each with its reason. Read when the app is first used, not when it is imported.

Source: docs/facts/celery.md#3.6.
"""

from __future__ import annotations

from kombu import Queue

from models.settings import load_settings
from worker.messaging.transport import SCHEME, install

_settings = load_settings()
install()

# Where the queue is, kombu does not read: it gets the connections that strategies get, too.
broker_url = f"{SCHEME}://queue"
worker_consumer = "worker.messaging.consuming:QueueConsumer"
# The database has the results.
result_backend = None
task_ignore_result = True
task_store_errors_even_if_ignored = False
# A worker that dies gives its message back; running it twice changes nothing, because the claim on the row decides.
task_acks_late = True
task_reject_on_worker_lost = True
task_acks_on_failure_or_timeout = True  # a failing order is a row, never a redelivery loop
worker_prefetch_multiplier = 1
# One queue set per broker; an unknown queue is an error instead of a silent new list.
task_queues = [
    Queue(f"{kind}.{name}", routing_key=f"{kind}.{name}")
    for name in _settings.all_brokers
    for kind in ("control", "orders", "data")
]
task_create_missing_queues = False
task_serializer = "json"
accept_content = ["json"]
task_send_sent_event = False
worker_send_task_events = False
# `corro fleet`, `halt` and `drain` go through the database; Celery's remote control is one more way to end a worker.
worker_enable_remote_control = False
worker_disable_rate_limits = True
worker_hijack_root_logger = False
worker_redirect_stdouts = False
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
worker_cancel_long_running_tasks_on_connection_loss = False
imports = ("worker.tasks",)
# Threads: one process is one broker connection, and its event loops live in it (docs/facts/celery.md#3.1).
worker_pool = "threads"
worker_concurrency = 4
broker_transport_options = {
    # Longer than a batch can take (fresh + deadline), short enough that a dead worker's messages come back soon.
    "visibility_timeout": 60,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "health_check_interval": 10,
    "queue_order_strategy": "priority",  # cancels before orders before data
    "address": _settings.queue_address,
    "master": _settings.redis_master,
}
