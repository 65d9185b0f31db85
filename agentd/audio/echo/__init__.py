"""Echo: whether to cancel, how, and what to do without a canceller."""
