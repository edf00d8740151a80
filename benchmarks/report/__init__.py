"""Runs of `benchmarks.load` as one page that opens anywhere, and its plots.

`Run.read` reads the JSON of a run, `page.written` makes the HTML of several, `plots.overview` the picture.
"""
