"""What configuration and deployment files say: settings that keep state in the process, and how many of it there are.

Two sources. Python: settings and calls of well-known libraries, in files whose facts say that it is worth a closer
look. Text: gunicorn's configuration, Procfile, Dockerfile, compose, Kubernetes, nginx and their like, read by small
parsers of our own that say nothing where they do not understand.
"""

from __future__ import annotations

from statekit.audit.deploy.entry import Deployment, beside, deployment
from statekit.audit.deploy.names import wanted
from statekit.audit.deploy.running import Running, Said

__all__ = ["Deployment", "Running", "Said", "beside", "deployment", "wanted"]
