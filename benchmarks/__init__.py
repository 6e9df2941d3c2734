"""Load and measurement: what is claimed about statekit, shown from outside."""
