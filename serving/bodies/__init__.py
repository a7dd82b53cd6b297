"""Bodies of requests: read within limits, decoded strictly, cleaned, and given their schema."""
