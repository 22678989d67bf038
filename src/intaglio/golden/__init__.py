"""The chip's arithmetic in plain NumPy integers; everything downstream is proven equal to it."""
