"""Images: decoded once, kept, shown in random views."""
