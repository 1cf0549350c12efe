"""Speech: the loss of a transducer, what it says, and how many words are wrong."""
