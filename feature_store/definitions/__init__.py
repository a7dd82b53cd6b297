"""What a feature is: views, their schema and rules, and the engine that evaluates them."""
