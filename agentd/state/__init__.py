"""What survives a restart: small named JSON documents, never torn."""
