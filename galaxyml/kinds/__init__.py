"""Kinds of target, a folder each: losses, heads, metrics, stages and figures."""
