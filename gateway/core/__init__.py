"""Decides. Pure: no I/O, no clock, no randomness, no async, no globals that change."""
