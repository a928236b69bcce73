"""Rate limits: how many tries and requests a client may have, and how that is counted over all processes."""
