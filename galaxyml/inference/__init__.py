"""A finished run or bundle as a predictor of new images or light curves."""
