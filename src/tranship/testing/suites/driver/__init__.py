"""The suites of a driver's primitives, below the ports."""
