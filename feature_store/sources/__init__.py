"""Where raw rows come from: files, databases, APIs, each behind the port `Source`."""
