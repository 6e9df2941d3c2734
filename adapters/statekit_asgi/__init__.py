"""statekit for ASGI: sessions, limits and tenants of an app on a shared store, as one pure middleware."""
