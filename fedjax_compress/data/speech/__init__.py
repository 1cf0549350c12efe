"""From recordings of speech to rows: reading, joining, log-mel features, symbols."""
