"""Faregate: a payment gateway one person can host."""

__version__ = "0.1.0"
