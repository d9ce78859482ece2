"""A web page that asks models about photographs; importing it loads nothing yet."""
