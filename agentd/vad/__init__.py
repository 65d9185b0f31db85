"""Voice activity: from 20 ms frames to utterances."""
