"""What is deployed, as data: arms, plans, promotion and their store."""
