"""How a network learns: tasks (Eq. 5, 6), losses (Eq. 3), MAML (Eq. 4), and the loop under every kind of training."""
