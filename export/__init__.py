"""From weights to graphs that engines run fastest, and the choice among them by measurement under a rule of parity."""
