"""Answers that nobody should give, as many as wanted, and what every adapter makes of each."""
