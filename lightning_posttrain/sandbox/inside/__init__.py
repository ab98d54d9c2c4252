"""What runs in the workers. Imports nothing of the package but itself, so that a worker starts without torch."""
