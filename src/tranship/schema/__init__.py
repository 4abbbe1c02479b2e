"""What tasks take and return, as JSON Schema, and what a change of it breaks for those who submit them."""

from tranship.schema._breaking import breaking_changes
from tranship.schema._describe import VERSION, describe, document
from tranship.schema._document import read_document

__all__ = ["VERSION", "breaking_changes", "describe", "document", "read_document"]
