"""The cases, a module a subject. Importing this registers them all; peers are imported when a case runs."""

from importlib import import_module
from pkgutil import iter_modules

FIRST = ("floors", "ratelimit", "leases", "asyncio_")
"""What sets the scale comes first; the rest by name."""

_modules = [one.name for one in iter_modules(__path__) if not one.ispkg]
for _module in sorted(_modules, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name)):
    import_module(f"{__name__}.{_module}")
