"""The suite of both facades, and the parts it is made of."""
