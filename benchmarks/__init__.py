"""Speed and memory of the app, and of its peers on the same maps."""
