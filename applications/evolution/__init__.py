"""Evolution strategies of evosax, with our rollouts."""
