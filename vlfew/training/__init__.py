"""Training on Accelerate."""
