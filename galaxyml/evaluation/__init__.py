"""Parts that kinds of target share: bootstrap, calibration, intervals, figures, paired comparison."""
