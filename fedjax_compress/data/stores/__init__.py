"""Rows as other simulators keep them, client by client, and tables of a database."""
