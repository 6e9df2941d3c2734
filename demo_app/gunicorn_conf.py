"""How gunicorn runs a pod. ``gunicorn -c python:demo_app.gunicorn_conf demo_app.wsgi:app``."""

from __future__ import annotations

import gc
from typing import Any

from demo_app.settings import Settings

_settings = Settings.from_environment()

bind = _settings.bind
workers = int(_settings.workers)
threads = int(_settings.threads)
worker_class = "gthread"
preload_app = _settings.preload == "1"
keepalive = 5
timeout = 30
graceful_timeout = 10
loglevel = "warning"
control_socket_disable = True
proc_name = _settings.pod


def when_ready(server: Any) -> None:
    """Keep what the master imported out of the workers' garbage collections, so that its pages stay shared."""
    del server
    gc.collect()
    gc.freeze()


def post_worker_init(worker: Any) -> None:
    """Load the local copies of flags and tenants before the first request."""
    worker.app.wsgi().extensions["kit"].__enter__()


def worker_exit(server: Any, worker: Any) -> None:
    """Hand back what the worker held of the fleet: its connections and its share of their budget."""
    del server
    app = worker.app.callable
    if app is not None:
        app.extensions["kit"].close()
