"""A fleet under load, seen from outside: the visitors, the balancer in front, and what their records prove."""
