"""Skeletons that several systems use."""
