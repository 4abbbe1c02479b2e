"""For tests: of one's own tasks (pytest fixtures), of backends (the kit), against real brokers (services, faults).

Importing this package imports none of them.
"""
