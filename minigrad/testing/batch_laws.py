"""Laws of a recurrent cell over rows, lengths, directions and layers: C5 to C9, C11 to C13."""
