"""What a person reads about a result: one self-contained HTML page."""

from terradelta.report.html import write_report
from terradelta.report.pictures import Quicklooks

__all__ = ["Quicklooks", "write_report"]
