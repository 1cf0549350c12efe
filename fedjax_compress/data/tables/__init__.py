"""Tables, from files of text, Parquet or Arrow: what ``csv`` and ``parquet`` share."""
