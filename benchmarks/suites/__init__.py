"""The cases, a module a subject. Importing this registers them all; peers are imported when a case runs."""

from importlib import import_module
from pkgutil import iter_modules

for _module in sorted(one.name for one in iter_modules(__path__)):
    if _module != "apps":
        import_module(f"{__name__}.{_module}")
