"""Rewards: is an answer code in the right form, and does it pass its tests, in a sandbox."""
