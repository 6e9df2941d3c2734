"""Load and measurement: what is claimed about statekit, shown from outside.

`bench` and `suites` compare statekit with its peers (``make bench``); `fleet` is the load of the demo (``make demo``).
"""
