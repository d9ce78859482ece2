"""What pictures of results share."""

from fineclip.visualization.colors import class_color

__all__ = ["class_color"]
