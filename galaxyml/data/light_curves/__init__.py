"""Light curves: read once, kept as ragged columns, shown in random views."""
