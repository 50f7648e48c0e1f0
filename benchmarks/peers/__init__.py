"""Side by side with what users would pick instead: `make bench-peers`. Peers are used through their public API alone."""
