"""What a person sees and keeps: run folders, curves, messages."""
