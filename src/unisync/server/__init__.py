"""Films dubbed for others: a REST interface, and the page that speaks to it. A doorstep: the work is behind `api`.

The web process decodes nothing and imports no torch: whatever opens a film is a worker with limits of its own.
"""
