"""What the command lines ask for."""
