"""What a household sees and touches: states, lights, sounds, button."""
