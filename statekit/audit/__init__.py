"""The state audit: reads a project's source, never imports it, and names the state its processes keep."""
