"""Data sets of other programs, turned into the one layout that all commands take."""

from fineclip.importing.guessing import READERS
from fineclip.importing.run import DEFAULT_SHARES, Imported, import_data
from fineclip.importing.source import ImportOptions

__all__ = ["DEFAULT_SHARES", "READERS", "ImportOptions", "Imported", "import_data"]
