"""Light curves of the simulated sky: what stars, supernovae and active nuclei do, seen through the cadence of LSST."""
