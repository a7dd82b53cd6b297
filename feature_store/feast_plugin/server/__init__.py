"""What `feast serve` answers with: planned answers, written as text."""
