"""User-data: read as a whole, shown as steps, and carried out once."""
