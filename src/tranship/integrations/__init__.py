"""Where tranship meets other libraries: each module needs the one that it is named after, and nothing imports it."""
