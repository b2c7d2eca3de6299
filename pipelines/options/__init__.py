"""The effect of every option, measured on the shipped emoji set, and the page about them."""
