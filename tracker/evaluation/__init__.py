"""How well people were followed, against a truth: identities, motion, error bars."""
