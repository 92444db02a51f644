"""From whole scenes and what is known of the ground to a dataset of tiles."""
