"""Files of weights and of nets, in our own format and in those of others."""
