"""statekit makes Python web apps stateless."""

__version__ = "0.1.0"
