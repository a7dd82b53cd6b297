"""The prediction log: record, segments, shipping, table, labels."""
