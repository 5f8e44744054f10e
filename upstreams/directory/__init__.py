"""The directory: the operator's own records of people, in a SQLite file of its own, asked without any network."""

from upstreams.directory.database import DirectoryError, Stats, stats
from upstreams.directory.loading import LoadReport, Preview, load, preview
from upstreams.directory.mapping import guess_mapping
from upstreams.directory.reading import LoadError
from upstreams.directory.settings import DirectorySettings, Rules

__all__ = [
    "DirectoryError", "DirectorySettings", "LoadError", "LoadReport", "Preview", "Rules", "Stats", "guess_mapping",
    "load", "preview", "stats",
]  # fmt: skip
