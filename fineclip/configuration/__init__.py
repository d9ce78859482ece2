"""Configs of mmengine, read and checked before anything heavy is imported."""
