"""Laws of a recurrent cell's paths of computation, which ought to agree: C15 to C19, C24 to C28."""
