"""The suites of the ports, and the parts they are made of."""
