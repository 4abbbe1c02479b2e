"""Where Azolla's document imports :func:`~tranship.compat.azolla._internal.utils.setup_logging` from."""
