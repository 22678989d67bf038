"""A chip's report: figures as metrics.json, and one offline page that shows them."""
