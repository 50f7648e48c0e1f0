"""Processes and their lifecycle: the master, its roles, and the plumbing between them.

Not the place for what a job is or how it moves: that is `jobqueue`, which never imports this package.
"""
