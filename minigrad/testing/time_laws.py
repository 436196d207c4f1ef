"""Laws of a recurrent cell over time: C1 to C4, C10, C14, C20."""
