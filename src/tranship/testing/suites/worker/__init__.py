"""The suite of the worker, and the parts it is made of."""
