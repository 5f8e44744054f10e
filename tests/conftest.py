"""For every test: no test is timed. This machine is shared, and a slow one must not fail what is right."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
