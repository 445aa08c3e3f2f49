"""Every table and figure of the paper: what is run for it, and what is made of the runs."""
