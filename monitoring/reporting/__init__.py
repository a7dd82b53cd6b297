"""What a pass reports: page, metric samples, gauges, results."""
