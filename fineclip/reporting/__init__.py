"""Reports on runs: work dirs in, one HTML page out that needs nothing beside it."""

from fineclip.reporting.report import write_report

__all__ = ["write_report"]
