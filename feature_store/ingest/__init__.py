"""From raw rows to both stores: parsing, validation, staging, watermarks."""
