"""The networks as torch modules; only training and export import them."""
