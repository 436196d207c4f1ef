"""Laws of what is inside a recurrent cell: C21 to C23."""
