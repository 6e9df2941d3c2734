"""How gunicorn serves one pod of a proof: one process, so that a pod is a process; threads, so that requests overlap."""

from __future__ import annotations

workers = 1
worker_class = "gthread"
threads = 8
timeout = 60
graceful_timeout = 5
loglevel = "warning"
control_socket_disable = True
