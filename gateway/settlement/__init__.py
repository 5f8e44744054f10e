"""Moves money on chain. Knows core alone; what it must write down goes through the Journal."""
