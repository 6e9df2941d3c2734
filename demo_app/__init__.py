"""A small SaaS, run as several pods: the proof of statekit, and the first user of its public names."""
