"""Evaluation: suites of films, methods beside each other, tables and a report."""
