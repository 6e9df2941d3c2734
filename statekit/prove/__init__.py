"""The proof for an app of your own: one process, then several pods, under the same load; where do the answers differ?

`statekit prove APP --locustfile F` runs it. In the locustfile, say what must hold:

    from statekit.prove import at_most, ignored, invariant

    at_most(5, "logins let through", of="POST /login")                    # judged over all visitors, at the end
    invariant("the cart holds what I added", added <= in_the_cart)        # judged here and now
    ignored("request_id", "worker")                                       # fields that may differ

Under plain locust these do nothing.
"""

from __future__ import annotations

from statekit.prove.declared import at_most, ignored, invariant

__all__ = ["at_most", "ignored", "invariant"]
