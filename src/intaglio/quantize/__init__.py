"""From a float checkpoint to an integer model: the one place that knows floats and integers."""
