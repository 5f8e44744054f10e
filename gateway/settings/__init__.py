"""What the operator decides: one frozen Settings, from faregate.toml and the environment.

tables.py     what may be set: every table, key, default and bound, with the sentence that explains it
dangers.py    what each key allows alone but must not stand together
reading.py    files and environment -> Settings, or every mistake in one report

settings = load(Path("faregate.toml"), os.environ)      # raises SettingsError
"""

from gateway.settings.reading import load, parse
from gateway.settings.tables import Settings

__all__ = ["Settings", "load", "parse"]
