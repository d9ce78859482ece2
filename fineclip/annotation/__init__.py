"""From captioned images to region-text data: boxes are proposed, described and written as shards.

Nothing is loaded here: proposers and captioners need libraries that only some runs use.
"""
