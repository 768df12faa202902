"""The processes: the supervisor, its workers, and what both ask of the operating system."""
