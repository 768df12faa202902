"""The processes: the supervisor, its workers, and what they ask of the operating system."""
