"""The Celery app: `celery -A worker worker -Q orders.NAME,control.NAME,data.NAME`, or `corro worker NAME`."""

from __future__ import annotations

from celery import Celery
from celery.signals import celeryd_init, setup_logging

from worker.bootstep import bind

app = Celery("corro")
app.config_from_object("worker.celeryconfig")
bind(app)


@celeryd_init.connect  # Celery warns before it sets up any log
@setup_logging.connect
def _our_logging(**_: object) -> None:
    from models.logs import configure
    from models.private import keep_private
    from models.settings import load_settings

    keep_private()
    configure(load_settings().log_level)
