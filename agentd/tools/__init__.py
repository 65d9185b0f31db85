"""What the model may call on this device."""
