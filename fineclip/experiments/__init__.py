"""Complete small experiments on the built-in scenes."""
