"""What the tests stand on: a sound card, a network and a bad link, none of them real."""
