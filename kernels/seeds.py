"""Which seeds there are. Apart from the noise itself, because the command line checks seeds before it loads NumPy."""

# Seeds go from 0 to one less.
SEEDS = 2**32
