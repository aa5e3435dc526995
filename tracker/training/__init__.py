"""How the shipped networks are trained: data, augmentation, losses, loops, calibration (torch)."""
