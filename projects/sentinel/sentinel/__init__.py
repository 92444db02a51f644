"""What the small Sentinel model is made, tested and shown with."""
