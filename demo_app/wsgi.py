"""The WSGI entry point of a pod."""

from __future__ import annotations

from demo_app.app import create_app
from demo_app.settings import Settings

app = create_app(Settings.from_environment())
